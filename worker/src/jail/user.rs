//! The dedicated user: a run as somebody who owns nothing and runs nothing else. Called by [`super::walls`] in the process
//! to be confined, before the powers of root are dropped; an operator asks for it with `JAIL_UID`.

use rustix::process::{Gid, Resource, Rlimit, Uid, getegid, geteuid, getgid, getuid, setrlimit};
use rustix::thread::{CapabilitySet, set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};

use super::{Order, launcher};

/// Whom a run becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id, never 0.
    pub uid: u32,
    /// Group id, never 0.
    pub gid: u32,
}

/// Processes and threads of that user on the whole machine (`RLIMIT_NPROC`). A run has up to 17, one for each processor it
/// decodes on; several workers may share the user.
const MAX_TASKS: u64 = 4096;

/// What becoming somebody takes, and ending somebody afterwards: the worker kills what it no longer owns.
const NEEDED: [(CapabilitySet, &str); 3] =
    [(CapabilitySet::SETUID, "CAP_SETUID"), (CapabilitySet::SETGID, "CAP_SETGID"), (CapabilitySet::KILL, "CAP_KILL")];

/// Becomes that user, for good, and keeps for the moment what root was permitted.
pub(super) fn become_user(order: &Order, user: User) -> Result<(), String> {
    let permitted = rustix::thread::capabilities(None).map_err(|e| e.to_string())?.permitted;
    if let Some((_, name)) = NEEDED.iter().find(|(capability, _)| !permitted.contains(*capability)) {
        return Err(format!("the worker lacks {name}"));
    }
    let tasks = Rlimit { current: Some(MAX_TASKS), maximum: Some(MAX_TASKS) };
    setrlimit(Resource::Nproc, tasks).map_err(|e| format!("RLIMIT_NPROC: {e}"))?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let failed = |e: rustix::io::Errno| e.to_string();
    set_keep_capabilities(true).map_err(failed)?;
    set_thread_groups(&[]).map_err(failed)?;
    set_thread_res_gid(gid, gid, gid).map_err(failed)?;
    set_thread_res_uid(uid, uid, uid).map_err(failed)?;
    // the kernel forgets this when a process becomes somebody else
    launcher::die_with_worker(order)
}

/// Whether this process is that user and can be no other.
pub(super) fn is_user(user: User) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if (getuid(), geteuid(), getgid(), getegid()) != (uid, uid, gid, gid) {
        return Err("the process is somebody else".into());
    }
    match rustix::process::getgroups() {
        Ok(groups) if groups.is_empty() => Ok(()),
        groups => Err(format!("the process is in the groups {groups:?}")),
    }
}

/// Whether the way back is closed; once the powers of root are dropped.
pub(super) fn cannot_return() -> Result<(), String> {
    match set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT) {
        Err(_) => Ok(()),
        Ok(()) => Err("the process became root again".into()),
    }
}
