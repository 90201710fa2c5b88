//! A version of a Debian package from a suite the machine itself does not follow, unpacked and not installed.
//!
//! apt-get does the fetching and checks the signatures, with a sources list and folders of its own, so the machine's own
//! lists stay as they are. The mirror is the one the machine uses already.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{progress, tree};

/// Suites that carry several or recent versions of Rust, the ones for users of a stable Debian first.
const SUITES: [&str; 3] = ["trixie-backports", "sid", "forky-backports"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A package's content, which is removed with this value.
pub struct Unpacked {
    folder: PathBuf,
}

impl Unpacked {
    /// The folder that stands for `/` in the package.
    pub fn content(&self) -> PathBuf {
        self.folder.join("content")
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// Downloads `package` with upstream's version `version` and unpacks it.
///
/// # Errors
/// Not Debian, the mirror does not answer, or no suite has that version.
pub fn unpack(package: &str, version: &str) -> Result<Unpacked> {
    let mirrors = mirrors(Path::new("/etc/apt"));
    if mirrors.is_empty() {
        bail!("this machine's /etc/apt names no Debian mirror");
    }
    let place = Unpacked {
        folder: tree::tools().join(format!("{package}-{version}.{}", std::process::id())),
    };
    let mut answers = Vec::new();
    for (mirror, suite) in mirrors.iter().flat_map(|mirror| SUITES.map(|suite| (mirror, suite))) {
        match fetch(&Apt::new(&place.folder.join(suite), mirror, suite)?, package, version) {
            Ok(archive) => {
                let mut dpkg = Command::new("dpkg");
                progress::watched("unpacking it", dpkg.arg("-x").arg(&archive).arg(place.content()))?;
                return Ok(place);
            }
            Err(error) => {
                let error = error.to_string();
                answers.push(format!("{suite}: {}", error.lines().last().unwrap_or_default()));
            }
        }
    }
    bail!("{}", answers.join("; "))
}

/// Downloads the package from one suite; returns the archive.
fn fetch(apt: &Apt, package: &str, version: &str) -> Result<PathBuf> {
    progress::watched(
        "apt-get update, on lists of its own",
        apt.command("apt-get").arg("update"),
    )?;
    let listed = progress::watched("apt-cache madison", apt.command("apt-cache").args(["madison", package]))?;
    let exact = of_upstream(&listed, version).with_context(|| format!("it has no {package} {version}"))?;
    let what = format!("downloading {package} {exact}");
    let wanted = format!("{package}={exact}");
    progress::watched(
        &what,
        apt.command("apt-get")
            .current_dir(&apt.folder)
            .args(["download", &wanted]),
    )?;
    let files = fs::read_dir(&apt.folder).with_context(|| format!("reading {}", apt.folder.display()))?;
    let mut files = files.flatten().map(|entry| entry.path());
    let archive = files.find(|path| path.extension().is_some_and(|end| end == "deb"));
    archive.with_context(|| format!("apt-get download left no package in {}", apt.folder.display()))
}

/// apt's commands, confined to a folder and one suite of one mirror.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path, mirror: &str, suite: &str) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("creating {}", part.display()))?;
        }
        let signed = if Path::new(KEYRING).exists() {
            format!("[signed-by={KEYRING}] ")
        } else {
            String::new()
        };
        let list = folder.join("sources.list");
        fs::write(&list, format!("deb {signed}{mirror} {suite} main\n"))
            .with_context(|| format!("writing {}", list.display()))?;
        Ok(Self {
            folder: folder.to_path_buf(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let settings = [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
        ];
        for (key, value) in settings {
            let mut setting = OsString::from(format!("{key}="));
            setting.push(self.folder.join(value));
            command.arg("-o").arg(setting);
        }
        command.args(["-o", "Dir::Etc::SourceParts=/dev/null"]);
        // Without this, apt-get update succeeds although it fetched nothing.
        command.args(["-o", "APT::Update::Error-Mode=any"]);
        // apt drops to a user of its own for downloads, who may not read a root's home.
        command.args(["-o", "APT::Sandbox::User=root"]);
        command
    }
}

/// The package's full version with that upstream version, in what `apt-cache madison` lists (`name | version | source`).
fn of_upstream(listed: &str, upstream: &str) -> Option<String> {
    let versions = listed.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    let mut matching = versions.filter(|version| {
        version
            .strip_prefix(upstream)
            .is_some_and(|rest| rest.starts_with(['+', '-', '~']))
    });
    matching.next().map(str::to_owned)
}

/// The Debian mirrors apt's configuration names, in both of its formats, the archive's own first.
fn mirrors(etc: &Path) -> Vec<String> {
    let mut files = vec![etc.join("sources.list")];
    let parts = fs::read_dir(etc.join("sources.list.d")).into_iter().flatten().flatten();
    files.extend(parts.map(|entry| entry.path()));
    let mut found: Vec<String> = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let named = match file.extension().and_then(|end| end.to_str()) {
            Some("list") => one_line(&text),
            Some("sources") => deb822(&text),
            _ => continue,
        };
        found.extend(named);
    }
    // The archive proper: not the security archive, which has no backports, and nobody else's packages.
    found.retain(|uri| uri.trim_end_matches('/').ends_with("/debian"));
    found.sort();
    found.dedup();
    found
}

/// `deb [options] URI suite component…`, a source on each line.
fn one_line(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("deb "));
    let uris = lines.filter_map(|line| {
        let rest = line.trim_start_matches("deb").trim_start();
        let rest = if rest.starts_with('[') {
            rest.split_once(']')?.1
        } else {
            rest
        };
        rest.split_whitespace().next()
    });
    uris.map(str::to_owned).collect()
}

/// `URIs: a b`, one field of a stanza; a stanza that is switched off names nothing.
fn deb822(text: &str) -> Vec<String> {
    let mut uris = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let lines = stanza.lines().filter_map(|line| line.split_once(':'));
            lines
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
                .next()
        };
        if field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no")) {
            continue;
        }
        uris.extend(field("URIs").unwrap_or_default().split_whitespace().map(str::to_owned));
    }
    uris
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_apt_name_the_mirror() {
        let etc = std::env::temp_dir().join(format!("xtask-apt-{}", std::process::id()));
        fs::create_dir_all(etc.join("sources.list.d")).unwrap();
        fs::write(
            etc.join("sources.list"),
            "# deb http://commented.example/debian x main\n\
             deb [arch=amd64 signed-by=/k.gpg] http://one.example/debian bookworm main\n\
             deb-src http://source.example/debian bookworm main\n",
        )
        .unwrap();
        fs::write(
            etc.join("sources.list.d/debian.sources"),
            "Types: deb\n# URIs: http://commented.example/debian\nURIs: http://two.example/debian/\nSuites: bookworm\n\n\
             Types: deb\nURIs: http://two.example/debian-security\nSuites: bookworm-security\n\n\
             Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: x\n",
        )
        .unwrap();
        fs::write(
            etc.join("sources.list.d/other.list"),
            "deb https://packages.example/apt stable main\n",
        )
        .unwrap();
        fs::write(
            etc.join("sources.list.d/off.list.disabled"),
            "deb http://off.example/debian x main\n",
        )
        .unwrap();
        let found = mirrors(&etc);
        fs::remove_dir_all(&etc).unwrap();
        assert_eq!(found, ["http://one.example/debian", "http://two.example/debian/"]);
    }

    #[test]
    fn only_the_compilers_own_version_will_do() {
        let listed =
            "  rust-src | 1.95.10+dfsg1-1 | x\n  rust-src | 1.95.1+dfsg1-2~bpo13+1 | x\n  rust-src | 1.94.1-1 | x";
        assert_eq!(of_upstream(listed, "1.95.1").as_deref(), Some("1.95.1+dfsg1-2~bpo13+1"));
        assert_eq!(of_upstream(listed, "1.94.1").as_deref(), Some("1.94.1-1"));
        assert_eq!(of_upstream(listed, "1.95.0"), None);
        assert_eq!(of_upstream("", "1.95.0"), None);
    }
}
