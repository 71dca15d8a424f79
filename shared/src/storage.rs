//! Where the bytes of uploads lie: one place per upload, under its random id. The rows in PostgreSQL say which bytes count;
//! what lies here beyond them is cut off when the upload goes on.
//!
//! Called by the API (writes), the workers (read) and upkeep (erases). A backend is a variant of [`Storage`] and of
//! [`Appending`]. No file call runs on the runtime's threads.

mod local;
mod s3;

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{ConfigError, S3Place, S3Profile, StoragePlace};
use crate::error::{Code, Error, Result};
use crate::id::{InstallationId, UploadId};
use crate::upload::Hasher;

/// The storage of uploads.
#[derive(Debug, Clone)]
pub enum Storage {
    /// A directory that every API and worker has mounted.
    Local(local::Volume),
    /// A place in a bucket.
    S3(s3::Bucket),
}

/// Where the bytes of a complete upload can be read.
#[derive(Debug, Clone)]
pub enum Place<'a> {
    /// In a file.
    File(PathBuf),
    /// In an object.
    Object {
        /// With these keys.
        profile: &'a S3Profile,
        /// In this bucket.
        bucket: &'a str,
        /// By this key.
        key: String,
    },
}

/// An upload whose bytes are arriving, held by this process alone. Dropping it keeps the bytes. A call that was begun comes
/// to its end though nobody polls it any more, and calls that wait for each other get on.
#[derive(Debug, Clone)]
pub enum Appending {
    /// A file.
    Local(local::Tail),
    /// Parts of an object.
    S3(s3::Tail),
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

    /// The storage in this place; touches nothing yet.
    pub fn open(place: StoragePlace) -> io::Result<Self> {
        Ok(match place {
            StoragePlace::Directory(dir) => Self::new(dir),
            StoragePlace::S3(place) => Self::S3(s3::Bucket::new(*place)?),
        })
    }

    /// The most bytes of one upload that it can take, where there is such a bound.
    pub fn most_bytes(&self) -> Option<u64> {
        match self {
            Self::Local(_) => None,
            Self::S3(_) => Some(s3::MOST_BYTES),
        }
    }

    /// Refuses uploads so large that they could be begun and not ended.
    pub fn check_limit(&self, max_upload_bytes: u64) -> Result<(), ConfigError> {
        match self.most_bytes() {
            Some(most) if max_upload_bytes > most => Err(ConfigError::new(
                "MAX_UPLOAD_BYTES",
                format!("{max_upload_bytes} bytes are more than an object that is made of parts can have here"),
                format!("set it to {most} at most, or keep uploads on a volume (STORAGE_URL)"),
            )),
            _ => Ok(()),
        }
    }

    /// Whether this object of a bucket is one of the storage's own, which no job may name.
    pub fn holds(&self, bucket: &str, key: &str) -> bool {
        match self {
            Self::Local(_) => false,
            Self::S3(own) => own.place().holds(bucket, key),
        }
    }

    /// Makes the storage ours: marks it, and refuses one of another installation.
    pub async fn mark(&self, installation: InstallationId) -> io::Result<()> {
        match self {
            Self::Local(volume) => volume.mark(installation).await,
            Self::S3(bucket) => bucket.mark(installation).await,
        }
    }

    /// Whether this is the storage of `installation`, there and readable. Blocks: a dead network mount for ever.
    pub fn belongs_to(&self, installation: InstallationId) -> bool {
        match self {
            Self::Local(volume) => volume.belongs_to(installation),
            Self::S3(bucket) => bucket.belongs_to(installation),
        }
    }

    /// Whether it can be reached at all. Blocks like [`Self::belongs_to`].
    pub fn is_there(&self) -> bool {
        match self {
            Self::Local(volume) => volume.dir().is_dir(),
            Self::S3(bucket) => bucket.is_there(),
        }
    }

