//! A root for pins of a test's own, gone with the test, also if it panics.

use std::{
    fs, process,
    sync::atomic::{AtomicU32, Ordering},
};

use super::pins::Pins;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// Pins below a root that no other test has.
pub struct Scratch(pub Pins);

impl Scratch {
    /// A fresh root with its folders.
    pub fn fresh() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let pins = Pins::new(format!("/sys/fs/bpf/netpath-test-{}-{number}", process::id()));
        pins.prepare().expect("root and a bpf filesystem at /sys/fs/bpf");
        Self(pins)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to do about a failure here: the next look at /sys/fs/bpf shows what stayed.
        let _ = fs::remove_dir_all(self.0.root());
    }
}
