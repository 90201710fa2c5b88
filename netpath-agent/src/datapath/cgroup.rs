//! The programs on sockets' calls: where the machine's cgroups are, and the links to their root. Each link is pinned, as
//! those on devices are, and the sockets of every cgroup below come past it.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use aya::programs::{
    CgroupAttachMode, CgroupSockAddr, CgroupSockAddrAttachType, ProgramError,
    links::{FdLink, LinkError},
};
use netpath_common::{
    hook::{Hook, Kind},
    names::CGROUP,
};
use nix::{
    libc,
    sys::statfs::{CGROUP2_SUPER_MAGIC, statfs},
};

use super::{
    error::{Error, Result, chain, errno},
    pins::{self, Pins},
    sys::{self, Place},
};

/// The hooks of sockets.
pub fn hooks() -> impl Iterator<Item = Hook> {
    let all = Hook::ALL.iter().copied();
    all.filter(|hook| hook.kind() == Kind::Socket)
}

/// The inode of the machine's root: the kernel numbers cgroups from there.
const ROOT_INODE: u64 = 1;

/// The call that a hook's program is for; `None` for the hooks of packets.
pub fn call(hook: Hook) -> Option<CgroupSockAddrAttachType> {
    match hook {
        Hook::Connect4 => Some(CgroupSockAddrAttachType::Connect4),
        Hook::Sendmsg4 => Some(CgroupSockAddrAttachType::UDPSendMsg4),
        Hook::Recvmsg4 => Some(CgroupSockAddrAttachType::UDPRecvMsg4),
        Hook::Getpeername4 => Some(CgroupSockAddrAttachType::GetPeerName4),
        Hook::Connect6 => Some(CgroupSockAddrAttachType::Connect6),
        Hook::Sendmsg6 => Some(CgroupSockAddrAttachType::UDPSendMsg6),
        Hook::Recvmsg6 => Some(CgroupSockAddrAttachType::UDPRecvMsg6),
        Hook::Getpeername6 => Some(CgroupSockAddrAttachType::GetPeerName6),
        Hook::FromPod | Hook::FromOverlay | Hook::FromWire | Hook::ToWire | Hook::FromHost | Hook::FromWireXdp => None,
    }
}

/// The folder of the cgroup whose sockets are served: the one that is named, or the highest cgroup2 that is mounted: the
/// machine's root if it is.
///
/// # Errors
/// [`Error::NoCgroup`].
pub fn root(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = named {
        return match statfs(path).map(|found| found.filesystem_type()) {
            Ok(CGROUP2_SUPER_MAGIC) => Ok(path.to_owned()),
            Ok(_) => Err(no_cgroup(format!("{} is no cgroup2", path.display()))),
            Err(error) => Err(no_cgroup(format!("{}: {}", path.display(), error.desc()))),
        };
    }
    const MOUNTS: &str = "/proc/self/mountinfo";
    let mounts = fs::read_to_string(MOUNTS).map_err(|reason| Error::File {
        action: "read",
        path: MOUNTS.into(),
        reason,
    })?;
    let mut found = mounted(&mounts);
    let is_root = |mount: &Mount| fs::metadata(&mount.point).is_ok_and(|folder| folder.ino() == ROOT_INODE);
    found.sort_by_key(|mount| (!is_root(mount), !mount.outer));
    let first = found.into_iter().next();
    first.map_or_else(
        || Err(no_cgroup("no cgroup2 is mounted".to_owned())),
        |mount| Ok(mount.point),
    )
}

fn no_cgroup(reason: String) -> Error {
    Error::NoCgroup { reason }
}

/// A mount of cgroup2.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    point: PathBuf,
    /// Its root is above this process's cgroup namespace: in a container, what was mounted from outside of it.
    outer: bool,
}

/// Where cgroup2 is mounted, by the lines of a `mountinfo` (proc_pid_mountinfo(5)): root and mount point are the fourth and
/// fifth field, the filesystem's type the first after a lone dash.
fn mounted(mounts: &str) -> Vec<Mount> {
    let of_line = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let mount = Mount {
            outer: fields.next()?.starts_with("/.."),
            point: PathBuf::from(unescaped(fields.next()?)),
        };
        (filesystem.split(' ').next() == Some("cgroup2")).then_some(mount)
    };
    mounts.lines().filter_map(of_line).collect()
}

/// A path without the octal escapes that stand for white space and backslashes in it.
fn unescaped(field: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, character)| {
            text.replace(escape, character)
        })
}

