//! Programs and maps into the kernel, and the running ones exchanged for them. Everything is made ready beside what runs;
//! only then do pins and links move over, each in one step. Whatever fails before leaves all as it was.

use std::collections::BTreeMap;

use aya::{
    Ebpf, EbpfLoader,
    maps::MapData,
    programs::{Program, ProgramError},
};
use netpath_common::{abi::ABI_VERSION, hook::Hook, names};
use nix::libc;

use super::{
    attach,
    carry::{self, Carry},
    error::{Error, Result, chain, errno},
    object::{self, Layout},
    pins::{self, Pins},
    requirements,
    sizes::Sizes,
    staged::Staged,
    sys,
};

pub use super::object::object;

/// The programs that every node runs. XDP is for cards whose driver runs it natively.
pub const HOOKS: &[Hook] = &[
    Hook::FromPod,
    Hook::ToPod,
    Hook::FromOverlay,
    Hook::FromWire,
    Hook::ToWire,
    Hook::FromHost,
];

/// What loading did, for the log.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Maps that were pinned already and serve on.
    pub adopted: Vec<&'static str>,
    /// Maps that are new, each with how many entries came over from its predecessor.
    pub created: Vec<(&'static str, usize)>,
    /// Links that have a new program behind them.
    pub replaced: usize,
    /// Links whose device is gone, or whose program is no longer wanted: their pins are removed.
    pub dropped: Vec<(String, Hook)>,
    /// What went wrong after the programs had changed: the rest went on.
    pub problems: Vec<Error>,
}

/// Loads the embedded programs, for tc alone.
///
/// # Errors
/// As [`load_object`], and [`Error::NoObject`].
pub fn load(pins: &Pins, sizes: &Sizes) -> Result<Loaded> {
    load_object(object()?, pins, sizes, HOOKS)
}

/// Loads the embedded programs, the one for XDP included.
///
/// # Errors
/// As [`load_object`], and [`Error::NoObject`].
pub fn load_with_xdp(pins: &Pins, sizes: &Sizes) -> Result<Loaded> {
    load_object(object()?, pins, sizes, Hook::ALL)
}

/// Loads the programs of some hooks from an object; creates the maps, or adopts those that are pinned if their layout is
/// the same, or carries what they hold to new ones; pins all; and puts the new programs behind the links that are pinned.
/// Programs of other hooks go.
///
/// # Errors
/// [`Error::Kernel`], [`Error::NoBpffs`], [`Error::BadObject`], [`Error::Load`], [`Error::TooSmall`], [`Error::Map`],
/// [`Error::File`]. What ran before runs on.
pub fn load_object(object: &[u8], pins: &Pins, sizes: &Sizes, hooks: &[Hook]) -> Result<Loaded> {
    requirements::check()?;
    pins.prepare()?;
    let wanted = object::layouts(object, sizes)?;
    let mut loaded = Loaded::default();
    let mut staged = Staged::default();
    let (mut ebpf, fresh) = load_maps(object, pins, &wanted, &mut staged, &mut loaded)?;
    for hook in hooks {
        load_program(&mut ebpf, *hook, pins, &mut staged)?;
    }
    let carries = fresh
        .into_iter()
        .map(|(name, old)| begin(name, old, pins, wanted[name]));
    let carries: Vec<(&'static str, Option<Carry>)> = carries.collect::<Result<_>>()?;
    staged.commit()?;
    exchange(pins, hooks, &mut loaded);
    for (name, carry) in carries {
        loaded.created.push((name, carry.as_ref().map_or(0, Carry::len)));
        loaded.problems.extend(carry.and_then(|carry| carry.finish().err()));
    }
    Ok(loaded)
}

/// A map that is to be replaced, with what it holds if that means the same to its successor.
type Fresh = (&'static str, Option<MapData>);

/// Creates the maps, or opens those that can serve on.
fn load_maps(
    object: &[u8],
    pins: &Pins,
    wanted: &BTreeMap<&'static str, Layout>,
    staged: &mut Staged,
    loaded: &mut Loaded,
) -> Result<(Ebpf, Vec<Fresh>)> {
    let mut loader = EbpfLoader::new();
    let mut fresh = Vec::new();
    let same_version = matches!(pinned_version(pins)?, None | Some(0 | ABI_VERSION));
    for (name, layout) in wanted {
        let path = pins.map(name);
        loader.map_max_entries(name, layout.entries);
        match carry::pinned_layout(name, &path)? {
            Some((_, found)) if found == *layout && same_version => {
                loader.map_pin_path(name, path);
                loaded.adopted.push(name);
            }
            found => {
                loader.map_pin_path(name, staged.beside(&path)?);
                let old = found.filter(|(_, found)| carry::is_successor(found, layout));
                fresh.push((*name, old.map(|(data, _)| data)));
            }
        }
    }
    let ebpf = loader.load(object).map_err(|error| Error::Load {
        what: "the maps".to_owned(),
        reason: explain(&error),
    })?;
    Ok((ebpf, fresh))
}

/// The version of the layouts that the pinned maps have; `None` if no configuration is pinned.
fn pinned_version(pins: &Pins) -> Result<Option<u32>> {
    let path = pins.map(names::CONFIG);
    let Some((data, layout)) = carry::pinned_layout(names::CONFIG, &path)? else {
        return Ok(None);
    };
    let entries = sys::dump(
        std::os::fd::AsFd::as_fd(data.fd()),
        layout.key as usize,
        layout.value as usize,
    );
    let entries = entries.map_err(|error| Error::Map {
        action: "read",
        map: names::CONFIG,
        path,
        reason: error.to_string(),
    })?;
    // Every version of the entry begins with its number.
    Ok(entries.values.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)))
}

