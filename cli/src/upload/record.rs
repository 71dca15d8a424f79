//! What is remembered of an upload between two runs of `probectl`: a small file per upload, mode 0600, locked while in use.
//!
//! Called by `upload`. Holds ids and sizes, never a key, an address or a file name. Old ones are pruned, and there are never
//! more than a bounded number. A file that cannot be read is as good as none: the upload begins again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use uuid::Uuid;

/// Most uploads that are remembered; the oldest go first.
const MOST: usize = 200;
/// Longest time that one is remembered without progress; the service has forgotten it long before.
const LONGEST: Duration = Duration::from_secs(14 * 24 * 3600);
/// Largest file that is read.
const MAX_BYTES: u64 = 64 * 1024;

/// A piece of the file and its upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Its id at the service.
    pub(super) id: String,
    /// Where it begins in the file.
    pub(super) start: u64,
    /// Where it ends in the file.
    pub(super) end: u64,
}

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    word: Uuid,
    parts: Vec<Part>,
    complete: Option<String>,
}

/// A record that this process holds.
#[derive(Debug)]
pub(super) struct Opened {
    record: Record,
    place: Option<Place>,
}

/// Where a record is kept. The lock goes with the process.
#[derive(Debug)]
struct Place {
    file: PathBuf,
    lock: PathBuf,
    _held: File,
}

impl Record {
    fn new() -> Self {
        Self { word: Uuid::new_v4(), parts: Vec::new(), complete: None }
    }

    /// Takes the record of `key` beneath `memory`, an empty one if there is none; without `memory` it is not kept.
    ///
    /// # Errors
    /// When another process has it, or the place cannot be used.
    pub(super) fn open(memory: Option<&Path>, key: &str) -> Result<Opened> {
        let place = match memory {
            Some(memory) => Some(Place::take(memory, key)?),
            None => None,
        };
        let kept = place.as_ref().and_then(|place| read(&place.file));
        Ok(Opened { record: kept.unwrap_or_else(Self::new), place })
    }
}

impl Opened {
    /// The parts it is sent in; none when it has not begun.
    pub(super) fn parts(&self) -> &[Part] {
        &self.record.parts
    }

    /// The id of the complete upload.
    pub(super) fn complete(&self) -> Option<&str> {
        self.record.complete.as_deref()
    }

    /// A word that no other upload has.
    pub(super) fn word(&self) -> String {
        self.record.word.to_string()
    }

    /// Remembers the parts.
    pub(super) fn begin(&mut self, parts: Vec<Part>) -> Result<()> {
        self.record.parts = parts;
        self.write()
    }

    /// Remembers that all of it is there, as the upload `id`.
    pub(super) fn finish(&mut self, id: &str) -> Result<()> {
        self.record.complete = Some(id.to_owned());
        self.write()
    }

    /// Forgets everything, and stays open for a new start.
    pub(super) fn clear(&mut self) -> Result<()> {
        self.record = Record::new();
        self.place.as_ref().map_or(Ok(()), |place| remove(&place.file))
    }

    /// Forgets everything for good.
    pub(super) fn forget(mut self) -> Result<()> {
        self.clear()?;
        self.place.as_ref().map_or(Ok(()), |place| remove(&place.lock))
    }

    fn write(&self) -> Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        let context = || format!("cannot remember the upload in {}", place.file.display());
        let folder = place.file.parent().with_context(context)?;
        // a temporary file of this crate has mode 0600 from the beginning
        let mut file = NamedTempFile::new_in(folder).with_context(context)?;
        serde_json::to_writer(&mut file, &self.record).with_context(context)?;
        file.flush().with_context(context)?;
        file.persist(&place.file).with_context(context)?;
        Ok(())
    }
}

