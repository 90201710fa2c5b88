//! Programs and maps into the kernel, and the running ones exchanged for them. Everything is made ready beside what runs;
//! only then do pins and links move over, each in one step. Whatever fails before leaves all as it was.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use aya::{
    Ebpf, EbpfLoader,
    maps::MapData,
    programs::{Program, ProgramError},
};
use netpath_common::{
    abi::ABI_VERSION,
    hook::{Hook, Kind},
    names,
};
use nix::libc;

use super::{
    attach,
    carry::{self, Carry},
    cgroup,
    error::{Error, Result, chain, errno},
    object::{self, Layout},
    packet_log::PacketLog,
    pins::{self, Pins},
    requirements,
    sizes::{self, Sizes},
    staged::Staged,
    sys,
};

pub use super::object::object;

/// The programs that every node runs. XDP is for cards whose driver runs it natively.
pub fn hooks() -> Vec<Hook> {
    let all = Hook::ALL.iter().copied();
    all.filter(|hook| hook.kind() != Kind::Xdp).collect()
}

/// What loading did, for the log.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Maps that were pinned already and serve on.
    pub adopted: Vec<&'static str>,
    /// Maps that are new, each with how many entries came over from its predecessor.
    pub created: Vec<(&'static str, usize)>,
    /// Adopted maps that have another size than the one that is set.
    pub kept: Vec<Kept>,
    /// Links that have a new program behind them.
    pub replaced: usize,
    /// Links whose device or cgroup is gone, or whose program is no longer wanted: their pins are removed.
    pub dropped: Vec<(String, Hook)>,
    /// Programs and links of hooks that this version does not have: their pins are removed.
    pub outdated: Vec<PathBuf>,
    /// What went wrong after the programs had changed: the rest went on.
    pub problems: Vec<Error>,
    /// What the programs log of packets, if they were built for it.
    pub packet_log: Option<PacketLog>,
}

/// A map that keeps its size. Programs write to it, and a packet may pass an old program on its way out and a new one on
/// its way back while the links move over one by one: were there two maps, the answer would find nothing known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The map's name.
    pub map: &'static str,
    /// How many entries it has room for.
    pub entries: u32,
    /// How many it is set to have room for.
    pub wanted: u32,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { map, entries, wanted } = self;
        let setting = sizes::setting(map);
        write!(
            f,
            "map {map} keeps its room for {entries} entries, since programs write to it: {setting} {wanted} takes effect when \
             the node starts again, or after `netpath uninstall`"
        )
    }
}

/// Programs and maps that the kernel has accepted, beside those in force. Dropped, they go again.
#[derive(Debug)]
pub struct Ready {
    pins: Pins,
    hooks: Vec<Hook>,
    layouts: BTreeMap<&'static str, Layout>,
    staged: Staged,
    fresh: Vec<Fresh>,
    loaded: Loaded,
}

/// Loads the embedded programs and puts them in force, without XDP.
///
/// # Errors
/// As [`prepare`], [`Ready::commit`], and [`Error::NoObject`].
pub fn load(pins: &Pins, sizes: &Sizes) -> Result<Loaded> {
    prepare(object()?, pins, sizes, hooks())?.commit()
}

/// As [`load`], the program for XDP included.
///
/// # Errors
/// As [`load`].
pub fn load_with_xdp(pins: &Pins, sizes: &Sizes) -> Result<Loaded> {
    prepare(object()?, pins, sizes, Hook::ALL.to_vec())?.commit()
}

/// Loads the programs of some hooks from an object, and creates the maps, or opens those that are pinned if their layout is
/// the same; maps that programs write to whatever their size, see [`Kept`]. This takes as long as the kernel's verifier
/// does, and may be broken off at any point: what runs does not change.
///
/// # Errors
/// [`Error::Kernel`], [`Error::NoBpffs`], [`Error::BadObject`], [`Error::Load`], [`Error::Map`], [`Error::File`].
pub fn prepare(object: &[u8], pins: &Pins, sizes: &Sizes, hooks: Vec<Hook>) -> Result<Ready> {
    requirements::check()?;
    pins.prepare()?;
    let mut ready = Ready {
        pins: pins.clone(),
        hooks,
        layouts: object::layouts(object, sizes)?,
        staged: Staged::begin(pins)?,
        fresh: Vec::new(),
        loaded: Loaded::default(),
    };
    let mut ebpf = ready.load_maps(object)?;
    for hook in &ready.hooks {
        load_program(&mut ebpf, *hook, pins, &mut ready.staged)?;
    }
    ready.loaded.packet_log = PacketLog::of(&mut ebpf)?;
    Ok(ready)
}

