//! What the suites stand on: frames, tables on the host, the namespace lab.

pub mod bench;
pub mod entries;
pub mod frame;
pub mod lab;
pub mod packet;
pub mod sctp;
pub mod socket;
pub mod stack;
pub mod tables;
pub mod verdict;