impl Place {
    fn take(memory: &Path, key: &str) -> Result<Self> {
        let context = || format!("cannot remember uploads in {}", memory.display());
        DirBuilder::new().recursive(true).mode(0o700).create(memory).with_context(context)?;
        prune(memory);
        let name =
            Sha256::digest(key.as_bytes()).iter().take(16).fold(String::new(), |name, b| name + &format!("{b:02x}"));
        let (file, lock) = (memory.join(format!("{name}.json")), memory.join(format!("{name}.lock")));
        let mut options = OpenOptions::new();
        let held = options.write(true).create(true).truncate(false).mode(0o600).open(&lock).with_context(context)?;
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                held.set_modified(SystemTime::now()).with_context(context)?;
                Ok(Self { file, lock, _held: held })
            }
            Err(Errno::WOULDBLOCK) => bail!("another probectl is uploading it at this moment; wait for it, or stop it"),
            Err(error) => Err(error).with_context(context),
        }
    }
}

fn read(file: &Path) -> Option<Record> {
    let about = fs::metadata(file).ok().filter(|about| about.len() <= MAX_BYTES)?;
    about.is_file().then(|| fs::read(file).ok())?.and_then(|bytes| serde_json::from_slice(&bytes).ok())
}

fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Removes what is too old, then the oldest beyond the bound. Best effort: the next run tries again.
fn prune(memory: &Path) {
    let Ok(entries) = fs::read_dir(memory) else { return };
    let mut found: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter(|entry| Path::new(&entry.file_name()).extension().is_some_and(|e| e == "lock"))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    for (number, (modified, lock)) in found.iter().enumerate() {
        let old = modified.elapsed().is_ok_and(|age| age > LONGEST);
        // one in use is held; whoever holds it removes it
        let free = || File::open(lock).is_ok_and(|f| flock(&f, FlockOperation::NonBlockingLockExclusive).is_ok());
        if (old || number >= MOST) && free() {
            let _ = fs::remove_file(lock.with_extension("json"));
            let _ = fs::remove_file(lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn part() -> Part {
        Part { id: "a".into(), start: 0, end: 9 }
    }

    #[test]
    fn what_is_remembered_is_private_and_held_once() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("resume");
        let mut first = Record::open(Some(&memory), "k").unwrap();
        let word = first.word();
        first.begin(vec![part()]).unwrap();
        assert!(Record::open(Some(&memory), "k").unwrap_err().to_string().contains("another probectl"));
        Record::open(Some(&memory), "other").unwrap();
        for entry in fs::read_dir(&memory).unwrap().flatten() {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
        drop(first);
        let mut again = Record::open(Some(&memory), "k").unwrap();
        assert_eq!((again.parts(), again.word()), ([part()].as_slice(), word.clone()));
        again.finish("b").unwrap();
        assert_eq!(again.complete(), Some("b"));
        again.forget().unwrap();
        let anew = Record::open(Some(&memory), "k").unwrap();
        assert!(anew.parts().is_empty() && anew.complete().is_none() && anew.word() != word);
    }

    #[test]
    fn what_cannot_be_read_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::open(Some(folder.path()), "k").unwrap();
        record.begin(vec![part()]).unwrap();
        let file = record.place.as_ref().unwrap().file.clone();
        drop(record);
        for torn in ["", "{", "{\"parts\": 1}", &" ".repeat(100_000)] {
            fs::write(&file, torn).unwrap();
            assert!(Record::open(Some(folder.path()), "k").unwrap().parts().is_empty());
        }
    }

    #[test]
    fn the_old_and_the_many_are_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path();
        let mut old = Record::open(Some(memory), "old").unwrap();
        old.begin(vec![part()]).unwrap();
        let lock = old.place.as_ref().unwrap().lock.clone();
        File::open(&lock).unwrap().set_modified(SystemTime::now() - 2 * LONGEST).unwrap();
        drop(Record::open(Some(memory), "x").unwrap());
        assert!(lock.exists(), "it is held");
        drop(old);
        for n in 0..MOST + 5 {
            drop(Record::open(Some(memory), &n.to_string()).unwrap());
        }
        assert!(!lock.exists() && !lock.with_extension("json").exists());
        assert!(fs::read_dir(memory).unwrap().count() <= MOST + 1);
    }
}
