//! Container images without a container engine: archives in the form that `docker save` writes and `docker load`, `podman load` and
//! `ctr images import` read. The same content gives the same bytes, so that an image's digest says what is in it.
//!
//! The form: <https://github.com/moby/docker-image-spec>, chapter "Combined Image JSON + Filesystem Changeset Format".

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What a process in a container finds as its PATH, as container engines set it where an image says nothing.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One image.
pub struct Image {
    /// Such as `lab.local/pause:lab`.
    pub name: String,
    /// Lowest first. Images of one archive that share a layer share its bytes.
    pub layers: Vec<Layer>,
    /// The program and the arguments that are always given to it.
    pub entrypoint: Vec<String>,
    /// Arguments in the place of which a pod can give others.
    pub arguments: Vec<String>,
}

/// A part of an image's file system.
pub enum Layer {
    /// The root file system in this tar file, as it is.
    Tar(PathBuf),
    /// These files, owned by root, readable and executable by all.
    Files(Vec<File>),
}

/// A file of this machine, and its place in the image.
pub struct File {
    /// Here.
    pub from: PathBuf,
    /// There, from the root.
    pub to: PathBuf,
}

/// Make an archive of container images; the scripts of tests/cluster call it
#[derive(clap::Args)]
pub struct Arguments {
    /// The archive to write. The images are described on the standard input, one a line:
    /// `NAME:TAG ROOTFS|- ENTRYPOINT ARGUMENT|- [FILE=PATH…]`, where ROOTFS is a tar of a root file system
    archive: PathBuf,
}

/// `cargo xtask images`
pub fn command(arguments: &Arguments) -> Result<()> {
    let images = described(std::io::stdin().lock())?;
    write(&arguments.archive, &images)
}

/// Writes an archive of these images. It appears whole or not at all.
///
/// # Errors
/// A file cannot be read, or the archive cannot be written.
pub fn write(archive: &Path, images: &[Image]) -> Result<()> {
    let mut unfinished = archive.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let failed = || format!("writing the images into {}", archive.display());
    let result = fs::File::create(&unfinished)
        .map_err(Into::into)
        .and_then(|file| write_into(BufWriter::new(file), images))
        .and_then(|()| Ok(fs::rename(&unfinished, archive)?))
        .with_context(failed);
    if result.is_err() {
        fs::remove_file(&unfinished).ok();
    }
    result
}

fn write_into(out: impl Write, images: &[Image]) -> Result<()> {
    let mut archive = Archive {
        tar: tar::Builder::new(out),
        written: BTreeSet::new(),
    };
    let mut manifest = Vec::new();
    for image in images {
        let layers: Vec<String> = image
            .layers
            .iter()
            .map(|layer| archive.blob(&layer.bytes()?, ".tar"))
            .collect::<Result<_>>()
            .with_context(|| format!("image {}", image.name))?;
        let digests: Vec<String> = layers.iter().map(|layer| format!("sha256:{layer}")).collect();
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": image.entrypoint, "Cmd": image.arguments, "Env": [PATH] },
            "rootfs": { "type": "layers", "diff_ids": digests },
        });
        manifest.push(json!({
            "Config": archive.blob(config.to_string().as_bytes(), ".json")? + ".json",
            "RepoTags": [image.name],
            "Layers": layers.iter().map(|layer| format!("{layer}.tar")).collect::<Vec<_>>(),
        }));
    }
    archive.add(
        "manifest.json",
        serde_json::Value::from(manifest).to_string().as_bytes(),
    )?;
    archive.tar.into_inner()?.flush()?;
    Ok(())
}

/// The name that images have for this machine's kind of processor: Go's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

struct Archive<W: Write> {
    tar: tar::Builder<W>,
    written: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    /// Adds these bytes under their digest, unless they are there, and returns the digest in hexadecimal.
    fn blob(&mut self, bytes: &[u8], suffix: &str) -> Result<String> {
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{digest}{suffix}");
        if self.written.insert(name.clone()) {
            self.add(&name, bytes)?;
        }
        Ok(digest)
    }

    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let mut header = header(tar::EntryType::Regular, 0o644);
        header.set_size(bytes.len() as u64);
        Ok(self.tar.append_data(&mut header, name, bytes)?)
    }
}

impl Layer {
    /// The layer as an uncompressed tar.
    fn bytes(&self) -> Result<Vec<u8>> {
        match self {
            Self::Tar(path) => fs::read(path).with_context(|| format!("reading the layer {}", path.display())),
            Self::Files(files) => {
                let mut layer = tar::Builder::new(Vec::new());
                let mut folders = BTreeSet::new();
                for file in files {
                    let place = file.to.strip_prefix("/").unwrap_or(&file.to);
                    add_folders(&mut layer, &mut folders, place)?;
                    let content = fs::read(&file.from).with_context(|| format!("reading {}", file.from.display()))?;
                    let mut header = header(tar::EntryType::Regular, 0o755);
                    header.set_size(content.len() as u64);
                    layer
                        .append_data(&mut header, place, content.as_slice())
                        .with_context(|| format!("laying {} at {}", file.from.display(), file.to.display()))?;
                }
                Ok(layer.into_inner()?)
            }
        }
    }
}

/// Adds the folders above a file that are not there yet: not every reader makes them by itself.
fn add_folders(layer: &mut tar::Builder<Vec<u8>>, known: &mut BTreeSet<PathBuf>, file: &Path) -> Result<()> {
    let mut above: Vec<&Path> = file.ancestors().skip(1).filter(|path| *path != Path::new("")).collect();
    above.reverse();
    for folder in above {
        if known.insert(folder.to_owned()) {
            let mut header = header(tar::EntryType::Directory, 0o755);
            layer.append_data(&mut header, folder, std::io::empty())?;
        }
    }
    Ok(())
}

