//! The suites that drive netpath from outside, one module each.

mod bpftool;
mod cni;
mod deploy;
mod direct_return;
mod example;
mod families;
mod fragments;
mod hostports;
mod lab;
mod logic;
mod parity;
mod programs;
mod restart;
mod rolling;
mod run;
mod sctp;
mod sizes;
mod sockets;
mod tunnels;
mod vlans;
mod xdp;
