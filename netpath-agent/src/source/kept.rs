//! What of the source outlives a reboot: small records of JSON below the agent's own folder, each with the version of its
//! shape and replaced whole. A record that is not understood is as good as none.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A record in its file.
#[derive(Serialize, Deserialize)]
struct Record<T> {
    version: u32,
    content: T,
}

/// The version alone: of another version nothing else can be read.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Reads a record; `None` if there is none.
///
/// # Errors
/// It cannot be read, or is of another version or shape; the text names the file and says what follows.
pub(super) fn read<T: DeserializeOwned>(path: &Path, version: u32) -> Result<Option<T>, String> {
    let file = || File::open(path).map(BufReader::new);
    let reader = match file() {
        Ok(reader) => reader,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let broken = |error: serde_json::Error| {
        format!(
            "{} cannot be understood and is not used: {error}; it is written anew once the API server answers",
            path.display()
        )
    };
    let Version { version: found } = serde_json::from_reader(reader).map_err(broken)?;
    if found != version {
        return Err(format!(
            "{} is of version {found}, this agent knows {version}: it is not used, and written anew once the API server \
             answers",
            path.display()
        ));
    }
    let reader = file().map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let record: Record<T> = serde_json::from_reader(reader).map_err(broken)?;
    Ok(Some(record.content))
}

/// Replaces a record: written beside it and renamed, so that it is whole whenever the node stops.
///
/// # Errors
/// It cannot be written; the text names the file and the flag.
pub(super) fn write<T: Serialize>(path: &Path, version: u32, content: &T) -> io::Result<()> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = BufWriter::new(File::create(&beside)?);
        serde_json::to_writer(&mut file, &Record { version, content })?;
        file.write_all(b"\n")?;
        file.into_inner()?.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|error| {
        let text = format!("cannot write {}: {error}; see --state-dir", path.display());
        io::Error::new(error.kind(), text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_no_other_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("numbers.json");
        assert_eq!(read::<Vec<u32>>(&path, 1), Ok(None));
        write(&path, 1, &vec![1, 2]).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"version\":1,\"content\":[1,2]}\n"
        );
        assert_eq!(read(&path, 1), Ok(Some(vec![1, 2])));
        write(&path, 1, &vec![3]).unwrap();
        assert_eq!(read(&path, 1), Ok(Some(vec![3])));
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["numbers.json"]);

        let error = read::<Vec<u32>>(&path, 2).unwrap_err();
        assert!(
            error.contains("numbers.json is of version 1, this agent knows 2"),
            "{error}"
        );
        fs::write(&path, "{\"version\":1,\"content\":[1,").unwrap();
        let error = read::<Vec<u32>>(&path, 1).unwrap_err();
        assert!(error.contains("numbers.json cannot be understood"), "{error}");
        let error = write(&folder.path().join("no/x.json"), 1, &0).unwrap_err().to_string();
        assert!(error.contains("no/x.json") && error.contains("--state-dir"), "{error}");
    }
}