/// A header that depends on nothing but its arguments: root's, and as old as the epoch.
fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// Reads descriptions of images, one a line; see [`Arguments`].
fn described(lines: impl BufRead) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let line = line.context("reading the descriptions of images")?;
        if !line.trim().is_empty() {
            let failed = || format!("line {} of the descriptions: {line}", number + 1);
            images.push(describe(&line).with_context(failed)?);
        }
    }
    Ok(images)
}

fn describe(line: &str) -> Result<Image> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(rootfs), Some(entrypoint), Some(argument)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        bail!("it needs at least NAME:TAG, ROOTFS, ENTRYPOINT and ARGUMENT; `-` stands for none");
    };
    let files: Vec<File> = words.map(placed).collect::<Result<_>>()?;
    let mut layers = Vec::new();
    if rootfs != "-" {
        layers.push(Layer::Tar(rootfs.into()));
    }
    if !files.is_empty() {
        layers.push(Layer::Files(files));
    }
    if layers.is_empty() {
        bail!("the image would be empty: give it a ROOTFS or a FILE=PATH");
    }
    Ok(Image {
        name: name.to_owned(),
        layers,
        entrypoint: vec![entrypoint.to_owned()],
        arguments: Some(argument)
            .filter(|word| *word != "-")
            .map(str::to_owned)
            .into_iter()
            .collect(),
    })
}

fn placed(word: &str) -> Result<File> {
    let (from, to) = word
        .split_once('=')
        .with_context(|| format!("`{word}` is not FILE=PATH"))?;
    Ok(File {
        from: from.into(),
        to: to.into(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Path, kind, mode and content of all that is in a tar.
    fn entries(bytes: &[u8]) -> Vec<(String, tar::EntryType, u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let header = entry.header();
            assert_eq!(
                (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
                (0, 0, 0)
            );
            (path, header.entry_type(), header.mode().unwrap(), content)
        });
        entries.collect()
    }

    /// A file of its own for each test, gone with the test.
    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn files_lie_where_they_should_below_their_folders() {
        let content = file("abc");
        let from = content.path().to_owned();
        let places = ["/bin/one", "/usr/bin/two", "/usr/three"];
        let files = places.map(|to| File {
            from: from.clone(),
            to: to.into(),
        });
        let layer = Layer::Files(files.into()).bytes().unwrap();
        let folder = |path: &str| (path.to_owned(), tar::EntryType::Directory, 0o755, Vec::new());
        let laid = |path: &str| (path.to_owned(), tar::EntryType::Regular, 0o755, b"abc".to_vec());
        let expected = [
            folder("bin"),
            laid("bin/one"),
            folder("usr"),
            folder("usr/bin"),
            laid("usr/bin/two"),
            laid("usr/three"),
        ];
        assert_eq!(entries(&layer), expected);
    }

    #[test]
    fn two_images_share_a_layer_and_the_manifest_names_all() {
        let rootfs = file("abc");
        let rootfs = rootfs.path().display();
        let text = format!("lab.local/a:1 {rootfs} /a run\n\nlab.local/b:2 {rootfs} /b -\n");
        let images = described(text.as_bytes()).unwrap();
        let mut archive = Vec::new();
        write_into(&mut archive, &images).unwrap();

        // The digest of "abc" is the first example of FIPS 180-2, appendix B.1.
        let layer = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let entries = entries(&archive);
        let names: Vec<&str> = entries.iter().map(|entry| entry.0.as_str()).collect();
        let [first, a, b, "manifest.json"] = names[..] else {
            panic!("{names:?}");
        };
        assert_eq!(first, format!("{layer}.tar"));
        let manifest: serde_json::Value = serde_json::from_slice(&entries[3].3).unwrap();
        let expected = json!([
            { "Config": a, "RepoTags": ["lab.local/a:1"], "Layers": [first] },
            { "Config": b, "RepoTags": ["lab.local/b:2"], "Layers": [first] },
        ]);
        assert_eq!(manifest, expected);
        let config: serde_json::Value = serde_json::from_slice(&entries[1].3).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{layer}")]));
        assert_eq!(config["config"]["Entrypoint"], json!(["/a"]));
        assert_eq!(config["config"]["Cmd"], json!(["run"]));
    }

    #[test]
    fn a_bad_description_is_named_by_its_line() {
        let error = |text: &str| format!("{:#}", described(text.as_bytes()).err().unwrap());
        let wanted = "it needs at least NAME:TAG, ROOTFS, ENTRYPOINT and ARGUMENT; `-` stands for none";
        assert_eq!(
            error("\na:1 - /a"),
            format!("line 2 of the descriptions: a:1 - /a: {wanted}")
        );
        assert_eq!(
            error("a:1 - /a - /bin/a"),
            "line 1 of the descriptions: a:1 - /a - /bin/a: `/bin/a` is not FILE=PATH"
        );
        assert_eq!(
            error("a:1 - /a -"),
            "line 1 of the descriptions: a:1 - /a -: the image would be empty: give it a ROOTFS or a FILE=PATH"
        );
    }

    #[test]
    fn what_cannot_be_made_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("images.tar");
        let images = described("a:1 - /a - /nowhere/netpath-no-such-file=/a".as_bytes()).unwrap();
        let error = format!("{:#}", write(&archive, &images).unwrap_err());
        let expected = format!(
            "writing the images into {}: image a:1: reading /nowhere/netpath-no-such-file: No such file or directory (os error 2)",
            archive.display()
        );
        assert_eq!(error, expected);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
