//! The upload volume: one directory per upload, named by its random id, with the bytes in a file called `data`.
//! A file called `installation` marks whose volume it is, so that a worker with the wrong mount says so instead of
//! failing jobs.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use crate::error::{Code, Error, Result};
use crate::id::{InstallationId, UploadId};

const MARKER: &str = "installation";
const DATA: &str = "data";
/// Bytes that are still arriving. Renamed to [`DATA`] once they are all there and durable.
const PART: &str = "data.part";

/// The upload volume.
#[derive(Debug, Clone)]
pub struct Storage {
    dir: PathBuf,
}

impl Storage {
    /// The volume in `dir`; touches nothing yet.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory of the volume.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the volume ours: creates the directory if missing and marks it. Refuses a volume of another installation.
    pub async fn mark(&self, installation: InstallationId) -> io::Result<()> {
        fs::create_dir_all(&self.dir).await?;
        match fs::read_to_string(self.dir.join(MARKER)).await {
            Ok(id) if id.trim() == installation.to_string() => Ok(()),
            Ok(id) => Err(io::Error::new(
                ErrorKind::AlreadyExists,
                format!("{} belongs to another installation ({})", self.dir.display(), id.trim()),
            )),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let part = self.dir.join(format!("{MARKER}.{}", std::process::id()));
                fs::write(&part, format!("{installation}\n")).await?;
                fs::rename(part, self.dir.join(MARKER)).await
            }
            Err(e) => Err(e),
        }
    }

    /// Whether this is the volume of `installation`, mounted and readable. Blocks: a dead network mount for ever.
    pub fn belongs_to(&self, installation: InstallationId) -> bool {
        std::fs::read_to_string(self.dir.join(MARKER)).is_ok_and(|id| id.trim() == installation.to_string())
    }

    /// Where the bytes of a complete upload lie.
    pub fn data_path(&self, id: UploadId) -> PathBuf {
        self.home(id).join(DATA)
    }

    /// Opens a place for the bytes of a new upload.
    pub async fn create(&self, id: UploadId) -> Result<Incoming> {
        let home = self.home(id);
        fs::create_dir(&home).await.map_err(wrong)?;
        let file = File::create_new(home.join(PART)).await.map_err(wrong)?;
        Ok(Incoming { home, file, written: 0 })
    }

    /// Erases whatever is stored of an upload. Erasing what is not there is no error.
    pub async fn remove(&self, id: UploadId) -> Result<()> {
        match fs::remove_dir_all(self.home(id)).await {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(wrong(e)),
            _ => Ok(()),
        }
    }

    /// Uploads that have had bytes here for longer than `age`.
    pub async fn list(&self, age: Duration) -> Result<Vec<UploadId>> {
        let mut found = Vec::new();
        let mut entries = fs::read_dir(&self.dir).await.map_err(wrong)?;
        while let Some(entry) = entries.next_entry().await.map_err(wrong)? {
            let Ok(id) = entry.file_name().to_string_lossy().parse() else { continue };
            let old =
                entry.metadata().await.and_then(|m| m.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|e| e > age));
            if old {
                found.push(id);
            }
        }
        Ok(found)
    }

    fn home(&self, id: UploadId) -> PathBuf {
        self.dir.join(id.to_string())
    }
}

/// An upload whose bytes are arriving. Dropping it leaves the bytes for the sweep.
#[derive(Debug)]
pub struct Incoming {
    home: PathBuf,
    file: File,
    written: u64,
}

impl Incoming {
    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes the next bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).await.map_err(wrong)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Makes all bytes durable under their final name and returns how many there are.
    pub async fn finish(mut self) -> Result<u64> {
        self.file.flush().await.map_err(wrong)?;
        self.file.sync_data().await.map_err(wrong)?;
        fs::rename(self.home.join(PART), self.home.join(DATA)).await.map_err(wrong)?;
        // the rename itself, and the directory in its parent
        for dir in [Some(self.home.as_path()), self.home.parent()].into_iter().flatten() {
            File::open(dir).await.map_err(wrong)?.sync_all().await.map_err(wrong)?;
        }
        Ok(self.written)
    }
}

fn wrong(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Error::new(
            Code::StorageFull,
            "The volume for uploads is full. Tell the operator; try again when there is room.",
        ),
        // the volume is gone or fails: a mount that went away, a disk that died
        ErrorKind::NotFound
        | ErrorKind::StaleNetworkFileHandle
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::TimedOut => Error::unavailable("The upload volume", error),
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            Error::unavailable("The upload volume", error)
        }
        _ => Error::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_appear_only_when_complete() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::new(dir.path().join("volume"));
        let (ours, other) = (InstallationId::new(), InstallationId::new());
        assert!(!storage.belongs_to(ours));
        storage.mark(ours).await.unwrap();
        storage.mark(ours).await.unwrap();
        assert!(storage.belongs_to(ours) && !storage.belongs_to(other));
        assert!(storage.mark(other).await.is_err());

        let id = UploadId::new();
        let mut incoming = storage.create(id).await.unwrap();
        incoming.write(b"abc").await.unwrap();
        incoming.write(b"de").await.unwrap();
        assert!(!storage.data_path(id).exists());
        assert_eq!(incoming.finish().await.unwrap(), 5);
        assert_eq!(std::fs::read(storage.data_path(id)).unwrap(), b"abcde");
        storage.remove(id).await.unwrap();
        storage.remove(id).await.unwrap();
        assert!(!storage.data_path(id).exists());
    }
}
