//! What the kernel offers and aya does not: where a link leads, another program behind a cgroup's, a network namespace's cookie,
//! and maps read and written in bulk. The only system calls that this crate makes by hand.

pub mod query;

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use bytemuck::{Pod, Zeroable};
use nix::libc;

/// `BPF_MAP_DELETE_ELEM` of `linux/bpf.h`.
const MAP_DELETE_ELEM: libc::c_int = 3;
/// `BPF_OBJ_GET` of `linux/bpf.h`.
const OBJ_GET: libc::c_int = 7;
/// `BPF_OBJ_GET_INFO_BY_FD` of `linux/bpf.h`.
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
/// `BPF_MAP_LOOKUP_BATCH` of `linux/bpf.h`.
const MAP_LOOKUP_BATCH: libc::c_int = 24;
/// `BPF_MAP_UPDATE_BATCH` of `linux/bpf.h`.
const MAP_UPDATE_BATCH: libc::c_int = 26;
/// `BPF_LINK_UPDATE` of `linux/bpf.h`.
const LINK_UPDATE: libc::c_int = 29;
/// Entries asked for at a time: few enough to keep the buffers small, enough to make the calls' own cost vanish.
const CHUNK: usize = 4096;
/// Room for the kernel's mark of where a walk stands: a bucket's number, or a key.
const MARK: usize = 64;
/// `BPF_LINK_TYPE_CGROUP` of `linux/bpf.h`.
const LINK_TYPE_CGROUP: u32 = 3;
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

/// The part of `union bpf_attr` that `BPF_LINK_UPDATE` reads.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// The part of `union bpf_attr` that the commands for one element read.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that the batch commands read.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// The beginning of `struct bpf_link_info`, as far as the members that tcx, XDP and cgroup links fill. The kernel copies as
/// much as there is room for.
#[derive(Clone, Copy, Default, Pod, Zeroable)]
#[repr(C)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    /// tcx and XDP: the interface's index in the first half; cgroup: its number.
    place: [u32; 2],
    rest: [u64; 8],
}

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A device, by its index.
    Device(u32),
    /// A cgroup, by its number, which is also its folder's inode.
    Cgroup(u64),
}

/// What the kernel knows of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The number of the program behind it.
    pub program: u32,
    /// The device or cgroup; `None` once that is gone.
    pub place: Option<Place>,
}

impl LinkInfo {
    /// The device's index, if the link leads to one that is there.
    pub fn ifindex(&self) -> Option<u32> {
        match self.place {
            Some(Place::Device(ifindex)) => Some(ifindex),
            _ => None,
        }
    }
}

/// The link pinned at a path; `None` if nothing is.
///
/// # Errors
/// What the kernel says; `InvalidInput` if something else than a tcx, XDP or cgroup link is pinned there.
pub fn pinned_link(path: &Path) -> io::Result<Option<LinkInfo>> {
    let Some(link) = open_pinned(path)? else {
        return Ok(None);
    };
    let mut info = RawLinkInfo::default();
    let mut by_fd = InfoByFd {
        fd: link.as_raw_fd() as u32,
        len: size_of::<RawLinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut by_fd)?;
    let [ifindex, _] = info.place;
    let cgroup: u64 = bytemuck::cast(info.place);
    let place = match info.kind {
        LINK_TYPE_TCX | LINK_TYPE_XDP => (ifindex != 0).then_some(Place::Device(ifindex)),
        LINK_TYPE_CGROUP => (cgroup != 0).then_some(Place::Cgroup(cgroup)),
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this is no link to a device or a cgroup",
            ));
        }
    };
    Ok(Some(LinkInfo {
        program: info.program,
        place,
    }))
}

/// Puts another program behind a pinned link, in one step. Since Linux 5.7.
///
/// # Errors
/// What the kernel says; `NotFound` if nothing is pinned there.
pub fn update_link(path: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = open_pinned(path)?.ok_or(io::ErrorKind::NotFound)?;
    let mut update = LinkUpdate {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    bpf(LINK_UPDATE, &mut update).map(drop)
}

/// Opens what is pinned at a path; `None` if nothing is.
fn open_pinned(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut get = ObjGet {
        path: path.as_ptr() as u64,
        fd: 0,
        file_flags: 0,
    };
    match bpf(OBJ_GET, &mut get) {
        // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The kernel's cookie of the calling thread's network namespace: no other has it until the next boot. Since Linux 5.14.
///
/// # Errors
/// No socket can be opened, or the kernel does not know the question.
pub fn netns_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0u64;
    let mut length = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, and how many to `length`; both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(cookie)
    }
}

/// A map's entries: keys one after the other, and their values in the same order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// The keys.
    pub keys: Vec<u8>,
    /// The values.
    pub values: Vec<u8>,
}

