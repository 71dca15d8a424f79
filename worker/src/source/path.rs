//! Files in media roots. A path is opened beneath its root by the kernel itself (openat2), so neither `..`, nor an
//! absolute name, nor a symbolic link that is swapped in at the last moment leads out. Blocks.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, ResolveFlags, openat2};
use rustix::io::Errno;
use shared::job::source::{Located, MediaRoot};
use shared::job::{Failure, FailureCode};

use super::{FLAGS, OpenInput, failed};

/// How often a look-up is repeated that a rename disturbed.
const TRIES: u32 = 8;
/// No device has this number: the root was not there when last looked at.
const UNSEEN: u64 = u64::MAX;

/// The media roots of this worker. Clones share what is known of them.
#[derive(Debug, Clone)]
pub struct MediaRoots(Arc<[Mounted]>);

#[derive(Debug)]
struct Mounted {
    root: MediaRoot,
    /// The device it lay on when it was last seen with something in it: a mount that went away leaves an empty directory
    /// on another device, and what it held is then not "not found".
    device: AtomicU64,
}

impl MediaRoots {
    /// Looks at the roots once, to know their devices. A root may be missing now and appear later.
    pub fn new(roots: Vec<MediaRoot>) -> Self {
        let look = |root: MediaRoot| {
            let device = std::fs::metadata(&root.dir).map_or(UNSEEN, |m| m.dev());
            Mounted { root, device: AtomicU64::new(device) }
        };
        Self(roots.into_iter().map(look).collect())
    }

    /// Names of all roots, there or not.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|m| m.root.name.clone()).collect()
    }

    /// Whether the root of this name is there now. Blocks.
    pub fn is_there(&self, name: &str) -> bool {
        self.0.iter().any(|m| m.root.name == name && m.is_there())
    }
}

/// Opens a file beneath the first of its candidate roots that has it. A root that is not there on this worker is never
/// the client's fault: the job is tried again.
pub fn open_beneath(roots: &MediaRoots, located: &Located) -> Result<OpenInput, Failure> {
    let Located { roots: candidates, inside } = located;
    let name = Path::new(inside).file_name().map_or_else(|| inside.into(), |n| n.to_string_lossy());
    for candidate in candidates {
        let Some(mounted) = roots.0.iter().find(|m| m.root.name == *candidate) else {
            return Err(away(candidate));
        };
        match mounted.open(inside) {
            Ok(file) => return OpenInput::check(file, &name),
            Err(Missing::File) => {}
            Err(Missing::Root) => return Err(away(candidate)),
            Err(Missing::Other(error)) => return Err(failed(&error, &name)),
        }
    }
    Err(Failure::new(FailureCode::InputNotFound, format!("There is no '{inside}' in: {}.", candidates.join(", "))))
}

fn away(root: &str) -> Failure {
    tracing::error!(root, "a media root is not there on this worker; is it mounted?");
    Failure::new(
        FailureCode::StorageError,
        format!("The media root '{root}' is not there on this worker; perhaps it is not mounted."),
    )
}

enum Missing {
    File,
    Root,
    Other(io::Error),
}

