//! Where things lie in the working tree. All paths are absolute, whatever folder the command was started in.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// The build folder. Always the workspace's own: the programs are embedded from here, and the suites look for binaries here.
pub fn target() -> PathBuf {
    root().join("target")
}

/// The folder for tools this package installs, so that it leaves the user's own folders alone.
pub fn tools() -> PathBuf {
    target().join("tools")
}

/// The programs, as netpath-agent embeds them.
pub fn object() -> PathBuf {
    target().join("ebpf/netpath.o")
}

/// A cargo command in the workspace: the cargo that runs this package, and the workspace's own build folder.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    in_workspace(&mut command);
    command
}

/// Makes a cargo command work on the workspace, free of what `cargo run` set for this package alone.
pub fn in_workspace(command: &mut Command) {
    command.current_dir(root()).env("CARGO_TARGET_DIR", target());
    // Build scripts of some crates watch variables of this kind; inherited ones would rebuild them at each turn.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}