/// Attaches a hook's pinned program to a cgroup, beside those of others, and pins the link. A link that is alive there stays,
/// with the pinned program behind it; one to another cgroup is replaced.
///
/// # Errors
/// [`Error::ProgramMissing`], [`Error::Attach`], [`Error::File`].
pub fn attach(pins: &Pins, hook: Hook, folder: &Path) -> Result<()> {
    let device = format!("cgroup {}", folder.display());
    let failed = |action, error: &(dyn std::error::Error + 'static)| failed(action, hook, device.clone(), error);
    let opened = File::open(folder).and_then(|file| Ok((file.metadata()?.ino(), file)));
    let (id, cgroup) = opened.map_err(|error| failed("attach", &error))?;
    let mut program = open(pins, hook)?;
    let path = pins.link(CGROUP, hook);
    let pinned = sys::pinned_link(&path).map_err(|reason| Error::File {
        action: "look at link",
        path: path.clone(),
        reason,
    })?;
    if let Some(link) = pinned {
        if link.place == Some(Place::Cgroup(id)) {
            let wanted = program.info().map_err(|error| failed("look at", &error))?.id();
            if link.program == wanted {
                return Ok(());
            }
            return replace(pins, hook);
        }
        pins::remove(&path)?;
    }
    // The mode is for attachments without a link: with one, others always have room beside it.
    let attached = program
        .attach(&cgroup, CgroupAttachMode::default())
        .and_then(|id| program.take_link(id));
    let link = attached.map_err(|error| failed("attach", &error))?;
    let lost = |error: LinkError| failed("pin the link of", &error);
    let link: FdLink = link.try_into().map_err(lost)?;
    link.pin(&path)
        .map(drop)
        .map_err(|error| failed("pin the link of", &error))
}

/// Puts a hook's pinned program behind its pinned link, in one step: no call passes without a program.
///
/// # Errors
/// [`Error::ProgramMissing`], [`Error::Attach`], also when the link's cgroup is gone.
pub fn replace(pins: &Pins, hook: Hook) -> Result<()> {
    let program = open(pins, hook)?;
    let failed = |error: &(dyn std::error::Error + 'static)| failed("replace", hook, CGROUP.to_owned(), error);
    let program = program.fd().map_err(|error| failed(&error))?;
    let program = std::os::fd::AsFd::as_fd(program);
    sys::update_link(&pins.link(CGROUP, hook), program).map_err(|error| failed(&error))
}

/// A hook's pinned program.
fn open(pins: &Pins, hook: Hook) -> Result<CgroupSockAddr> {
    let path = pins.program(hook);
    let opened = match call(hook) {
        Some(call) => CgroupSockAddr::from_pin(&path, call),
        None => Err(ProgramError::UnexpectedProgramType),
    };
    opened.map_err(|error| match errno(&error) {
        Some(libc::ENOENT) => Error::ProgramMissing { hook, path },
        _ => failed("open", hook, CGROUP.to_owned(), &error),
    })
}

/// An error with what helps against it.
fn failed(action: &'static str, hook: Hook, device: String, error: &(dyn std::error::Error + 'static)) -> Error {
    let mut reason = chain(error);
    match errno(error) {
        Some(libc::EPERM | libc::EACCES) => {
            reason.push_str(
                "; this needs root, or the capabilities CAP_BPF and CAP_NET_ADMIN; a program of others that is \
                             attached there alone also forbids it",
            );
        }
        Some(libc::E2BIG) => reason.push_str("; the kernel takes 64 programs for a call: others must make room"),
        _ => {}
    }
    Error::Attach {
        action,
        hook,
        device,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_type() {
        let mounts = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
42 31 0:38 /../.. /mnt/with\\040space\\134 rw - cgroup2 none rw
43 31 0:39 / /mnt/cgroup2 rw - ext4 cgroup2 rw
";
        let mount = |point: &str, outer| Mount {
            point: point.into(),
            outer,
        };
        assert_eq!(
            mounted(mounts),
            [mount("/sys/fs/cgroup/unified", false), mount("/mnt/with space\\", true)]
        );
        assert_eq!(mounted("nonsense\n\n - cgroup2\n1 2 3 - cgroup2"), []);
    }

    #[test]
    fn a_named_folder_must_be_a_cgroup() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = root(Some(folder.path())).expect_err("no cgroup").to_string();
        let (path, remedy) = (folder.path().display().to_string(), "--cgroup-root");
        assert!(
            error.contains(&format!("{path} is no cgroup2")) && error.contains(remedy),
            "{error}"
        );
        let gone = folder.path().join("gone");
        let error = root(Some(&gone)).expect_err("nothing there").to_string();
        assert!(error.contains("No such file or directory"), "{error}");
    }
}
