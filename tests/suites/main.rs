//! The suites that drive netpath from outside, one module each.

mod cni;
mod lab;
mod logic;
mod restart;
mod run;
