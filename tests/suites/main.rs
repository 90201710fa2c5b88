//! The suites that drive netpath from outside, one module each.

mod lab;
mod logic;
