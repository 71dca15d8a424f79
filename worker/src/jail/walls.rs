//! The walls, in the order they are raised, each with its name, whether `required` insists on it, and how it is raised.
//! Called by the launcher and by the canary, in the process to be confined. A wall, once raised, stays for the life of
//! the process and of every program it becomes.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::{Limits, Order, Reach, Sandbox, cgroup, landlock, namespace, seccomp, user};

/// How all walls but the limits are switched on.
pub(super) const SWITCH_ON: &str = "Set SANDBOX to best_effort or required.";

/// One protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wall {
    /// A control group of the run's own: memory and processes as a whole. Asked for with `JAIL_CGROUP`.
    Cgroup,
    /// A network in which nothing lies, or nothing but the server of the input.
    NetworkNamespace,
    /// Set-user-id programs give no rights; Landlock and seccomp need it.
    NoNewPrivs,
    /// Memory, processor time, descriptors, no files written, no core.
    Rlimits,
    /// A user who owns nothing. Asked for with `JAIL_UID`.
    DedicatedUser,
    /// None of root's powers but reading: a file of another owner was opened by the worker and is opened again.
    Capabilities,
    /// Files: read the input and the libraries, execute the program, nothing else.
    LandlockFs,
    /// TCP: neither connect nor bind, but for connections to the port of a remote input.
    LandlockTcp,
    /// System calls: no sockets (for remote input: only those of a TCP client), no processes, no changes to files, nothing of an administrator.
    Seccomp,
}

impl Wall {
    /// In the order they are raised: the first need powers that the middle ones take, and the last two forbid the calls
    /// of all others.
    pub(super) const ALL: [Self; 9] = [
        Self::Cgroup,
        Self::NetworkNamespace,
        Self::NoNewPrivs,
        Self::Rlimits,
        Self::DedicatedUser,
        Self::Capabilities,
        Self::LandlockFs,
        Self::LandlockTcp,
        Self::Seccomp,
    ];

    /// The word used in health, the worker registry and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::NetworkNamespace => "network_namespace",
            Self::NoNewPrivs => "no_new_privs",
            Self::Rlimits => "rlimits",
            Self::DedicatedUser => "dedicated_user",
            Self::Capabilities => "capabilities",
            Self::LandlockFs => "landlock_fs",
            Self::LandlockTcp => "landlock_tcp",
            Self::Seccomp => "seccomp",
        }
    }

    /// Whether `SANDBOX=required` insists on it, given the optional walls that the operator asks for. Neither on Landlock's
    /// TCP rules (Linux 6.7) nor on a network of its own: seccomp refuses all sockets, and remote input wants one of the
    /// two.
    pub(super) fn is_required(self, asked: &[Self]) -> bool {
        match self {
            Self::LandlockTcp | Self::NetworkNamespace => false,
            Self::Cgroup | Self::DedicatedUser => asked.contains(&self),
            Self::NoNewPrivs | Self::Rlimits | Self::Capabilities | Self::LandlockFs | Self::Seccomp => true,
        }
    }

    /// How a wall that nobody asks for is switched on. None for one that is raised.
    pub(super) fn switch(self, order: &Order) -> Option<&'static str> {
        match self {
            _ if order.without.contains(&self) => Some("Leave it out of the order's list."),
            Self::Rlimits => None,
            _ if order.sandbox == Sandbox::Off => Some(SWITCH_ON),
            Self::Cgroup if order.cgroup.is_none() => {
                Some("Set JAIL_CGROUP to a control group (version 2) that is delegated to this worker.")
            }
            Self::DedicatedUser if order.user.is_none() => Some(
                "Set JAIL_UID to a user id that owns nothing; the worker needs CAP_SETUID, CAP_SETGID and CAP_KILL.",
            ),
            _ => None,
        }
    }

    /// Whether it alone keeps the program from connecting to other places than its remote input.
    pub(super) fn confines_connections(self) -> bool {
        matches!(self, Self::LandlockTcp | Self::NetworkNamespace)
    }

    /// Raises it around this process.
    pub(super) fn raise(self, order: &Order) -> Result<(), String> {
        match self {
            Self::Cgroup => match &order.cgroup {
                None => Err("there is no group".into()),
                Some(Err(reason)) => Err(reason.clone()),
                Some(Ok(cell)) => cgroup::join(cell),
            },
            Self::NetworkNamespace => namespace::enter(order),
            Self::NoNewPrivs => rustix::thread::set_no_new_privs(true).map_err(|e| e.to_string()),
            Self::Rlimits => limit_resources(&order.limits),
            Self::DedicatedUser => match order.user {
                None => Err("there is no user".into()),
                Some(user) => user::become_user(order, user),
            },
            Self::Capabilities => drop_capabilities(order),
            Self::LandlockFs => landlock::restrict_files(order),
            Self::LandlockTcp => landlock::restrict_tcp(order.reach),
            Self::Seccomp => seccomp::restrict_calls(order.reach),
        }
    }
}

/// What is left of root's powers: for a local file, reading files of any owner.
pub(super) fn kept(reach: Reach) -> CapabilitySet {
    match reach {
        Reach::File => CapabilitySet::DAC_READ_SEARCH,
        Reach::Loopback { .. } => CapabilitySet::empty(),
    }
}

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

fn drop_capabilities(order: &Order) -> Result<(), String> {
    let failed = |e: rustix::io::Errno| e.to_string();
    let now = rustix::thread::capabilities(None).map_err(failed)?;
    let kept = now.permitted & kept(order.reach);
    rustix::thread::clear_ambient_capability_set().map_err(failed)?;
    // root keeps at exec what it is permitted; anybody else only what is "ambient", which must be inheritable
    let ambient = if rustix::process::geteuid().is_root() { CapabilitySet::empty() } else { kept };
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: ambient };
    rustix::thread::set_capabilities(None, sets).map_err(failed)?;
    if ambient.is_empty() {
        return Ok(());
    }
    rustix::thread::configure_capability_in_ambient_set(ambient, true).map_err(failed)
}
