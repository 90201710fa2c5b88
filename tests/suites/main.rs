//! The suites that drive netpath from outside, one module each.

mod cni;
mod lab;
mod logic;
mod parity;
mod programs;
mod restart;
mod run;
