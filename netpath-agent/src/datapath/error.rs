//! What can go wrong on the way into the kernel. Every message names the object and what to do.

use std::{error::Error as StdError, io, path::PathBuf};

use aya::maps::MapError;
use netpath_common::hook::Hook;

/// An error of the datapath. Its text is complete: causes are part of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root for pins is not on a bpf filesystem.
    #[error("{} is not on a bpf filesystem: run `mount -t bpf bpf /sys/fs/bpf`, or name another root with --bpf-root", root.display())]
    NoBpffs {
        /// The root.
        root: PathBuf,
    },
    /// A file or folder below the root.
    #[error("cannot {action} {}: {reason}", path.display())]
    File {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// The build found no eBPF object to embed.
    #[error("this build carries no eBPF programs: run `cargo xtask build-ebpf` and build again")]
    NoObject,
    /// The embedded object is not what it ought to be.
    #[error("the eBPF object of this build cannot be used: {reason}; run `cargo xtask build-ebpf` and build again")]
    BadObject {
        /// What is wrong with it.
        reason: String,
    },
    /// The kernel lacks something.
    #[error("netpath cannot run here: {what}")]
    Kernel {
        /// What it lacks, and since when others have it.
        what: String,
    },
    /// The kernel refused maps or programs.
    #[error("cannot load {what} into the kernel: {reason}")]
    Load {
        /// The program's or map's name.
        what: String,
        /// Why not, and what helps.
        reason: String,
    },
    /// What an old map holds does not fit into its successor.
    #[error("map {map} holds {held} entries and would have room for {entries}: set {setting} to {held} or more")]
    TooSmall {
        /// The map's name.
        map: &'static str,
        /// How many entries it holds.
        held: usize,
        /// How many it is to have room for.
        entries: u32,
        /// The setting.
        setting: &'static str,
    },
    /// A map that ought to be pinned is not.
    #[error("map {map} is not pinned at {}: start netpath-agent on this node, which creates it", path.display())]
    MapMissing {
        /// The map's name.
        map: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A map takes no further entry.
    #[error("map {map} is full with {entries} entries: raise {setting} and restart netpath-agent")]
    MapFull {
        /// The map's name.
        map: &'static str,
        /// How many entries it has room for.
        entries: u32,
        /// The setting that raises it.
        setting: &'static str,
    },
    /// The kernel refused an operation on a map.
    #[error("cannot {action} map {map} at {}: {reason}", path.display())]
    Map {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// The map's name.
        map: &'static str,
        /// Where it is pinned.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A program that ought to be pinned is not.
    #[error("program {} is not pinned at {}: start netpath-agent on this node, which loads it", hook.name(), path.display())]
    ProgramMissing {
        /// The program's hook.
        hook: Hook,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A device does not exist in this network namespace.
    #[error("there is no device {device}: {reason}")]
    NoDevice {
        /// The device's name.
        device: String,
        /// What the kernel said.
        reason: io::Error,
    },
    /// There is no cgroup whose sockets could be served.
    #[error(
        "{reason}: the node's own processes reach services' addresses through the bridge alone, and no NodePort or hostPort on \
         the node's own addresses; mount the machine's cgroup2 here, or name it with --cgroup-root"
    )]
    NoCgroup {
        /// What was found instead.
        reason: String,
    },
    /// The kernel refused to list the node's sockets, or to end one.
    #[error("cannot {action} the node's UDP sockets: {source}")]
    Sockets {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel refused an operation on a program or its link.
    #[error("cannot {action} program {} on {device}: {reason}", hook.name())]
    Attach {
        /// What was tried, as an infinitive.
        action: &'static str,
        /// The program's hook.
        hook: Hook,
        /// The device's name, or the cgroup's.
        device: String,
        /// Why not, and what helps.
        reason: String,
    },
}

/// The result of an operation of the datapath.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error's text with those of all its causes.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The system call's error behind an error of aya, if there is one.
pub fn errno(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = match error.downcast_ref::<MapError>() {
            // Its text stands for the inner error's, and so it skips that one in the chain of causes.
            Some(MapError::IoError(error)) => Some(error),
            _ => error.downcast_ref::<io::Error>(),
        };
        if let Some(code) = io.and_then(io::Error::raw_os_error) {
            return Some(code);
        }
        cause = error.source();
    }
    None
}
