//! The packet logic, written once: compiled into tc programs, into an XDP program and for the host, where tests hold all
//! three against each other. It stands on two traits alone, [`packet::Packet`] and [`tables::Tables`].
//!
//! A packet's way: a hook in [`path`] names the steps; [`parse`] reads the headers; the connection table and the services
//! decide what the packet becomes; delivery picks the way; a [`verdict::Verdict`] with its reason ends it.

#![no_std]
#![forbid(unsafe_code)]

pub mod packet;
pub mod tables;
pub mod verdict;
