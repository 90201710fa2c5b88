//! A network namespace a test, and `ip` as the independent witness in it.

use std::future::Future;
use std::process::Command;

use netpath_agent::net::Netlink;
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Runs a test on a thread, a runtime and a network namespace of its own. The namespace goes with the thread.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce(Netlink) -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this test needs root");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { test(Netlink::connect().unwrap()).await });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` in the calling thread's namespace.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `ip` in the calling thread's namespace, and reads its JSON.
pub fn ip_json(arguments: &str) -> Value {
    serde_json::from_str(&ip(&format!("-j -d {arguments}"))).unwrap()
}
