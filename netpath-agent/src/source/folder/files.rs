//! The folder's files: found, read when they changed, and kept as they were where they cannot be read.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    model::Problem,
    source::documents::{self, Entry},
};

/// A larger file is refused: ten thousand services with their slices take a third of this.
const LARGEST: u64 = 32 << 20;
/// A file that changed so recently may change again without its times telling.
const FRESH: Duration = Duration::from_secs(1);
/// What to do about a file that is kept as it was.
const MEND: &str = "mend the file; what it said before is kept until then";
/// What to do about a file that nobody has been able to read yet.
const MEND_OR_REMOVE: &str = "mend the file, or remove it";

/// All files of a folder.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    /// By path, which decides between two that say the same.
    pub files: BTreeMap<PathBuf, File>,
    /// What is wrong with folders.
    pub problems: Vec<Problem>,
    /// Of these, what is wrong with folders of which no file is known.
    pub unread: Vec<Problem>,
    /// Whether the last look found files that had to be read.
    pub have_been_read: bool,
}

/// A file, as it was read last.
#[derive(Debug, Default)]
pub(super) struct File {
    stamp: Option<Stamp>,
    /// Its objects.
    pub entries: Vec<Entry>,
    /// Why they are earlier ones.
    pub problem: Option<Problem>,
    /// Whether it could be read at least once.
    known: bool,
}

/// What tells that a file is still the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What a walk found.
#[derive(Debug, Default)]
struct Found {
    files: Vec<PathBuf>,
    /// Folders below the root that could not be listed: their files are unknown, not gone.
    unlisted: Vec<(PathBuf, io::Error)>,
}

impl Files {
    /// Reads the folder for the first time.
    ///
    /// # Errors
    /// It is missing or cannot be listed.
    pub fn open(root: &Path) -> io::Result<Self> {
        let found = walk(root)?;
        let mut files = Self {
            root: root.to_owned(),
            files: BTreeMap::new(),
            problems: Vec::new(),
            unread: Vec::new(),
            have_been_read: false,
        };
        files.take(found);
        Ok(files)
    }

    /// Reads what changed since. Tells whether anything did.
    pub fn read_again(&mut self) -> bool {
        self.have_been_read = false;
        match walk(&self.root) {
            Ok(found) if found.files.is_empty() && found.unlisted.is_empty() && !self.files.is_empty() => self
                .keep_all(
                    "it holds no .yaml or .yml file any more",
                    "put the files back; to take everything off the node, stop the agent and run `netpath uninstall`",
                ),
            Ok(found) => self.take(found),
            Err(error) => self.keep_all(&error.to_string(), "make the folder readable again"),
        }
    }

    /// Leaves all as it was, with a problem of the folder's.
    fn keep_all(&mut self, what: &str, remedy: &str) -> bool {
        let what = format!("{what}; all that it said before is kept");
        let problems = vec![Problem::refused_global(
            "Folder",
            self.root.display().to_string(),
            what,
            remedy,
        )];
        let news = self.problems != problems;
        self.problems = problems;
        news
    }

    fn take(&mut self, found: Found) -> bool {
        let mut earlier = std::mem::take(&mut self.files);
        let mut news = false;
        for path in found.files {
            let mut file = earlier.remove(&path).unwrap_or_else(|| {
                news = true;
                File::default()
            });
            if let Some(differs) = file.read_again(&path) {
                self.have_been_read = true;
                news |= differs;
            }
            self.files.insert(path, file);
        }
        for (path, file) in earlier {
            if found.unlisted.iter().any(|(folder, _)| path.starts_with(folder)) {
                self.files.insert(path, file);
            } else {
                news = true;
            }
        }
        let (mut problems, mut unread) = (Vec::new(), Vec::new());
        for (folder, error) in found.unlisted {
            let known = self.files.keys().any(|path| path.starts_with(&folder));
            let what = match known {
                true => format!("{error}; what its files said before is kept"),
                false => error.to_string(),
            };
            let problem = Problem::refused_global(
                "Folder",
                folder.display().to_string(),
                what,
                "make the folder readable again",
            );
            if !known {
                unread.push(problem.clone());
            }
            problems.push(problem);
        }
        self.unread = unread;
        news |= self.problems != problems;
        self.problems = problems;
        news
    }
}

