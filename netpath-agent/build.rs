//! Embeds the eBPF programs, if they are built: `cargo xtask build-ebpf` leaves them at `target/ebpf/netpath.o`. Without
//! them the agent builds as well, for whoever works on anything else, and says at run time what is missing.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let folder = package.join("../target/ebpf");
    let object = folder.join("netpath.o");
    println!("cargo::rerun-if-changed=build.rs");
    let source = if object.exists() {
        println!("cargo::rerun-if-changed={}", object.display());
        // A copy, so that the compiler never reads a file that is just being written anew.
        fs::copy(&object, out.join("netpath.o"))?;
        "Some(aya::include_bytes_aligned!(concat!(env!(\"OUT_DIR\"), \"/netpath.o\")))"
    } else {
        // A file that is watched before it is there would rebuild the crate every time; its folder does not.
        fs::create_dir_all(&folder)?;
        println!("cargo::rerun-if-changed={}", folder.display());
        "None"
    };
    fs::write(out.join("object.rs"), source)?;
    Ok(())
}
