//! Where the bytes of uploads lie: one place per upload, under its random id. The rows in PostgreSQL say which bytes count;
//! what lies here beyond them is cut off when the upload goes on.
//!
//! Called by the API (writes), the workers (read) and upkeep (erases). A backend is a variant of [`Storage`] and of
//! [`Appending`]. No file call runs on the runtime's threads.

mod local;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::id::{InstallationId, UploadId};
use crate::upload::Hasher;

/// The storage of uploads.
#[derive(Debug, Clone)]
pub enum Storage {
    /// A directory that every API and worker has mounted.
    Local(local::Volume),
}

/// An upload whose bytes are arriving, held by this process alone. Dropping it keeps the bytes.
#[derive(Debug, Clone)]
pub enum Appending {
    /// A file.
    Local(local::Tail),
}

/// Bytes on their way to the storage, and the digests that are taken of them on the way.
#[derive(Debug)]
pub struct Batch {
    /// Where they go.
    pub at: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Takes the bytes if a digest of the request is wanted.
    pub request: Option<Hasher>,
    /// Takes the bytes if a digest of the whole is wanted.
    pub whole: Option<Hasher>,
}

impl Storage {
    /// The volume in `dir`; touches nothing yet.
    pub fn new(dir: PathBuf) -> Self {
        Self::Local(local::Volume::new(dir))
    }

    /// The directory of the volume.
    pub fn dir(&self) -> &Path {
        match self {
            Self::Local(volume) => volume.dir(),
        }
    }

    /// Makes the storage ours: marks it, and refuses one of another installation.
    pub async fn mark(&self, installation: InstallationId) -> io::Result<()> {
        match self {
            Self::Local(volume) => volume.mark(installation).await,
        }
    }

    /// Whether this is the storage of `installation`, there and readable. Blocks: a dead network mount for ever.
    pub fn belongs_to(&self, installation: InstallationId) -> bool {
        match self {
            Self::Local(volume) => volume.belongs_to(installation),
        }
    }

    /// Where the bytes of a complete upload lie.
    pub fn data_path(&self, id: UploadId) -> PathBuf {
        match self {
            Self::Local(volume) => volume.data_path(id),
        }
    }

    /// Opens a place for the bytes of a new upload.
    pub async fn create(&self, id: UploadId) -> Result<Appending> {
        match self {
            Self::Local(volume) => volume.create(id).await.map(Appending::Local),
        }
    }

    /// Goes on with an upload of which `received` bytes count; what lies beyond is cut off. Returns how many bytes there
    /// really are: fewer if the storage lost some. Refuses one that another process still writes to.
    pub async fn append(&self, id: UploadId, received: u64) -> Result<(Appending, u64)> {
        match self {
            Self::Local(volume) => volume.append(id, received).await.map(|(tail, at)| (Appending::Local(tail), at)),
        }
    }

    /// How many bytes lie here, at most `received`; none if nothing does.
    pub async fn stored(&self, id: UploadId, received: u64) -> Result<u64> {
        match self {
            Self::Local(volume) => volume.stored(id, received).await,
        }
    }

    /// Whether anything is stored of an upload.
    pub async fn exists(&self, id: UploadId) -> Result<bool> {
        match self {
            Self::Local(volume) => volume.exists(id).await,
        }
    }

    /// The first bytes of an upload, at most `most`.
    pub async fn head(&self, id: UploadId, most: usize) -> Result<Vec<u8>> {
        match self {
            Self::Local(volume) => volume.head(id, most).await,
        }
    }

    /// Feeds up to `most` bytes from `at` to the digest and returns it, and how many bytes there were.
    pub async fn digest(&self, id: UploadId, at: u64, most: u64, hasher: Hasher) -> Result<(Hasher, u64)> {
        match self {
            Self::Local(volume) => volume.digest(id, at, most, hasher).await,
        }
    }

    /// Bytes that are free; `None` where nobody can say.
    pub async fn free_bytes(&self) -> Result<Option<u64>> {
        match self {
            Self::Local(volume) => volume.free_bytes().await.map(Some),
        }
    }

    /// Erases whatever is stored of an upload. Erasing what is not there is no error.
    pub async fn remove(&self, id: UploadId) -> Result<()> {
        match self {
            Self::Local(volume) => volume.remove(id).await,
        }
    }

    /// Uploads that have had bytes here for longer than `age`.
    pub async fn list(&self, age: Duration) -> Result<Vec<UploadId>> {
        match self {
            Self::Local(volume) => volume.list(age).await,
        }
    }
}

impl Appending {
    /// Takes a batch and gives it back, its bytes still inside for the sake of their memory. After an error nothing is
    /// known of the bytes from [`Batch::at`] on.
    pub async fn write(&self, batch: Batch) -> Result<Batch> {
        match self {
            Self::Local(tail) => tail.write(batch).await,
        }
    }

    /// Makes everything written durable.
    pub async fn sync(&self) -> Result<()> {
        match self {
            Self::Local(tail) => tail.sync().await,
        }
    }

    /// Cuts off what lies beyond `length` bytes.
    pub async fn truncate(&self, length: u64) -> Result<()> {
        match self {
            Self::Local(tail) => tail.truncate(length).await,
        }
    }

    /// Copies up to `most` bytes of another upload, from `from` on, to `at`. Returns how many there were; not durable yet.
    pub async fn copy(&self, part: UploadId, from: u64, at: u64, most: u64) -> Result<u64> {
        match self {
            Self::Local(tail) => tail.copy(part, from, at, most).await,
        }
    }
}

/// What a failure of the storage means for a request.
fn wrong(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => full(),
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

/// There is no room.
pub fn full() -> Error {
    Error::new(Code::StorageFull, "The volume for uploads is full. Tell the operator; try again when there is room.")
}
