//! The programs: entry points only.
fn main() {}
