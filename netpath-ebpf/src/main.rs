//! The programs: entry points only, one a hook. The kernel's names of the programs are the hooks' names.

#![no_std]
#![no_main]
// The BPF target exists only in nightly compilers; these two are for `kernel::direct` alone.
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "nothing else tells whether an offset is a constant after inlining"
)]

mod kernel;

use aya_ebpf::{
    macros::{cgroup_sock_addr, classifier, xdp},
    programs::{SockAddrContext, TcContext, XdpContext},
};
use kernel::{sock, tc, xdp};
use netpath_common::hook::Hook;
use netpath_ebpf::{path, socket::Keeps, v4::V4, v6::V6};

/// Runs a hook's steps over a packet or a socket's call. A macro, since a function that is handed another as an argument may stay one, and the
/// kernel refuses the type information of functions whose arguments have no names.
macro_rules! run {
    ($kernel:ident, $hook:ident, $ctx:ident, |$work:ident| $steps:expr) => {
        match $kernel::Work::begin(Hook::$hook, &$ctx) {
            Ok(mut $work) => {
                let verdict = $steps;
                $work.end(verdict)
            }
            Err(answer) => answer,
        }
    };
}

/// tc ingress of a pod's veth on the node.
#[classifier]
fn from_pod(ctx: TcContext) -> i32 {
    run!(tc, FromPod, ctx, |work| path::from_pod::run(
        &mut work.packet,
        &mut work.tables,
        work.config,
        work.scratch
    ))
}

/// tc ingress of the vxlan device.
#[classifier]
fn from_overlay(ctx: TcContext) -> i32 {
    run!(tc, FromOverlay, ctx, |work| path::from_overlay::run(
        &mut work.packet,
        &mut work.tables,
        work.config,
        work.scratch
    ))
}

/// tc ingress of the uplink.
#[classifier]
fn from_wire(ctx: TcContext) -> i32 {
    run!(tc, FromWire, ctx, |work| path::from_wire::run(
        &mut work.packet,
        &mut work.tables,
        work.config,
        work.scratch
    ))
}

/// tc egress of the uplink.
#[classifier]
fn to_wire(ctx: TcContext) -> i32 {
    run!(tc, ToWire, ctx, |work| path::to_wire::run(
        &mut work.packet,
        &mut work.tables,
        work.scratch
    ))
}

/// tc egress of the bridge.
#[classifier]
fn from_host(ctx: TcContext) -> i32 {
    run!(tc, FromHost, ctx, |work| path::from_host::run(
        &mut work.packet,
        &mut work.tables,
        work.config,
        work.scratch
    ))
}

/// XDP on the uplink.
#[xdp]
fn from_wire_xdp(ctx: XdpContext) -> u32 {
    run!(xdp, FromWireXdp, ctx, |work| path::from_wire::run(
        &mut work.packet,
        &mut work.tables,
        work.config,
        work.scratch
    ))
}

/// cgroup connect.
#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    run!(sock, Connect4, ctx, |work| path::from_socket::run::<V4, _, _>(
        &mut work.socket,
        &mut work.tables,
        work.config,
        Keeps::Connection
    ))
}

/// cgroup sendmsg.
#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    run!(sock, Sendmsg4, ctx, |work| path::from_socket::run::<V4, _, _>(
        &mut work.socket,
        &mut work.tables,
        work.config,
        Keeps::Datagrams
    ))
}

/// cgroup recvmsg.
#[cgroup_sock_addr(recvmsg4)]
fn recvmsg4(ctx: SockAddrContext) -> i32 {
    run!(sock, Recvmsg4, ctx, |work| Ok(path::to_socket::run::<[u8; 4], _, _>(
        &mut work.socket,
        &work.tables,
        work.config
    )))
}

/// cgroup getpeername.
#[cgroup_sock_addr(getpeername4)]
fn getpeername4(ctx: SockAddrContext) -> i32 {
    run!(sock, Getpeername4, ctx, |work| Ok(
        path::to_socket::run::<[u8; 4], _, _>(&mut work.socket, &work.tables, work.config)
    ))
}

/// cgroup connect, IPv6.
#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    run!(sock, Connect6, ctx, |work| path::from_socket::run_either(
        &mut work.socket,
        &mut work.tables,
        work.config,
        Keeps::Connection
    ))
}

/// cgroup sendmsg, IPv6.
#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    run!(sock, Sendmsg6, ctx, |work| path::from_socket::run::<V6, _, _>(
        &mut work.socket,
        &mut work.tables,
        work.config,
        Keeps::Datagrams
    ))
}

/// cgroup recvmsg, IPv6.
#[cgroup_sock_addr(recvmsg6)]
fn recvmsg6(ctx: SockAddrContext) -> i32 {
    run!(sock, Recvmsg6, ctx, |work| Ok(path::to_socket::run_either(
        &mut work.socket,
        &work.tables,
        work.config
    )))
}

/// cgroup getpeername, IPv6.
#[cgroup_sock_addr(getpeername6)]
fn getpeername6(ctx: SockAddrContext) -> i32 {
    run!(sock, Getpeername6, ctx, |work| Ok(path::to_socket::run_either(
        &mut work.socket,
        &work.tables,
        work.config
    )))
}

/// No step of ours panics: the checks that the compiler could not remove end the program here.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Helpers that read sockets and redirect are for programs under the kernel's own licence alone.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
