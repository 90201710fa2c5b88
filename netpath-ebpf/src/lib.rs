//! The packet logic, written once: compiled into tc programs, into an XDP program and for the host, where tests hold all
//! three against each other; and what becomes of a socket's call, for cgroup programs and the host. It stands on three
//! traits alone, [`packet::Packet`], [`socket::Socket`] and [`tables::Tables`], and is generic over the address family,
//! [`family::Family`].
//!
//! A packet's way: a hook in [`path`] names the steps. [`ethernet`], [`v4`], [`v6`] and [`flow`] read the headers, and note in
//! [`scratch`] what they say; [`forward`] then asks [`conntrack`], [`service`] and [`nat`] what the packet must become, [`way`] where
//! it must go, changes it and sends it there, by [`encap`] if need be. [`arp`] and [`neighbour`] answer, and [`complaint`] by [`icmp`]
//! or [`reset`]. A [`verdict::Verdict`] with its reason ends it.
//!
//! Steps are `#[inline(always)]` so that a program is one function, as the verifier likes it; what is rare is not, so that
//! its stack is its own.

#![no_std]
#![forbid(unsafe_code)]

pub mod affinity;
pub mod arp;
pub mod complaint;
pub mod conntrack;
pub mod crc32c;
pub mod csum;
pub mod deliver;
pub mod encap;
pub mod ethernet;
pub mod family;
pub mod flow;
pub mod forward;
pub mod fragment;
pub mod hash;
pub mod icmp;
pub mod icmp_quote;
pub mod ipv4;
pub mod maglev;
pub mod nat;
pub mod neighbour;
pub mod offer;
pub mod packet;
pub mod path;
pub mod relay;
pub mod reset;
pub mod scratch;
pub mod sctp;
pub mod service;
pub mod socket;
pub mod tables;
pub mod v4;
pub mod v6;
pub mod verdict;
pub mod way;
