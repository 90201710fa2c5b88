//! Which programs are on a hook, also others' (`BPF_PROG_QUERY`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use bytemuck::{Pod, Zeroable};
use nix::libc;

use super::bpf;

/// `BPF_PROG_QUERY` of `linux/bpf.h`.
const PROG_QUERY: libc::c_int = 16;

/// The part of `union bpf_attr` that `BPF_PROG_QUERY` reads and writes, whole: the kernel writes the last field of it
/// whatever length it is told.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    padding: u32,
    program_attach_flags: u64,
    links: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The numbers of the programs on a device's hook, in their order; `attach_type` as in `enum bpf_attach_type` (tcx).
///
/// # Errors
/// What the kernel says: `InvalidInput` before Linux 6.6.
pub fn programs_on_device(ifindex: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    programs_on(ifindex, attach_type)
}

/// The numbers of the programs on a hook of a cgroup of version 2, in their order; `attach_type` as in
/// `enum bpf_attach_type`.
///
/// # Errors
/// What the kernel says: `EBADF` if it is no such cgroup.
pub fn programs_on_cgroup(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    programs_on(cgroup.as_raw_fd() as u32, attach_type)
}

/// A hook takes at most 64 programs.
fn programs_on(target: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut programs = [0_u32; 64];
    let mut query = Query {
        target,
        attach_type,
        programs: programs.as_mut_ptr() as u64,
        count: programs.len() as u32,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query)?;
    let count = programs.len().min(query.count as usize);
    Ok(programs[..count].to_vec())
}
