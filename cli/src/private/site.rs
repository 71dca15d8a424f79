//! The state directory: whose it is, its lock, its modes and the places inside it.
//!
//! Called by `private`. The directory itself is 0711 and ours; `pg`, `redis` and `run` are 0700 and belong to the
//! unprivileged user that the servers run as when we are root.
//! It must never change the mode or the owner of a directory that is somebody else's.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;

use super::log::LogFile;
use crate::process::Identity;

const CHOOSE: &str = "choose another state directory with FFPROBE_API_STATE_DIR";
/// What the smallest `sockaddr_un` of the systems we know takes, without the final zero byte.
const LONGEST_SOCKET_PATH: usize = 103;

/// The locked state directory.
#[derive(Debug)]
pub(super) struct Site {
    state: PathBuf,
    identity: Option<Identity>,
    /// The lock lasts as long as this file is open, so it ends with us, however we end.
    _lock: File,
}

impl Site {
    /// Makes the directory if need be, locks it and sets the modes inside it.
    pub(super) fn open(state_dir: &Path) -> Result<Self> {
        let asked = absolute(state_dir).with_context(|| format!("{}; {CHOOSE}", state_dir.display()))?;
        check_length(&asked)?;
        let identity = server_identity(&asked.join("pg"))?;
        let state = made(&asked, identity)?;
        check_length(&state)?;
        let lock = locked(&state)?;
        // Others may pass through to what is theirs (the servers' user), and list nothing.
        fs::set_permissions(&state, Permissions::from_mode(0o711)).with_context(|| format!("{}", state.display()))?;
        let site = Self { state, identity, _lock: lock };
        site.make_private(&site.run())?;
        site.make_private(&site.redis())?;
        Ok(site)
    }

    /// The user that the servers run as; None for our own.
    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// The state directory itself.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// PostgreSQL's data.
    pub(super) fn postgres(&self) -> PathBuf {
        self.state.join("pg")
    }

    /// PostgreSQL's data while it is being made: half of it never becomes `pg`.
    pub(super) fn unfinished_postgres(&self) -> PathBuf {
        self.state.join("pg.new")
    }

    /// Redis' data.
    pub(super) fn redis(&self) -> PathBuf {
        self.state.join("redis")
    }

    /// The sockets.
    pub(super) fn run(&self) -> PathBuf {
        run(&self.state)
    }

    /// Redis' socket.
    pub(super) fn redis_socket(&self) -> PathBuf {
        redis_socket(&self.state)
    }

    /// The log of a server.
    pub(super) fn log(&self, name: &str) -> LogFile {
        LogFile::new(self.state.join(name))
    }

    /// Makes a directory that only the servers' user may enter; one that exists is set right.
    pub(super) fn make_private(&self, directory: &Path) -> Result<()> {
        let context = || format!("could not make {} a private directory", directory.display());
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).with_context(context),
            _ => {}
        }
        if let Some(Identity { uid, gid }) = self.identity {
            chown(directory, Some(uid), Some(gid)).with_context(context)?;
        }
        fs::set_permissions(directory, Permissions::from_mode(0o700)).with_context(context)
    }
}

/// The sockets of a state directory.
pub(super) fn run(state: &Path) -> PathBuf {
    state.join("run")
}

/// Redis' socket in a state directory.
pub(super) fn redis_socket(state: &Path) -> PathBuf {
    state.join("run/redis.sock")
}

fn check_length(state: &Path) -> Result<()> {
    let socket = state.join("run/.s.PGSQL.5432");
    let length = socket.as_os_str().len();
    ensure!(
        length <= LONGEST_SOCKET_PATH,
        "{} is too long: the socket {} would have {length} bytes of at most {LONGEST_SOCKET_PATH}; choose a shorter state \
         directory with FFPROBE_API_STATE_DIR",
        state.display(),
        socket.display(),
    );
    Ok(())
}

