//! Programs of others on the hooks that netpath has programs on: tcx, clsact and XDP of its devices, and the root cgroup's
//! hooks of sockets.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use aya::programs::{ProgramInfo, loaded_programs};
use aya_obj::generated::bpf_attach_type;
use futures::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkXdp};
use netlink_packet_route::tc::{TcAttribute, TcMessage};
use netpath_common::hook::Hook;
use netpath_common::names::{BRIDGE_DEVICE, OVERLAY_DEVICE};
use nix::net::if_::if_nametoindex;
use tracing::debug;

use super::{Finding, Scene, told};
use crate::datapath::{cgroup, pins::Pins, sys, sys::query};
use crate::net::Netlink;

/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS` of `linux/bpf.h`.
const TCX: [(u32, &str); 2] = [(46, "tcx ingress"), (47, "tcx egress")];

/// A program on a hook.
struct OnHook {
    /// The hook, with its device or cgroup.
    hook: String,
    /// Whether several nodes may have it: that of a cgroup, in a lab on one machine.
    shared: bool,
    /// The program's number.
    program: u32,
}

/// Every program that is not netpath's.
pub(super) async fn find(netlink: &Netlink, scene: &Scene<'_>) -> Vec<Finding> {
    let mut found: Vec<OnHook> = Vec::new();
    let of_device = |hook: String, program| OnHook {
        hook,
        shared: false,
        program,
    };
    let devices = [Some(BRIDGE_DEVICE), Some(OVERLAY_DEVICE), scene.uplink];
    let mut findings = Vec::new();
    for device in devices.into_iter().flatten() {
        let Ok(index) = if_nametoindex(device) else { continue };
        for (attach_type, hook) in TCX {
            let programs = told("tcx", query::programs_on_device(index, attach_type));
            let here = |program| of_device(format!("{hook} of {device}"), program);
            found.extend(programs.into_iter().map(here));
        }
        let xdp = told("XDP", xdp(netlink, device).await);
        found.extend(xdp.map(|program| of_device(format!("XDP of {device}"), program)));
        findings.extend(clsact(netlink, index, device).await);
    }
    if let Some(root) = scene.cgroup
        && let Ok(cgroup) = File::open(root)
    {
        for hook in cgroup::hooks() {
            let Some(call) = cgroup::call(hook) else { continue };
            // A hierarchy of version 1 has none.
            let programs = query::programs_on_cgroup(cgroup.as_fd(), bpf_attach_type::from(call) as u32);
            let here = |program| OnHook {
                hook: format!("cgroup {}, {}", root.display(), hook.name()),
                shared: true,
                program,
            };
            found.extend(programs.unwrap_or_default().into_iter().map(here));
        }
    }
    let ours = ours(scene.pins);
    found.retain(|found| !ours.contains(&found.program));
    if found.is_empty() {
        return findings;
    }
    let names: Vec<(u32, String)> = loaded_programs()
        .filter_map(Result::ok)
        .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
        .collect();
    findings.extend(found.into_iter().filter_map(|found| {
        let id = found.program;
        let name = names.iter().find(|(other, name)| *other == id && !name.is_empty());
        let name = name.map(|(_, name)| name.as_str());
        if found.shared && name.is_some_and(is_netpaths) {
            return None;
        }
        let hook = found.hook;
        let program = name.map_or_else(|| format!("number {id}"), |name| format!("{name} (number {id})"));
        Some(Finding::Program { hook, program })
    }));
    findings
}

/// Whether a program is named as one of netpath's: one cgroup may be that of several nodes, as in a lab on one machine.
fn is_netpaths(name: &str) -> bool {
    /// What the kernel keeps of a program's name, in bytes.
    const KEPT: usize = 15;
    Hook::ALL
        .iter()
        .any(|hook| hook.name().get(..KEPT).unwrap_or(hook.name()) == name)
}

/// The numbers of netpath's programs: those that are pinned, and those behind pinned links, which are others for a moment
/// while programs are exchanged.
fn ours(pins: &Pins) -> BTreeSet<u32> {
    let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let programs =
        entries(&pins.programs_dir()).filter_map(|entry| Some(ProgramInfo::from_pin(entry.path()).ok()?.id()));
    let links = entries(&pins.links_dir()).filter_map(|entry| Some(sys::pinned_link(&entry.path()).ok()??.program));
    programs.chain(links).collect()
}

/// The number of the program on a device's XDP hook.
async fn xdp(netlink: &Netlink, device: &str) -> Result<Option<u32>, rtnetlink::Error> {
    let mut answers = netlink.handle().link().get().match_name(device).execute();
    let message = answers.try_next().await?;
    let attributes = message.into_iter().flat_map(|message| message.attributes);
    let mut xdp = attributes.filter_map(|attribute| match attribute {
        LinkAttribute::Xdp(parts) => Some(parts),
        _ => None,
    });
    Ok(xdp.next().and_then(|parts| {
        parts.into_iter().find_map(|part| match part {
            LinkXdp::ProgId(id) => Some(id),
            _ => None,
        })
    }))
}

/// Filters of clsact: netpath has none, so that any is another's. They run after tcx.
async fn clsact(netlink: &Netlink, index: u32, device: &str) -> Vec<Finding> {
    let Ok(index) = i32::try_from(index) else {
        return Vec::new();
    };
    let filters = |which| {
        let request = netlink.handle().traffic_filter(index).get();
        match which {
            "ingress" => request.ingress(),
            _ => request.egress(),
        }
    };
    let mut findings = Vec::new();
    for which in ["ingress", "egress"] {
        let found: Result<Vec<TcMessage>, _> = filters(which).execute().try_collect().await;
        let found = found.unwrap_or_else(|error| {
            // Mostly there is no clsact at all.
            debug!(%error, device, "no filters of clsact");
            Vec::new()
        });
        let kinds: BTreeSet<String> = found.into_iter().filter_map(kind).collect();
        findings.extend(kinds.into_iter().map(|kind| Finding::Program {
            hook: format!("clsact {which} of {device}"),
            program: format!("a filter of kind {kind}"),
        }));
    }
    findings
}

fn kind(filter: TcMessage) -> Option<String> {
    filter.attributes.into_iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind),
        _ => None,
    })
}
