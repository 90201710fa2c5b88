//! `cargo xtask image`: netpath's image, without a container engine. Three static programs, and nothing else; deploy/Containerfile
//! lays the same files into an image with any builder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::IMAGE;
use crate::image::{self, File, Image, Layer};
use crate::{build_ebpf, progress, tree};

/// What is in the image, at its root. The first is what it runs.
const PROGRAMS: [&str; 3] = ["netpath-agent", "netpath-cni", "netpath"];
/// The C library goes into the programs: an image without it needs no base, and a node may have another.
const FLAGS: &str = "-Ctarget-feature=+crt-static";

/// Build the image as an archive for `ctr images import`, `docker load` or `podman load`
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// The archive to write [default: target/netpath-image.tar]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Lay the image's files into this folder instead, for a builder of images
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    files: Option<PathBuf>,
}

/// `cargo xtask image`
pub fn command(arguments: &Arguments) -> Result<()> {
    if let Some(folder) = &arguments.files {
        return lay(folder);
    }
    let archive = arguments.output.clone().unwrap_or_else(archive);
    build(&archive)?;
    println!("{}", archive.display());
    Ok(())
}

/// Where the archive goes unless another place is named.
pub fn archive() -> PathBuf {
    tree::target().join("netpath-image.tar")
}

/// Builds the programs and writes the archive.
///
/// # Errors
/// They do not compile, or the archive cannot be written.
pub fn build(archive: &Path) -> Result<()> {
    let folder = programs()?;
    let file = |name: &str| File {
        from: folder.join(name),
        to: Path::new("/").join(name),
    };
    let image = Image {
        name: IMAGE.to_owned(),
        layers: vec![Layer::Files(PROGRAMS.map(file).into())],
        entrypoint: vec![format!("/{}", PROGRAMS[0])],
        arguments: Vec::new(),
    };
    image::write(archive, &[image])
}

/// Lays the image's files into a folder.
fn lay(folder: &Path) -> Result<()> {
    let built = programs()?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    for name in PROGRAMS {
        let to = folder.join(name);
        fs::copy(built.join(name), &to).with_context(|| format!("writing {}", to.display()))?;
    }
    Ok(())
}

/// Builds the static programs, and returns their folder. It is apart from the other builds: other flags would rebuild all
/// there is, each time.
fn programs() -> Result<PathBuf> {
    build_ebpf::build(&build_ebpf::Arguments::default())?;
    // Named, although it is this machine's own: only then do the flags leave procedural macros and build scripts alone, which
    // cannot be static.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = tree::target().join("static");
    let mut cargo = tree::cargo();
    cargo
        .args(["build", "--profile", "image", "--package", "netpath-agent", "--bins"])
        .args(["--target", &target, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    progress::shown("building the image's programs", &mut cargo)?;
    Ok(folder.join(target).join("image"))
}