    /// Where the bytes of a complete upload lie.
    pub fn place(&self, id: UploadId) -> Place<'_> {
        match self {
            Self::Local(volume) => Place::File(volume.data_path(id)),
            Self::S3(own) => {
                let S3Place { profile, bucket, .. } = own.place();
                Place::Object { profile, bucket, key: own.data_key(id) }
            }
        }
    }

    /// Opens a place for the bytes of a new upload.
    pub async fn create(&self, id: UploadId) -> Result<Appending> {
        match self {
            Self::Local(volume) => volume.create(id).await.map(Appending::Local),
            Self::S3(bucket) => bucket.create(id).await.map(Appending::S3),
        }
    }

    /// Goes on with an upload of which `received` bytes count; what lies beyond is cut off. Returns how many bytes there
    /// really are: fewer if the storage lost some. Refuses one that another process still writes to.
    pub async fn append(&self, id: UploadId, received: u64) -> Result<(Appending, u64)> {
        match self {
            Self::Local(volume) => volume.append(id, received).await.map(|(tail, at)| (Appending::Local(tail), at)),
            Self::S3(bucket) => bucket.append(id, received).await.map(|(tail, at)| (Appending::S3(tail), at)),
        }
    }

    /// How many bytes lie here, at most `received`; none if nothing does.
    pub async fn stored(&self, id: UploadId, received: u64) -> Result<u64> {
        match self {
            Self::Local(volume) => volume.stored(id, received).await,
            Self::S3(bucket) => bucket.stored(id, received).await,
        }
    }

    /// Whether anything is stored of an upload.
    pub async fn exists(&self, id: UploadId) -> Result<bool> {
        match self {
            Self::Local(volume) => volume.exists(id).await,
            Self::S3(bucket) => bucket.exists(id).await,
        }
    }

    /// Makes one readable whole of an upload's `size` bytes, all of which are durable. Repeating it changes nothing. Until
    /// then a bucket gives back only the first bytes and those that were synced and do not count yet; a file gives all.
    pub async fn complete(&self, id: UploadId, size: u64) -> Result<()> {
        match self {
            Self::Local(_) => Ok(()),
            Self::S3(bucket) => bucket.complete(id, size).await,
        }
    }

    /// The first bytes of an upload, at most `most`.
    pub async fn head(&self, id: UploadId, most: usize) -> Result<Vec<u8>> {
        match self {
            Self::Local(volume) => volume.head(id, most).await,
            Self::S3(bucket) => bucket.head(id, most).await,
        }
    }

    /// Feeds up to `most` bytes from `at` to the digest and returns it, and how many bytes there were.
    pub async fn digest(&self, id: UploadId, at: u64, most: u64, hasher: Hasher) -> Result<(Hasher, u64)> {
        match self {
            Self::Local(volume) => volume.digest(id, at, most, hasher).await,
            Self::S3(bucket) => bucket.digest(id, at, most, hasher).await,
        }
    }

    /// Bytes that are free; `None` where nobody can say.
    pub async fn free_bytes(&self) -> Result<Option<u64>> {
        match self {
            Self::Local(volume) => volume.free_bytes().await.map(Some),
            Self::S3(_) => Ok(None),
        }
    }

    /// Erases whatever is stored of an upload. Erasing what is not there is no error.
    pub async fn remove(&self, id: UploadId) -> Result<()> {
        match self {
            Self::Local(volume) => volume.remove(id).await,
            Self::S3(bucket) => bucket.remove(id).await,
        }
    }

    /// Uploads that have had bytes here for longer than `age`.
    pub async fn list(&self, age: Duration) -> Result<Vec<UploadId>> {
        match self {
            Self::Local(volume) => volume.list(age).await,
            Self::S3(bucket) => bucket.list(age).await,
        }
    }
}

impl Appending {
    /// Takes a batch and gives it back, its bytes still inside for the sake of their memory. After an error nothing is
    /// known of the bytes from [`Batch::at`] on.
    pub async fn write(&self, batch: Batch) -> Result<Batch> {
        match self {
            Self::Local(tail) => tail.write(batch).await,
            Self::S3(tail) => tail.write(batch).await,
        }
    }

    /// Makes everything written durable.
    pub async fn sync(&self) -> Result<()> {
        match self {
            Self::Local(tail) => tail.sync().await,
            Self::S3(tail) => tail.sync().await,
        }
    }

    /// The row counts so many bytes by now. A storage that keeps bytes twice until then need not any longer.
    pub fn counted(&self, bytes: u64) {
        match self {
            Self::Local(_) => {}
            Self::S3(tail) => tail.counted(bytes),
        }
    }

    /// Cuts off what lies beyond `length` bytes.
    pub async fn truncate(&self, length: u64) -> Result<()> {
        match self {
            Self::Local(tail) => tail.truncate(length).await,
            Self::S3(tail) => tail.truncate(length).await,
        }
    }

    /// Copies up to `most` bytes of another upload, from `from` on, to `at`. Returns how many there were; not durable yet.
    pub async fn copy(&self, part: UploadId, from: u64, at: u64, most: u64) -> Result<u64> {
        match self {
            Self::Local(tail) => tail.copy(part, from, at, most).await,
            Self::S3(tail) => tail.copy(part, from, at, most).await,
        }
    }
}

impl std::fmt::Display for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local(volume) => volume.dir().display().fmt(f),
            Self::S3(bucket) => bucket.place().fmt(f),
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
