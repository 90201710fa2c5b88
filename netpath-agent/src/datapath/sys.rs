//! What the kernel offers and aya does not: a link's device. The only system calls that this crate makes by hand.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use bytemuck::{Pod, Zeroable};
use nix::libc;

/// `BPF_OBJ_GET` of `linux/bpf.h`.
const OBJ_GET: libc::c_int = 7;
/// `BPF_OBJ_GET_INFO_BY_FD` of `linux/bpf.h`.
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
/// `BPF_LINK_TYPE_XDP` of `linux/bpf.h`.
const LINK_TYPE_XDP: u32 = 6;
/// `BPF_LINK_TYPE_TCX` of `linux/bpf.h`.
const LINK_TYPE_TCX: u32 = 11;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct ObjGet {
    path: u64,
    fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` that `BPF_OBJ_GET_INFO_BY_FD` reads.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct InfoByFd {
    fd: u32,
    len: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info`, as far as the members that tcx and XDP links fill. The kernel copies as much
/// as there is room for.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    ifindex: u32,
    attach_type: u32,
    rest: [u64; 8],
}

/// What the kernel knows of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The number of the program behind it.
    pub program: u32,
    /// The device; `None` once that is gone.
    pub ifindex: Option<u32>,
}

/// The link pinned at a path; `None` if nothing is.
///
/// # Errors
/// What the kernel says; `InvalidInput` if something else than a tcx or XDP link is pinned there.
pub fn pinned_link(path: &Path) -> io::Result<Option<LinkInfo>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut get = ObjGet {
        path: path.as_ptr() as u64,
        fd: 0,
        file_flags: 0,
    };
    let fd = match bpf(OBJ_GET, &mut get) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = RawLinkInfo::default();
    let mut by_fd = InfoByFd {
        fd: link.as_raw_fd() as u32,
        len: size_of::<RawLinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut by_fd)?;
    if info.kind != LINK_TYPE_TCX && info.kind != LINK_TYPE_XDP {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this is no link to a device",
        ));
    }
    Ok(Some(LinkInfo {
        program: info.program,
        ifindex: (info.ifindex != 0).then_some(info.ifindex),
    }))
}

/// The system call itself.
fn bpf<T: Pod>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    let attributes: *mut T = attributes;
    // SAFETY: the attributes are laid out as `linux/bpf.h` says for the command, and whatever they point at lives until
    // the call returns. The kernel reads and writes no more than the length it is told.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as libc::c_int)
    }
}
