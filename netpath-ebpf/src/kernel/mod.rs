//! The packet logic's place in the kernel: the two traits over tc's and XDP's packets and over BPF maps, and what turns a
//! verdict into a program's answer. All unsafe code of the datapath is in here.

mod direct;
mod report;
mod skb;
mod tables;
pub mod tc;
pub mod xdp;
