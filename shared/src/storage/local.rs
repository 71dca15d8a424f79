//! A directory as the storage of uploads: one directory per upload, with the bytes in a file called `data`. A file called
//! `installation` marks whose volume it is, so that a worker with the wrong mount says so instead of failing jobs.
//! Every call that may block runs on a blocking thread, once per batch. Whoever writes holds an advisory lock on the file,
//! so that a late write of a process that lost its hold cannot meet the next writer's.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::{Batch, wrong};
use crate::error::{Code, Error, Result};
use crate::id::{InstallationId, UploadId};
use crate::upload::Hasher;

const MARKER: &str = "installation";
const DATA: &str = "data";
/// How often, and how many times, a file is asked for that somebody still writes to: two seconds in all.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
const LOCK_TRIES: u32 = 40;
/// Bytes read at once for a digest.
const READ: usize = 256 * 1024;

/// The volume.
#[derive(Debug, Clone)]
pub struct Volume {
    dir: PathBuf,
}

/// The end of a file that grows.
#[derive(Debug, Clone)]
pub struct Tail {
    file: Arc<File>,
    volume: Volume,
}

impl Volume {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) async fn mark(&self, installation: InstallationId) -> io::Result<()> {
        let this = self.clone();
        let marked = move || {
            fs::create_dir_all(&this.dir)?;
            match fs::read_to_string(this.dir.join(MARKER)) {
                Ok(id) if id.trim() == installation.to_string() => Ok(()),
                Ok(id) => Err(io::Error::new(
                    ErrorKind::AlreadyExists,
                    format!("{} belongs to another installation ({})", this.dir.display(), id.trim()),
                )),
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    let part = this.dir.join(format!("{MARKER}.{}", std::process::id()));
                    fs::write(&part, format!("{installation}\n"))?;
                    fs::rename(part, this.dir.join(MARKER))
                }
                Err(e) => Err(e),
            }
        };
        spawn_blocking(marked).await.map_err(io::Error::other)?
    }

    pub(super) fn belongs_to(&self, installation: InstallationId) -> bool {
        fs::read_to_string(self.dir.join(MARKER)).is_ok_and(|id| id.trim() == installation.to_string())
    }

    pub(super) fn data_path(&self, id: UploadId) -> PathBuf {
        self.home(id).join(DATA)
    }

    fn home(&self, id: UploadId) -> PathBuf {
        self.dir.join(id.to_string())
    }

    pub(super) async fn create(&self, id: UploadId) -> Result<Tail> {
        let this = self.clone();
        let file = blocking(move || {
            let home = this.home(id);
            fs::create_dir(&home)?;
            let file = File::create_new(home.join(DATA))?;
            lock(&file)?;
            // the file's entry in its directory, and the directory's in its parent
            for dir in [&home, &this.dir] {
                File::open(dir)?.sync_all()?;
            }
            Ok(file)
        });
        Ok(Tail { file: Arc::new(file.await?), volume: self.clone() })
    }

    pub(super) async fn append(&self, id: UploadId, received: u64) -> Result<(Tail, u64)> {
        for _ in 0..LOCK_TRIES {
            let path = self.data_path(id);
            let opened = blocking(move || {
                let file = OpenOptions::new().read(true).write(true).open(path)?;
                if !lock(&file)? {
                    return Ok(None);
                }
                let stored = file.metadata()?.len();
                if stored > received {
                    file.set_len(received)?;
                }
                Ok(Some((file, stored.min(received))))
            });
            if let Some((file, at)) = opened.await? {
                return Ok((Tail { file: Arc::new(file), volume: self.clone() }, at));
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        let detail = "Another request still writes to the upload and does not answer. Try again in some seconds.";
        Err(Error::new(Code::UploadLocked, detail))
    }

    pub(super) async fn stored(&self, id: UploadId, received: u64) -> Result<u64> {
        let path = self.data_path(id);
        blocking(move || match fs::metadata(path) {
            Ok(data) => Ok(data.len().min(received)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(0),
            Err(e) => Err(e),
        })
        .await
    }

    pub(super) async fn exists(&self, id: UploadId) -> Result<bool> {
        let path = self.data_path(id);
        blocking(move || path.try_exists()).await
    }

    pub(super) async fn head(&self, id: UploadId, most: usize) -> Result<Vec<u8>> {
        let path = self.data_path(id);
        blocking(move || {
            let mut head = Vec::new();
            File::open(path)?.take(most as u64).read_to_end(&mut head)?;
            Ok(head)
        })
        .await
    }

    pub(super) async fn digest(&self, id: UploadId, at: u64, most: u64, mut hasher: Hasher) -> Result<(Hasher, u64)> {
        let path = self.data_path(id);
        blocking(move || {
            let file = File::open(path)?;
            let (mut buffer, mut done) = (vec![0; READ], 0);
            while done < most {
                let wanted = usize::try_from(most - done).unwrap_or(READ).min(READ);
                let got = file.read_at(&mut buffer[..wanted], at + done)?;
                if got == 0 {
                    break;
                }
                hasher.update(&buffer[..got]);
                done += got as u64;
            }
            Ok((hasher, done))
        })
        .await
    }

    pub(super) async fn free_bytes(&self) -> Result<u64> {
        let dir = self.dir.clone();
        blocking(move || {
            let disk = rustix::fs::statvfs(dir)?;
            Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
        })
        .await
    }

    pub(super) async fn remove(&self, id: UploadId) -> Result<()> {
        let home = self.home(id);
        blocking(move || match fs::remove_dir_all(home) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        })
        .await
    }

    pub(super) async fn list(&self, age: Duration) -> Result<Vec<UploadId>> {
        let dir = self.dir.clone();
        blocking(move || {
            let mut found = Vec::new();
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                let Ok(id) = entry.file_name().to_string_lossy().parse() else { continue };
                let old =
                    entry.metadata().and_then(|m| m.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|e| e > age));
                if old {
                    found.push(id);
                }
            }
            Ok(found)
        })
        .await
    }
}

