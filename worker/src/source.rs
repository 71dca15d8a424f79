//! Sources: how a worker opens the bytes of a job. Called by the worker's probe. Everything here blocks (a dead NFS
//! server makes it block for ever), so callers use `spawn_blocking` and a time limit; nothing here is read or decoded.

pub mod path;
pub mod remote;
pub mod upload;

use std::fs::File;
use std::io;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use shared::job::{Failure, FailureCode};

pub use path::MediaRoots;

/// How every input is opened: never created or written, never waited for (a pipe without a writer blocks), never a
/// terminal of ours.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// An input, open for reading.
#[derive(Debug)]
pub struct OpenInput {
    /// The regular file.
    pub file: File,
    /// Bytes it has now. More may be written later.
    pub size: u64,
    /// Its name for the client, without directories.
    pub name: String,
}

impl OpenInput {
    /// Takes a file just opened with [`FLAGS`] if it is one that can be probed.
    fn check(file: File, name: &str) -> Result<Self, Failure> {
        let about = |error: io::Error| failed(&error, name);
        let metadata = file.metadata().map_err(about)?;
        if !metadata.is_file() {
            return Err(Failure::new(FailureCode::NotAFile, format!("'{name}' is not a regular file.")));
        }
        if metadata.len() == 0 {
            return Err(Failure::new(FailureCode::EmptyInput, format!("'{name}' has 0 bytes.")));
        }
        let flags = fcntl_getfl(&file).map_err(|e| about(e.into()))?;
        fcntl_setfl(&file, flags - OFlags::NONBLOCK).map_err(|e| about(e.into()))?;
        Ok(Self { size: metadata.len(), file, name: name.to_owned() })
    }
}

/// What an error of the file system means for the job, besides "not found", which each source sees its own way.
fn failed(error: &io::Error, name: &str) -> Failure {
    use FailureCode as C;
    let (code, message) = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => (C::PermissionDenied, format!("The worker's user may not read '{name}'.")),
        Some(Errno::XDEV) => (C::OutsideRoot, format!("'{name}' leads out of its media root.")),
        Some(Errno::LOOP) => {
            (C::OutsideRoot, format!("'{name}' goes through too many symbolic links, or one that names no place."))
        }
        Some(Errno::NXIO | Errno::NODEV | Errno::ISDIR) => (C::NotAFile, format!("'{name}' is not a regular file.")),
        Some(Errno::NOSYS) => {
            tracing::error!(%error, "this kernel cannot open a file beneath a directory (openat2, Linux 5.6)");
            (C::WorkerMisconfigured, "The worker's kernel is too old to open files safely.".to_owned())
        }
        _ => {
            tracing::warn!(%error, "the storage of an input fails");
            (C::StorageError, format!("The storage of '{name}' answered: {error}."))
        }
    };
    Failure::new(code, message)
}