/// Loads a hook's program and pins it beside the one in force.
fn load_program(ebpf: &mut Ebpf, hook: Hook, pins: &Pins, staged: &mut Staged) -> Result<()> {
    let refused = |error: ProgramError| Error::Load {
        what: format!("program {}", hook.name()),
        reason: explain(&error),
    };
    let wrong = |what: &str| Error::BadObject {
        reason: format!("program {} {what}", hook.name()),
    };
    let beside = staged.beside(&pins.program(hook))?;
    match (hook, ebpf.program_mut(hook.name())) {
        (_, None) => return Err(wrong("is missing")),
        (Hook::FromWireXdp, Some(Program::Xdp(program))) => {
            program.load().map_err(refused)?;
            program.pin(&beside)
        }
        (Hook::FromWireXdp, Some(_)) => return Err(wrong("is not for XDP")),
        (_, Some(Program::SchedClassifier(program))) => {
            program.load().map_err(refused)?;
            program.pin(&beside)
        }
        (_, Some(_)) => return Err(wrong("is not for tc")),
    }
    .map_err(|error| Error::Load {
        what: format!("program {} for good", hook.name()),
        reason: explain(&error),
    })
}

/// Carries over what the old map holds, if there is one.
fn begin(
    name: &'static str,
    old: Option<MapData>,
    pins: &Pins,
    layout: Layout,
) -> Result<(&'static str, Option<Carry>)> {
    let new = Staged::name(&pins.map(name));
    let carry = old.map(|old| Carry::begin(name, old, &new, layout));
    Ok((name, carry.transpose()?))
}

/// Puts the pinned programs behind the pinned links, and clears away what has no device or no program any more.
fn exchange(pins: &Pins, hooks: &[Hook], loaded: &mut Loaded) {
    let links = pins.links().unwrap_or_else(|error| {
        loaded.problems.push(error);
        Vec::new()
    });
    for (device, hook) in links {
        let path = pins.link(&device, hook);
        let alive = match sys::pinned_link(&path) {
            Ok(link) => link.is_some_and(|link| link.ifindex.is_some()),
            Err(reason) => {
                let error = Error::File {
                    action: "look at link",
                    path,
                    reason,
                };
                loaded.problems.push(error);
                continue;
            }
        };
        let done = if alive && hooks.contains(&hook) {
            attach::replace(pins, hook, &device).map(|()| loaded.replaced += 1)
        } else {
            pins::remove(&path).map(|_| loaded.dropped.push((device, hook)))
        };
        loaded.problems.extend(done.err());
    }
    for hook in Hook::ALL.iter().filter(|hook| !hooks.contains(hook)) {
        loaded.problems.extend(pins::remove(&pins.program(*hook)).err());
    }
}

/// An error's text, with what helps; of a verifier's log the end, where its verdict stands.
fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    const LINES: usize = 12;
    let text = chain(error);
    let lines: Vec<&str> = text.lines().collect();
    let mut text = match lines.as_slice() {
        [first, .., _] if lines.len() > LINES + 1 => {
            let end = &lines[lines.len() - LINES..];
            format!("{first}\n…\n{}", end.join("\n"))
        }
        _ => text,
    };
    match errno(error) {
        Some(libc::EPERM) => text.push_str("; this needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"),
        Some(libc::ENOMEM) => text.push_str("; there is no memory for maps of these sizes: lower the settings --max-*"),
        _ => {}
    }
    text
}