/// The directory, made if missing, with a real path; an error unless it is ours and the servers can reach it.
fn made(state_dir: &Path, identity: Option<Identity>) -> Result<PathBuf> {
    // Looked at first, so that a refusal leaves nothing behind.
    let existing = state_dir.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    if let Some(existing) = existing.filter(|_| !state_dir.exists()) {
        check_reachable(&existing.join("state"), identity)?;
    }
    fs::create_dir_all(state_dir)
        .with_context(|| format!("could not make the state directory {}; {CHOOSE}", state_dir.display()))?;
    let state = state_dir.canonicalize().with_context(|| format!("{}", state_dir.display()))?;
    ensure!(state.to_str().is_some(), "the path {} is not UTF-8; {CHOOSE}", state.display());
    let owner = fs::metadata(&state).with_context(|| format!("{}", state.display()))?.uid();
    let us = geteuid().as_raw();
    ensure!(
        owner == us,
        "the state directory {} belongs to user {owner}, and this is user {us}; run as that user, or {CHOOSE}",
        state.display()
    );
    check_reachable(&state, identity)?;
    Ok(state)
}

fn locked(state: &Path) -> Result<File> {
    let path = state.join("lock");
    if !path.exists() {
        // A mistyped path such as /etc must stay as it is. (A fresh file system has lost+found.)
        let entries = fs::read_dir(state).with_context(|| format!("could not list {}", state.display()))?;
        for entry in entries {
            let name = entry.with_context(|| format!("could not list {}", state.display()))?.file_name();
            ensure!(
                name == "lost+found",
                "{} is neither empty nor a state directory of FFprobe API; {CHOOSE}",
                state.display()
            );
        }
    }
    let mut lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("could not open {}; {CHOOSE}", path.display()))?;
    refuse_if_held(state, lock.try_lock())?;
    lock.set_len(0).with_context(|| format!("{}", path.display()))?;
    writeln!(lock, "{}", std::process::id()).with_context(|| format!("{}", path.display()))?;
    Ok(lock)
}

/// Refuses a directory that another process holds.
pub(super) fn check_not_locked(state: &Path) -> Result<()> {
    // No file, no holder; one that cannot be opened is `start`'s to explain.
    let Ok(lock) = File::open(state.join("lock")) else { return Ok(()) };
    refuse_if_held(state, lock.try_lock_shared())
}

fn refuse_if_held(state: &Path, outcome: std::result::Result<(), TryLockError>) -> Result<()> {
    let path = state.join("lock");
    match outcome {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let holder = match holder.trim() {
                "" => String::new(),
                pid => format!(" (process {pid})"),
            };
            bail!("FFprobe API is already running on {}{holder}; stop it first, or {CHOOSE}", state.display());
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("could not lock {}; {CHOOSE}", path.display()))
        }
    }
}

/// Whom the servers run as: ourselves, or, when we are root (which PostgreSQL refuses), whoever owns the data already,
/// else `postgres`, else `nobody`.
fn server_identity(data: &Path) -> Result<Option<Identity>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    if let Ok(metadata) = fs::metadata(data)
        && metadata.uid() != 0
    {
        return Ok(Some(Identity { uid: metadata.uid(), gid: metadata.gid() }));
    }
    let users = fs::read_to_string("/etc/passwd").context("could not read /etc/passwd")?;
    ["postgres", "nobody"].iter().find_map(|name| user(&users, name)).map(Some).context(
        "PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it as; \
         start as an ordinary user",
    )
}

fn user(users: &str, name: &str) -> Option<Identity> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (found && uid != 0).then_some(Identity { uid, gid })
    })
}

/// A directory such as /root/state cannot be reached by the servers' user; say so now, and not by their obscure errors.
fn check_reachable(state: &Path, identity: Option<Identity>) -> Result<()> {
    let Some(identity) = identity else { return Ok(()) };
    for ancestor in state.ancestors().skip(1) {
        let metadata = fs::metadata(ancestor).with_context(|| format!("{}", ancestor.display()))?;
        let shift = match (metadata.uid() == identity.uid, metadata.gid() == identity.gid) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        ensure!(
            metadata.mode() >> shift & 1 == 1,
            "as root the servers run as user {}, which may not enter {}; {CHOOSE}, for example /var/lib/ffprobe-api",
            identity.uid,
            ancestor.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_root_is_never_taken() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres:x:101:104::/var/lib/postgresql:/bin/bash\nodd:x:0:7::/:/bin/sh\nshort:x";
        assert_eq!(user(users, "postgres"), Some(Identity { uid: 101, gid: 104 }));
        assert_eq!(user(users, "odd"), None);
        assert_eq!(user(users, "short"), None);
        assert_eq!(user(users, "nobody"), None);
    }
}
