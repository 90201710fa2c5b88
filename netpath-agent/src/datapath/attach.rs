//! Programs on devices: each link is pinned, so that it outlives whoever made it, and dies with its pin or its device.

use aya::{
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode,
        links::{FdLink, LinkError, PinnedLink},
        tc::TcAttachOptions,
    },
    util::KernelVersion,
};
use aya_obj::programs::XdpAttachType;
use netpath_common::hook::{self, Hook};
use nix::{libc, net::if_::if_nametoindex};

use super::{
    error::{Error, Result, chain, errno},
    pins::{self, Pins},
    sys,
};

/// Where on a device a hook's program of tc sits; `None` for all others.
fn direction(hook: Hook) -> Option<TcAttachType> {
    match hook.kind() {
        hook::Kind::TcIngress => Some(TcAttachType::Ingress),
        hook::Kind::TcEgress => Some(TcAttachType::Egress),
        hook::Kind::Xdp | hook::Kind::Socket => None,
    }
}

/// Attaches a hook's pinned program to a device of this network namespace, before all others there, and pins the link. A
/// link that is alive on the device stays, with the pinned program behind it; one whose device is gone is replaced.
///
/// # Errors
/// [`Error::ProgramMissing`], [`Error::NoDevice`], [`Error::Attach`], [`Error::File`].
pub fn attach(pins: &Pins, hook: Hook, device: &str) -> Result<()> {
    let ifindex = if_nametoindex(device).map_err(|error| Error::NoDevice {
        device: device.to_owned(),
        reason: error.into(),
    })?;
    let mut program = Program::open(pins, hook)?;
    let path = pins.link(device, hook);
    let looked = sys::pinned_link(&path);
    let pinned = looked.map_err(|reason| Error::File {
        action: "look at link",
        path: path.clone(),
        reason,
    })?;
    if let Some(link) = pinned {
        if link.ifindex() == Some(ifindex) {
            if link.program == program.id(device)? {
                return Ok(());
            }
            return replace(pins, hook, device);
        }
        pins::remove(&path)?;
    }
    let link = program.attach(device)?;
    let pin = link
        .pin(&path)
        .map_err(|error| failed("pin the link of", hook, device, &error))?;
    drop(pin);
    Ok(())
}

/// Puts a hook's pinned program behind its pinned link on a device, in one step: no packet passes without a program.
///
/// # Errors
/// [`Error::ProgramMissing`], [`Error::Attach`], also when the link's device is gone.
pub fn replace(pins: &Pins, hook: Hook, device: &str) -> Result<()> {
    let mut program = Program::open(pins, hook)?;
    let link = PinnedLink::from_pin(pins.link(device, hook));
    let link = link.map_err(|error| failed("open the link of", hook, device, &error))?;
    program.take_over(FdLink::from(link), device)
}

/// Takes a hook's program off a device, if it is there.
///
/// # Errors
/// [`Error::File`].
pub fn detach(pins: &Pins, hook: Hook, device: &str) -> Result<bool> {
    pins::remove(&pins.link(device, hook))
}

/// A pinned program.
struct Program {
    hook: Hook,
    kind: Kind,
}

enum Kind {
    Tc(SchedClassifier, TcAttachType),
    Xdp(Xdp),
}

impl Program {
    fn open(pins: &Pins, hook: Hook) -> Result<Self> {
        let path = pins.program(hook);
        let kind = match direction(hook) {
            Some(direction) => SchedClassifier::from_pin(&path).map(|program| Kind::Tc(program, direction)),
            None => Xdp::from_pin(&path, XdpAttachType::Interface).map(Kind::Xdp),
        };
        match kind {
            Ok(kind) => Ok(Self { hook, kind }),
            Err(error) if errno(&error) == Some(libc::ENOENT) => Err(Error::ProgramMissing { hook, path }),
            Err(error) => Err(failed("open", hook, "any device", &error)),
        }
    }

    /// The kernel's number of the program.
    fn id(&self, device: &str) -> Result<u32> {
        let info = match &self.kind {
            Kind::Tc(program, _) => program.info(),
            Kind::Xdp(program) => program.info(),
        };
        Ok(info.map_err(|error| failed("look at", self.hook, device, &error))?.id())
    }

    fn attach(&mut self, device: &str) -> Result<FdLink> {
        let hook = self.hook;
        let refused = |error: ProgramError| failed("attach", hook, device, &error);
        let lost = |error: LinkError| failed("pin the link of", hook, device, &error);
        match &mut self.kind {
            Kind::Tc(program, direction) => {
                let order = TcAttachOptions::TcxOrder(LinkOrder::first());
                let attached = program.attach_with_options(device, *direction, order);
                let link = attached.and_then(|id| program.take_link(id)).map_err(refused)?;
                link.try_into().map_err(lost)
            }
            // Not generic XDP: it is slower than tc, and loses partial checksums.
            Kind::Xdp(program) => {
                let attached = program.attach(device, XdpMode::Driver);
                let link = attached.and_then(|id| program.take_link(id)).map_err(refused)?;
                link.try_into().map_err(lost)
            }
        }
    }

    fn take_over(&mut self, link: FdLink, device: &str) -> Result<()> {
        let hook = self.hook;
        let refused = |error: ProgramError| failed("replace", hook, device, &error);
        let foreign = |error: LinkError| failed("open the link of", hook, device, &error);
        match &mut self.kind {
            Kind::Tc(program, _) => {
                let link = link.try_into().map_err(foreign)?;
                let replaced = program.attach_to_link(link);
                replaced.and_then(|id| program.take_link(id)).map(drop).map_err(refused)
            }
            Kind::Xdp(program) => {
                let link = link.try_into().map_err(foreign)?;
                let replaced = program.attach_to_link(link);
                replaced.and_then(|id| program.take_link(id)).map(drop).map_err(refused)
            }
        }
    }
}

/// An error with what helps against it.
fn failed(action: &'static str, hook: Hook, device: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    let mut reason = chain(error);
    let old = direction(hook).is_some()
        && KernelVersion::current().is_ok_and(|version| version.code() < KernelVersion::new(6, 6, 0).code());
    match errno(error) {
        Some(libc::EPERM | libc::EACCES) => {
            reason.push_str("; this needs root, or the capabilities CAP_BPF and CAP_NET_ADMIN")
        }
        Some(libc::EINVAL) if old => reason.push_str("; links of this kind (tcx) need Linux 6.6 or newer"),
        Some(libc::EOPNOTSUPP) if hook == Hook::FromWireXdp => {
            reason.push_str("; the device's driver has no native XDP: run the agent with --xdp off");
        }
        _ => {}
    }
    Error::Attach {
        action,
        hook,
        device: device.to_owned(),
        reason,
    }
}