impl Ready {
    /// Carries what old maps hold to new ones, gives all pins their places, and puts the new programs behind the links that
    /// are pinned. Programs of other hooks go.
    ///
    /// # Errors
    /// [`Error::TooSmall`], [`Error::Map`], [`Error::File`]. What ran before runs on.
    pub fn commit(mut self) -> Result<Loaded> {
        let mut carries = Vec::new();
        for (name, old) in self.fresh {
            let new = Staged::name(&self.pins.map(name));
            let carry = old.map(|old| Carry::begin(name, old, &new, self.layouts[name]));
            carries.push((name, carry.transpose()?));
        }
        self.staged.commit()?;
        let mut loaded = self.loaded;
        exchange(&self.pins, &self.hooks, &mut loaded);
        for (name, carry) in carries {
            loaded.created.push((name, carry.as_ref().map_or(0, Carry::len)));
            loaded.problems.extend(carry.and_then(|carry| carry.finish().err()));
        }
        Ok(loaded)
    }

    /// Creates the maps, or opens those that can serve on.
    fn load_maps(&mut self, object: &[u8]) -> Result<Ebpf> {
        let mut loader = EbpfLoader::new();
        let same_version = matches!(pinned_version(&self.pins)?, None | Some(0 | ABI_VERSION));
        for (name, layout) in &self.layouts {
            let path = self.pins.map(name);
            match carry::pinned_layout(name, &path)? {
                Some((_, found)) if same_version && carry::serves_on(&found, layout) => {
                    loader.map_max_entries(name, found.entries).map_pin_path(name, path);
                    self.loaded.adopted.push(name);
                    if found.entries != layout.entries {
                        self.loaded.kept.push(Kept {
                            map: name,
                            entries: found.entries,
                            wanted: layout.entries,
                        });
                    }
                }
                found => {
                    let beside = self.staged.beside(&path);
                    loader.map_max_entries(name, layout.entries).map_pin_path(name, beside);
                    let old = found.filter(|(_, found)| carry::is_successor(found, layout));
                    self.fresh.push((*name, old.map(|(data, _)| data)));
                }
            }
        }
        loader.load(object).map_err(|error| Error::Load {
            what: "the maps".to_owned(),
            reason: explain(&error),
        })
    }
}

/// A map that is to be replaced, with what it holds if that means the same to its successor.
type Fresh = (&'static str, Option<MapData>);

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
    // Every version of an entry begins with its number, which is 0 in the one that is not in force.
    let versions = entries.values.chunks_exact(layout.value as usize);
    let versions = versions.filter_map(|entry| entry.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)));
    Ok(versions.max())
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
    let beside = staged.beside(&pins.program(hook));
    match (hook.kind(), ebpf.program_mut(hook.name())) {
        (_, None) => return Err(wrong("is missing")),
        (Kind::Xdp, Some(Program::Xdp(program))) => {
            program.load().map_err(refused)?;
            program.pin(&beside)
        }
        (Kind::Socket, Some(Program::CgroupSockAddr(program))) => {
            program.load().map_err(refused)?;
            program.pin(&beside)
        }
        (Kind::TcIngress | Kind::TcEgress, Some(Program::SchedClassifier(program))) => {
            program.load().map_err(refused)?;
            program.pin(&beside)
        }
        (Kind::Xdp, Some(_)) => return Err(wrong("is not for XDP")),
        (Kind::Socket, Some(_)) => return Err(wrong("is not for sockets")),
        (Kind::TcIngress | Kind::TcEgress, Some(_)) => return Err(wrong("is not for tc")),
    }
    .map_err(|error| Error::Load {
        what: format!("program {} for good", hook.name()),
        reason: explain(&error),
    })
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
            Ok(link) => link.is_some_and(|link| link.place.is_some()),
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
            let replaced = match cgroup::call(hook) {
                Some(_) => cgroup::replace(pins, hook),
                None => attach::replace(pins, hook, &device),
            };
            replaced.map(|()| loaded.replaced += 1)
        } else {
            pins::remove(&path).map(|_| loaded.dropped.push((device, hook)))
        };
        loaded.problems.extend(done.err());
    }
    for hook in Hook::ALL.iter().filter(|hook| !hooks.contains(hook)) {
        loaded.problems.extend(pins::remove(&pins.program(*hook)).err());
    }
    match pins.of_other_versions() {
        Ok(paths) => {
            for path in paths {
                match pins::remove(&path) {
                    Ok(_) => loaded.outdated.push(path),
                    Err(error) => loaded.problems.push(error),
                }
            }
        }
        Err(error) => loaded.problems.push(error),
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