/// All entries of a hash or an array. Since Linux 5.6. What others add or remove meanwhile may be in it or not; what stays is in it
/// once. Of a map per CPU `value` is that of all possible CPUs, each rounded up to 8 bytes; an array of these since Linux 5.13.
///
/// # Errors
/// What the kernel says; `InvalidInput` if a key has more than 64 bytes.
pub fn dump(map: BorrowedFd<'_>, key: usize, value: usize) -> io::Result<Entries> {
    if key > MARK || key == 0 || value == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "keys of this size cannot be read in bulk",
        ));
    }
    let mut entries = Entries::default();
    let mut chunk = CHUNK;
    let mut mark = None;
    loop {
        let mut keys = vec![0; chunk * key];
        let mut values = vec![0; chunk * value];
        let mut next = [0u8; MARK];
        let mut batch = Batch {
            in_batch: mark.as_ref().map_or(0, |mark: &[u8; MARK]| mark.as_ptr() as u64),
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: chunk as u32,
            map: map.as_raw_fd() as u32,
            element_flags: 0,
            flags: 0,
        };
        let result = bpf(MAP_LOOKUP_BATCH, &mut batch);
        let ended = match result {
            Ok(_) => false,
            // A bucket holds more than there was room for.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                chunk *= 2;
                continue;
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        let count = chunk.min(batch.count as usize);
        entries.keys.extend_from_slice(&keys[..count * key]);
        entries.values.extend_from_slice(&values[..count * value]);
        if ended {
            return Ok(entries);
        }
        mark = Some(next);
    }
}

/// Writes entries to a map that is not per CPU, in their order. `flags` is `BPF_ANY` (0) or `BPF_NOEXIST` (1), with which
/// the first key that is there already ends the walk. Since Linux 5.6.
///
/// # Errors
/// How many were written before the one that the kernel refused, and what it said.
pub fn store(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u8],
    count: usize,
    flags: u64,
) -> Result<(), (usize, io::Error)> {
    if count == 0 {
        return Ok(());
    }
    let whole = keys.len().is_multiple_of(count) && values.len().is_multiple_of(count) && count <= u32::MAX as usize;
    if !whole {
        return Err((
            0,
            io::Error::new(io::ErrorKind::InvalidInput, "keys and values do not match"),
        ));
    }
    let mut batch = Batch {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: count as u32,
        map: map.as_raw_fd() as u32,
        element_flags: flags,
        flags: 0,
    };
    match bpf(MAP_UPDATE_BATCH, &mut batch) {
        Ok(_) => Ok(()),
        // The kernel writes how far it came only once it has begun; an error means that it did not come to the end.
        Err(error) => Err((
            if batch.count as usize >= count {
                0
            } else {
                batch.count as usize
            },
            error,
        )),
    }
}

/// Removes the entry of a key, which must be as long as the map's keys are.
///
/// # Errors
/// `NotFound` if there is none; otherwise what the kernel says.
pub fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    let mut element = Element {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: key.as_ptr() as u64,
        value: 0,
        flags: 0,
    };
    bpf(MAP_DELETE_ELEM, &mut element).map(drop)
}

/// Returns once every program that ran when this was called has ended: whatever it looked up before is no longer in use.
/// Takes about as long as attaching a program does.
pub fn grace_period() {
    /// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`: the kernel waits for a grace period of RCU, within which programs run.
    const GLOBAL: libc::c_int = 1;
    // SAFETY: membarrier takes three integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if result < 0 {
        // A kernel with nohz_full refuses. No program runs for anything near as long.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// Asks for an option of IPv4 sockets. The buffer holds the question, and then the answer; returns the answer's length.
///
/// # Errors
/// What the kernel says.
pub fn ip_option(socket: BorrowedFd<'_>, option: libc::c_int, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(buffer.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes no more of the buffer than the length that it is told, and the length itself.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(length as usize)
    }
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