impl Mounted {
    fn open(&self, inside: &str) -> Result<File, Missing> {
        let root = File::open(&self.root.dir).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Missing::Root,
            _ => Missing::Other(error),
        })?;
        let mut tries = 0;
        loop {
            tries += 1;
            return match openat2(
                &root,
                inside,
                FLAGS,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            ) {
                Ok(file) => Ok(file.into()),
                Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => continue,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::INVAL) if self.is_there() => {
                    Err(Missing::File)
                }
                Err(Errno::NOENT) => Err(Missing::Root),
                Err(errno) => Err(Missing::Other(errno.into())),
            };
        }
    }

    /// Whether the directory is there, and is not the empty place where something else was mounted before.
    fn is_there(&self) -> bool {
        let Ok(now) = std::fs::metadata(&self.root.dir) else { return false };
        let known = now.dev() == self.device.load(Ordering::Relaxed);
        known || self.holds_something(&now)
    }

    /// A root on another device than before is taken as it is once there is something in it: a remount changes the
    /// device too.
    fn holds_something(&self, now: &Metadata) -> bool {
        let any = std::fs::read_dir(&self.root.dir).is_ok_and(|mut entries| entries.next().is_some());
        if any {
            self.device.store(now.dev(), Ordering::Relaxed);
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use rustix::fs::OFlags;

    use super::*;

    fn write(path: impl AsRef<Path>) {
        std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
        std::fs::write(path, "bytes").unwrap();
    }

    fn roots(dir: &Path, names: &[&str]) -> MediaRoots {
        let root = |name: &&str| MediaRoot { name: (*name).into(), dir: dir.join(name).to_str().unwrap().into() };
        MediaRoots::new(names.iter().map(root).collect())
    }

    fn open(roots: &MediaRoots, candidates: &[&str], inside: &str) -> Result<OpenInput, Failure> {
        let candidates = candidates.iter().map(|n| (*n).to_owned()).collect();
        open_beneath(roots, &Located { roots: candidates, inside: inside.into() })
    }

    #[test]
    fn a_file_is_found_in_the_first_root_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("a/x/only-a"));
        write(dir.path().join("b/x/only-b"));
        for odd in ["-version", "a%03d.png", "x:y.mp4", "http:", "a..b", "…"] {
            write(dir.path().join("a").join(odd));
        }
        let roots = roots(dir.path(), &["a", "b"]);
        let open_any = |inside: &str| open(&roots, &["a", "b"], inside);
        let found = open_any("x/only-b").unwrap();
        assert_eq!((found.size, found.name.as_str()), (5, "only-b"));
        assert!(!fcntl_flags(&found.file).contains(OFlags::NONBLOCK));
        for odd in ["x/only-a", "-version", "a%03d.png", "x:y.mp4", "http:", "a..b", "…"] {
            assert!(open_any(odd).is_ok(), "{odd}");
        }
        for (missing, code) in [
            ("x/none", FailureCode::InputNotFound),
            ("x/only-a/deeper", FailureCode::InputNotFound),
            ("x", FailureCode::NotAFile),
            ("../b/x/only-b", FailureCode::OutsideRoot),
            ("/etc/passwd", FailureCode::OutsideRoot),
        ] {
            assert_eq!(open_any(missing).unwrap_err().code, code, "{missing}");
        }
        assert_eq!(open(&roots, &["b"], "x/only-a").unwrap_err().code, FailureCode::InputNotFound);
    }

    fn fcntl_flags(file: &File) -> OFlags {
        rustix::fs::fcntl_getfl(file).unwrap()
    }

    #[test]
    fn links_may_not_lead_out() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("a/real"));
        write(dir.path().join("secret"));
        let link = |to: &str, name: &str| symlink(to, dir.path().join("a").join(name)).unwrap();
        link("real", "inside");
        link("../secret", "up");
        link("/etc/passwd", "absolute");
        link("..", "dir");
        link("circle", "circle");
        link("/proc/self/fd/0", "magic");
        let roots = roots(dir.path(), &["a"]);
        let code = |inside: &str| open(&roots, &["a"], inside).err().map(|f| f.code);
        assert_eq!(code("inside"), None);
        for out in ["up", "absolute", "dir/secret", "circle", "magic"] {
            assert_eq!(code(out), Some(FailureCode::OutsideRoot), "{out}");
        }
    }

    #[test]
    fn only_regular_files_with_bytes_are_taken_and_nothing_blocks() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("a/x"));
        let at = |name: &str| dir.path().join("a").join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        std::fs::write(at("empty"), "").unwrap();
        let roots = roots(dir.path(), &["a"]);
        let code = |inside: &str| open(&roots, &["a"], inside).err().map(|f| f.code);
        let started = Instant::now();
        assert_eq!(code("fifo"), Some(FailureCode::NotAFile));
        assert_eq!(code("socket"), Some(FailureCode::NotAFile));
        assert_eq!(code("empty"), Some(FailureCode::EmptyInput));
        assert!(started.elapsed().as_secs() < 2);
    }

    #[test]
    fn a_file_of_another_user_is_a_clear_failure() {
        if rustix::process::geteuid().is_root() {
            return; // root may read everything
        }
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("a/x"));
        std::fs::set_permissions(dir.path().join("a/x"), PermissionsExt::from_mode(0o000)).unwrap();
        let failure = open(&roots(dir.path(), &["a"]), &["a"], "x").unwrap_err();
        assert_eq!(failure.code, FailureCode::PermissionDenied);
    }

    #[test]
    fn a_root_that_is_away_is_never_the_clients_fault() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path().join("a/x"));
        let roots = roots(dir.path(), &["a", "later"]);
        assert_eq!(roots.names().into_iter().filter(|n| roots.is_there(n)).collect::<Vec<_>>(), ["a"]);
        for candidates in [&["later", "a"][..], &["unknown"]] {
            let failure = open(&roots, candidates, "x").unwrap_err();
            assert_eq!((failure.code, failure.retryable), (FailureCode::StorageError, true));
        }
        // what was missing at the start and is an empty directory now may still be unmounted
        std::fs::create_dir(dir.path().join("later")).unwrap();
        assert_eq!(open(&roots, &["later"], "x").unwrap_err().code, FailureCode::StorageError);
        write(dir.path().join("later/y"));
        assert_eq!(open(&roots, &["later"], "x").unwrap_err().code, FailureCode::InputNotFound);
        assert_eq!(roots.names().into_iter().filter(|n| roots.is_there(n)).collect::<Vec<_>>(), ["a", "later"]);
        assert!(open(&roots, &["later", "a"], "x").is_ok());
    }

    #[test]
    fn an_empty_root_that_was_there_from_the_start_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let failure = open(&roots(dir.path(), &["a"]), &["a"], "x").unwrap_err();
        assert_eq!(failure.code, FailureCode::InputNotFound);
    }
}