impl Tail {
    pub(super) async fn write(&self, mut batch: Batch) -> Result<Batch> {
        let file = Arc::clone(&self.file);
        blocking(move || {
            file.write_all_at(&batch.bytes, batch.at)?;
            for hasher in [&mut batch.request, &mut batch.whole].into_iter().flatten() {
                hasher.update(&batch.bytes);
            }
            Ok(batch)
        })
        .await
    }

    pub(super) async fn sync(&self) -> Result<()> {
        let file = Arc::clone(&self.file);
        blocking(move || file.sync_data()).await
    }

    pub(super) async fn truncate(&self, length: u64) -> Result<()> {
        let file = Arc::clone(&self.file);
        blocking(move || file.set_len(length)).await
    }

    pub(super) async fn copy(&self, part: UploadId, from: u64, at: u64, most: u64) -> Result<u64> {
        let (file, path) = (Arc::clone(&self.file), self.volume.data_path(part));
        blocking(move || {
            let source = File::open(path)?;
            let (mut from, mut to, mut done) = (from, at, 0);
            while done < most {
                let wanted = usize::try_from(most - done).unwrap_or(usize::MAX);
                // within the kernel: where the file system can, no byte is copied at all
                let got = match rustix::fs::copy_file_range(&source, Some(&mut from), &*file, Some(&mut to), wanted) {
                    Err(Errno::INTR) => continue,
                    other => other?,
                };
                if got == 0 {
                    break;
                }
                done += got as u64;
            }
            Ok(done)
        })
        .await
    }
}

/// Whether the file is ours alone now. Where the file system knows no locks, the hold in PostgreSQL is all there is.
fn lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(Error::internal)?.map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::super::{Appending, Place, Storage};
    use super::*;

    fn data(storage: &Storage, id: UploadId) -> PathBuf {
        let Place::File(path) = storage.place(id) else { panic!("a volume has files") };
        path
    }

    fn batch(at: u64, bytes: &[u8]) -> Batch {
        Batch { at, bytes: bytes.to_vec(), request: None, whole: None }
    }

    #[tokio::test]
    async fn bytes_beyond_what_counts_are_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::new(dir.path().join("volume"));
        let (ours, other) = (InstallationId::new(), InstallationId::new());
        assert!(!storage.belongs_to(ours));
        storage.mark(ours).await.unwrap();
        storage.mark(ours).await.unwrap();
        assert!(storage.belongs_to(ours) && !storage.belongs_to(other));
        assert!(storage.mark(other).await.is_err());

        let id = UploadId::new();
        let tail = storage.create(id).await.unwrap();
        let mut first = batch(0, b"abc");
        first.whole = Some(Hasher::sha256());
        let first = tail.write(first).await.unwrap();
        tail.write(batch(3, b"defg")).await.unwrap();
        tail.sync().await.unwrap();
        assert_eq!(storage.append(id, 5).await.unwrap_err().code(), Code::UploadLocked, "one writer at a time");
        drop(tail);
        assert_eq!((storage.stored(id, 5).await.unwrap(), storage.stored(id, 9).await.unwrap()), (5, 7));
        let (tail, at) = storage.append(id, 5).await.unwrap();
        assert_eq!((at, fs::read(data(&storage, id)).unwrap().as_slice()), (5, b"abcde".as_slice()));
        drop(tail);
        let (tail, at) = storage.append(id, 9).await.unwrap();
        assert_eq!(at, 5, "the storage lost some");
        tail.truncate(3).await.unwrap();
        let (hasher, read) = storage.digest(id, 0, 100, Hasher::sha256()).await.unwrap();
        assert_eq!((hasher.finish(), read), (first.whole.unwrap().finish(), 3));

        let whole = UploadId::new();
        let Appending::Local(other) = storage.create(whole).await.unwrap() else { panic!("a volume has files") };
        assert_eq!(other.copy(id, 1, 0, 100).await.unwrap(), 2);
        assert_eq!(storage.head(whole, 1).await.unwrap(), b"b");
        storage.remove(id).await.unwrap();
        storage.remove(id).await.unwrap();
        assert_eq!(storage.stored(id, 5).await.unwrap(), 0);
    }
}
