//! The floor's programs, instruction by instruction (RFC 9669), and the two system calls that bring them to a device. aya loads
//! programs out of objects only, and these have none: that is why unsafe code is here.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context as _, Result};
use nix::libc;

use crate::bench::{netlink::Mac, netns::Namespace};

/// An instruction as it lies in memory: code, registers, offset, immediate.
pub type Instruction = u64;

// Helpers and their flags, as `linux/bpf.h` of kernel 6.18 numbers them.
const SKB_STORE_BYTES: i32 = 9;
const REDIRECT: i32 = 23;
const SKB_ADJUST_ROOM: i32 = 50;
const REDIRECT_PEER: i32 = 155;
/// `BPF_ADJ_ROOM_MAC`.
const BEHIND_ETHERNET: i32 = 1;
/// `FIXED_GSO | ENCAP_L3_IPV4 | ENCAP_L4_UDP | NO_CSUM_RESET | ENCAP_L2(14) | ENCAP_L2_ETH` of `BPF_F_ADJ_ROOM_*`.
const WRAP: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 14 << 56 | 1 << 6;
/// `FIXED_GSO | NO_CSUM_RESET | DECAP_L3_IPV4`.
const UNWRAP: u64 = 1 | 1 << 5 | 1 << 7;

/// Outer IPv4, UDP, VXLAN, inner Ethernet.
const VXLAN: i32 = 50;
/// The same with the outer Ethernet header.
const HEADERS: i16 = 64;

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    let [o0, o1] = offset.to_le_bytes();
    let [i0, i1, i2, i3] = immediate.to_le_bytes();
    u64::from_ne_bytes([code, to | from << 4, o0, o1, i0, i1, i2, i3])
}

const fn set(register: u8, value: i32) -> Instruction {
    instruction(0xb7, register, 0, 0, value)
}

const fn copy(to: u8, from: u8) -> Instruction {
    instruction(0xbf, to, from, 0, 0)
}

const fn add(register: u8, value: i32) -> Instruction {
    instruction(0x07, register, 0, 0, value)
}

const fn call(helper: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, helper)
}

const EXIT: Instruction = instruction(0x95, 0, 0, 0, 0);

/// A 64-bit value takes two.
const fn set_wide(register: u8, value: u64) -> [Instruction; 2] {
    [
        instruction(0x18, register, 0, 0, value as u32 as i32),
        instruction(0, 0, 0, 0, (value >> 32) as i32),
    ]
}

/// Into the pod behind a port.
pub fn into_pod(port: u32) -> Vec<Instruction> {
    vec![set(1, port as i32), set(2, 0), call(REDIRECT_PEER), EXIT]
}

/// Out of a device.
pub fn out_of(device: u32) -> Vec<Instruction> {
    vec![set(1, device as i32), set(2, 0), call(REDIRECT), EXIT]
}

/// Out of a device in VXLAN headers. Nobody reads them but the kernel, where it has to cut a large packet: they hold what it
/// looks at then, and are zero otherwise.
pub fn wrapped_out_of(device: u32, receiver: Mac) -> Vec<Instruction> {
    let [m0, m1, m2, m3, m4, m5] = receiver;
    let mut words = [[0; 4]; HEADERS as usize / 4];
    words[0] = [m0, m1, m2, m3];
    words[1] = [m4, m5, 0x02, 0];
    // IPv4, without options, with a time to live, carrying UDP; within it IPv4 again.
    words[3] = [0x08, 0, 0x45, 0];
    words[5] = [0, 0, 64, 17];
    words[15] = [0, 0, 0x08, 0];
    let mut program = vec![copy(6, 1)];
    program.extend(adjust_room(VXLAN, WRAP));
    for (place, word) in (0..).zip(words) {
        // A word onto the stack, below the frame pointer.
        program.push(instruction(0x62, 10, 0, 4 * place - HEADERS, i32::from_le_bytes(word)));
    }
    program.extend([
        copy(1, 6),
        set(2, 0),
        copy(3, 10),
        add(3, -i32::from(HEADERS)),
        set(4, i32::from(HEADERS)),
        set(5, 0),
        call(SKB_STORE_BYTES),
    ]);
    program.extend(out_of(device));
    program
}

/// Out of VXLAN headers into the pod behind a port.
pub fn unwrapped_into_pod(port: u32) -> Vec<Instruction> {
    let mut program = vec![copy(6, 1)];
    program.extend(adjust_room(-VXLAN, UNWRAP));
    program.extend(into_pod(port));
    program
}

fn adjust_room(by: i32, flags: u64) -> Vec<Instruction> {
    let [low, high] = set_wide(4, flags);
    vec![
        copy(1, 6),
        set(2, by),
        set(3, BEHIND_ETHERNET),
        low,
        high,
        call(SKB_ADJUST_ROOM),
    ]
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads here.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log: [u64; 2],
    kernel: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_CREATE` reads for tcx.
#[repr(C)]
struct Link {
    program: u32,
    device: u32,
    hook: u32,
    flags: u32,
    relative: u64,
    revision: u64,
}

const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
/// `BPF_PROG_TYPE_SCHED_CLS`.
const CLASSIFIER: u32 = 3;
/// `BPF_TCX_INGRESS`.
const TCX_INGRESS: u32 = 46;

/// Loads a program and attaches it to what comes in through a device of the namespace, until the link is dropped.
///
/// # Errors
/// Those of the kernel, with the device's index.
pub fn attach(namespace: &Namespace, device: u32, program: &[Instruction]) -> Result<OwnedFd> {
    let program = bpf(
        PROG_LOAD,
        &Load {
            kind: CLASSIFIER,
            count: u32::try_from(program.len())?,
            instructions: program.as_ptr() as u64,
            licence: c"GPL".as_ptr() as u64,
            log: [0; 2],
            kernel: 0,
            flags: 0,
        },
    )
    .with_context(|| format!("the floor's program for device {device} does not load"))?;
    let link = Link {
        program: program.as_raw_fd() as u32,
        device,
        hook: TCX_INGRESS,
        flags: 0,
        relative: 0,
        revision: 0,
    };
    namespace.run(|| {
        bpf(LINK_CREATE, &link).with_context(|| format!("the floor's program cannot be attached to device {device}"))
    })
}

/// The system call, for the commands that open a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are laid out as `linux/bpf.h` says for the command, and what they point at lives until the call
    // returns. The kernel reads as much as it is told, and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as libc::c_int) })
}
