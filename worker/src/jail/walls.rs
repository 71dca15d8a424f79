//! The walls, in the order they are raised, each with its name, whether `required` insists on it, and how it is raised.
//! Called by the launcher and by the canary, in the process to be confined. A wall, once raised, stays for the life of
//! the process and of every program it becomes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Limits, Order, Sandbox, landlock, seccomp};

/// One protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wall {
    /// Set-user-id programs give no rights; Landlock and seccomp need it.
    NoNewPrivs,
    /// Memory, processor time, descriptors, no files written, no core.
    Rlimits,
    /// None of root's powers but reading: a file of another owner was opened by the worker and is opened again.
    Capabilities,
    /// Files: read the input and the libraries, execute the program, nothing else.
    LandlockFs,
    /// TCP: neither connect nor bind.
    LandlockTcp,
    /// System calls: no sockets, no processes, no changes to files, nothing of an administrator.
    Seccomp,
}

impl Wall {
    /// In the order they are raised: the last two allow the calls that the earlier ones need.
    pub(super) const ALL: [Self; 6] =
        [Self::NoNewPrivs, Self::Rlimits, Self::Capabilities, Self::LandlockFs, Self::LandlockTcp, Self::Seccomp];

    /// The word used in health, the worker registry and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NoNewPrivs => "no_new_privs",
            Self::Rlimits => "rlimits",
            Self::Capabilities => "capabilities",
            Self::LandlockFs => "landlock_fs",
            Self::LandlockTcp => "landlock_tcp",
            Self::Seccomp => "seccomp",
        }
    }

    /// Whether `SANDBOX=required` insists on it. Not on Landlock's TCP rules (Linux 6.7): seccomp refuses all sockets.
    pub(super) fn is_required(self) -> bool {
        !matches!(self, Self::LandlockTcp)
    }

    /// Whether it is raised at all.
    pub(super) fn is_wanted(self, sandbox: Sandbox) -> bool {
        sandbox != Sandbox::Off || self == Self::Rlimits
    }

    /// Raises it around this process.
    pub(super) fn raise(self, order: &Order) -> Result<(), String> {
        match self {
            Self::NoNewPrivs => rustix::thread::set_no_new_privs(true).map_err(|e| e.to_string()),
            Self::Rlimits => limit_resources(&order.limits),
            Self::Capabilities => drop_capabilities(),
            Self::LandlockFs => landlock::restrict_files(order),
            Self::LandlockTcp => landlock::restrict_tcp(),
            Self::Seccomp => seccomp::restrict_calls(),
        }
    }
}

/// What is left of root's powers: reading files of any owner.
pub(super) const KEPT: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

fn limit_resources(limits: &Limits) -> Result<(), String> {
    let hard_cpu = limits.cpu_seconds.saturating_add(1); // SIGXCPU comes at the soft limit, and tells why
    for (resource, soft, hard) in [
        (Resource::As, limits.memory_bytes, limits.memory_bytes),
        (Resource::Cpu, limits.cpu_seconds, hard_cpu),
        (Resource::Nofile, limits.open_files, limits.open_files),
        (Resource::Fsize, 0, 0),
        (Resource::Core, 0, 0),
        (Resource::Memlock, 0, 0),
        (Resource::Msgqueue, 0, 0),
    ] {
        // a hard limit that is lower already stays: raising it is a privilege
        let ceiling = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let new = Rlimit { current: Some(soft.min(ceiling)), maximum: Some(hard.min(ceiling)) };
        setrlimit(resource, new).map_err(|e| format!("{resource:?}: {e}"))?;
    }
    Ok(())
}

fn drop_capabilities() -> Result<(), String> {
    let failed = |e: rustix::io::Errno| e.to_string();
    let now = rustix::thread::capabilities(None).map_err(failed)?;
    let kept = now.permitted & KEPT;
    rustix::thread::clear_ambient_capability_set().map_err(failed)?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(failed)
}