impl File {
    /// Reads the file, if it may have changed. Tells whether it did; `None` if it was not read.
    fn read_again(&mut self, path: &Path) -> Option<bool> {
        let read = match Stamp::of(path) {
            Ok((stamp, _)) if self.stamp.as_ref() == Some(&stamp) => return None,
            Ok((stamp, settled)) => {
                self.stamp = settled.then_some(stamp);
                read(path)
            }
            Err(what) => {
                self.stamp = None;
                Err(what)
            }
        };
        Some(match read {
            Ok(entries) if entries.is_empty() && !self.entries.is_empty() => self.break_off(
                path,
                "it holds no object any more".into(),
                "put them back, or remove the file",
            ),
            Ok(mut entries) => {
                keep(&mut entries, &self.entries);
                let news = self.problem.is_some() || entries != self.entries;
                (self.entries, self.problem, self.known) = (entries, None, true);
                news
            }
            Err(what) if self.known => self.break_off(path, what, MEND),
            Err(what) => self.break_off(path, what, MEND_OR_REMOVE),
        })
    }

    /// Why it could not be read even once.
    pub fn unread(&self) -> Option<&Problem> {
        self.problem.as_ref().filter(|_| !self.known)
    }

    /// Leaves the objects as they were.
    fn break_off(&mut self, path: &Path, what: String, remedy: &str) -> bool {
        let problem = Some(Problem::refused_global(
            "File",
            path.display().to_string(),
            what,
            remedy,
        ));
        let news = self.problem != problem;
        self.problem = problem;
        news
    }
}

/// An object that cannot be understood any more keeps its earlier self. So does one that is as it was: a cluster that was made of
/// it holds that one, and no other is held beside it.
fn keep(entries: &mut [Entry], earlier: &[Entry]) {
    let earlier: BTreeMap<_, _> = earlier
        .iter()
        .map(|entry| ((entry.content.kind(), &entry.name), entry))
        .collect();
    for entry in entries {
        let Some(before) = earlier.get(&(entry.content.kind(), &entry.name)) else {
            continue;
        };
        if entry.problem.is_some() || entry.content == before.content {
            (entry.name, entry.content) = (before.name.clone(), before.content.clone());
        }
    }
}

impl Stamp {
    /// The stamp, and whether it will tell of the next change.
    fn of(path: &Path) -> Result<(Self, bool), String> {
        let meta = fs::metadata(path).map_err(|error| error.to_string())?;
        if !meta.is_file() {
            return Err("it is not a regular file".into());
        }
        if meta.len() > LARGEST {
            return Err(format!("it has {} bytes, more than {LARGEST}: split it", meta.len()));
        }
        let age = meta
            .modified()
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        let stamp = Self {
            device: meta.dev(),
            inode: meta.ino(),
            length: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        };
        Ok((stamp, age.is_some_and(|age| age > FRESH)))
    }
}

fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes)
        .map_err(|error| format!("it is not text: byte {} is not UTF-8", error.utf8_error().valid_up_to()))?;
    documents::read(&text).map_err(|fault| format!("document {}: {}", fault.document, fault.what))
}

/// All YAML files below a folder. Names that begin with a dot are passed over: editors keep drafts there, and kubelets the
/// true folders behind a mounted ConfigMap's links.
fn walk(root: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let mut seen = HashSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        match list(&folder, &mut seen, &mut folders, &mut found.files) {
            Err(error) if folder == root => return Err(error),
            Err(error) => found.unlisted.push((folder, error)),
            Ok(()) => {}
        }
    }
    found.files.sort_unstable();
    Ok(found)
}

fn list(
    folder: &Path,
    seen: &mut HashSet<PathBuf>,
    folders: &mut Vec<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> io::Result<()> {
    // A link may lead back up, or twice to the same.
    if !seen.insert(fs::canonicalize(folder)?) {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            folders.push(path);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
        {
            files.push(path);
        }
    }
    Ok(())
}
