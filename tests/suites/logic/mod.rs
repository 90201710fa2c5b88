//! The packet logic on the host, scenario by scenario: whole frames in, whole frames and verdicts out. Expected frames are
//! built anew by another library, never taken from what came out.

mod affinity;
mod arp;
mod fragments;
mod icmp;
mod ipv6;
mod local;
mod nat;
mod neighbour_discovery;
pub mod node;
mod refusals;
mod relay;
mod sctp;
mod services;
mod sockets;
mod sources;
mod spoof;
mod tunnels;
mod ways;
