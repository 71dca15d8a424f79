//! The jail: one untrusted program run behind walls that the kernel holds.
//!
//! The worker starts its own binary again as `ffprobe-worker jail …` (a launcher: no runtime, no threads), which limits
//! itself and then becomes ffprobe. Not `pre_exec`: that forces a fork, whose cost grows with the worker's memory.
//! [`crate::ffprobe`] is the only caller; nothing here knows what ffprobe is.
//!
//! The launcher asks to be killed when the *thread* that started it ends, so a run must be polled on the
//! runtime's own threads: never from `spawn_blocking` or `block_in_place`.

mod canary;
mod cgroup;
mod kernel;
mod landlock;
mod launcher;
mod limits;
mod namespace;
mod oom;
mod process;
mod seccomp;
mod streams;
mod usage;
mod user;
mod walls;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use walls::Wall;

pub(crate) use canary::{Ground, try_walls};
pub use cgroup::Cgroup;
pub use limits::{Limits, Override, Overrides};
pub(crate) use process::{End, Ended, Launch, run};
pub(crate) use streams::{Sink, Stdout};
pub use usage::Usage;
pub use user::User;

/// The launcher under its everyday name.
pub(crate) const JAIL: &str = "jail";
/// The launcher that tries its own walls instead of becoming another program.
const CANARY: &str = "jail-canary";

/// The launcher could not confine the connections of remote input, and `required` forbids going on without.
pub(crate) const CANNOT_CONFINE_CONNECTIONS: u8 = 124;
/// The launcher could not confine itself, and `required` forbids going on without.
pub(crate) const CANNOT_CONFINE: u8 = 125;
/// The launcher could not become the program.
pub(crate) const CANNOT_EXEC: u8 = 126;

/// How much the worker insists on its walls (`SANDBOX`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Sandbox {
    /// Start only where every required protection holds, and never run ffprobe without.
    Required,
    /// Use what the kernel offers, and say what it lacks.
    BestEffort,
    /// Only resource limits and the deadline. For trusted files.
    Off,
}

/// What the program in the jail reads.
#[derive(Debug)]
pub enum Input {
    /// A file, open for reading; it becomes the program's standard input.
    File(File),
    /// A server on this machine's loopback.
    Loopback(Loopback),
}

/// A server on loopback that holds a remote input, as the program in the jail reaches it.
#[derive(Clone)]
pub struct Loopback {
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The path of its URL, from the slash on. A random word in it keeps others on this machine away.
    pub path: String,
    /// Where the kernel gives a run a network of its own, this is called (once for each run, from the worker's runtime)
    /// with a listener on the same port in there. The server must accept from it too, until the job is over: the listener
    /// keeps that network alive. An error fails the run.
    pub serve_on: Arc<dyn Fn(TcpListener) -> std::io::Result<()> + Send + Sync>,
}

impl std::fmt::Debug for Loopback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loopback").field("port", &self.port).finish_non_exhaustive()
    }
}

/// What the program may reach besides its libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reach {
    /// The file that is its standard input.
    File,
    /// One port on loopback.
    Loopback {
        /// Its number.
        port: u16,
    },
}

impl From<&Input> for Reach {
    fn from(input: &Input) -> Self {
        match input {
            Input::File(_) => Self::File,
            Input::Loopback(server) => Self::Loopback { port: server.port },
        }
    }
}

/// The walls that an operator asks for by name, besides those that are always tried.
#[derive(Debug, Clone, Default)]
pub struct Optional {
    /// `JAIL_UID`.
    pub user: Option<User>,
    /// `JAIL_CGROUP`.
    pub cgroup: Option<Cgroup>,
}

impl Optional {
    fn walls(&self) -> Vec<Wall> {
        let user = self.user.map(|_| Wall::DedicatedUser);
        user.into_iter().chain(self.cgroup.as_ref().map(|_| Wall::Cgroup)).collect()
    }
}

/// What the launcher is told, as its first argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Process id of the worker: a launcher with another parent has outlived it.
    pub(crate) parent: u32,
    /// How much to insist.
    pub(crate) sandbox: Sandbox,
    /// The limits that the kernel enforces.
    pub(crate) limits: Limits,
    /// Files that may be executed: the program and its loader.
    pub(crate) execute: Vec<PathBuf>,
    /// Directories (with all below) and files that may be read besides the input.
    pub(crate) read: Vec<PathBuf>,
    /// What the program may reach.
    pub(crate) reach: Reach,
    /// Whom it becomes.
    #[serde(default)]
    pub(crate) user: Option<User>,
    /// The control group it joins, or why there is none. Each run has its own.
    #[serde(default)]
    pub(crate) cgroup: Option<Result<PathBuf, String>>,
    /// Walls that are left out, to see what each is good for. The worker never asks for it; the tests give such orders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    without: Vec<Wall>,
}

impl Order {
    /// For one run of a program that may execute and read these files; with the limits and walls of the worker.
    pub(crate) fn new(
        sandbox: Sandbox,
        limits: Limits,
        execute: Vec<PathBuf>,
        read: Vec<PathBuf>,
        reach: Reach,
    ) -> Self {
        let parent = std::process::id();
        Self { parent, sandbox, limits, execute, read, reach, user: None, cgroup: None, without: Vec::new() }
    }

    fn asked(&self) -> Vec<Wall> {
        let user = self.user.map(|_| Wall::DedicatedUser);
        user.into_iter().chain(self.cgroup.as_ref().map(|_| Wall::Cgroup)).collect()
    }
}

/// Whether a protection holds, as seen by trying it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// It was tried and it held.
    Active,
    /// It does not hold.
    Unavailable {
        /// Why not, in one line.
        reason: String,
    },
    /// Nobody asked for it.
    Off {
        /// How it is switched on, in one line.
        how: String,
    },
}

impl From<Result<(), String>> for Status {
    fn from(held: Result<(), String>) -> Self {
        held.map_or_else(|reason| Self::Unavailable { reason }, |()| Self::Active)
    }
}

/// Every protection by name, with its true state on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Protections(pub BTreeMap<String, Status>);

impl Protections {
    /// The required protections that do not hold, each with its reason. What is asked for by name is required.
    pub fn missing(&self, optional: &Optional) -> Vec<String> {
        let asked = optional.walls();
        let required = Wall::ALL.into_iter().filter(|w| w.is_required(&asked)).map(Wall::name);
        required
            .filter_map(|name| match self.0.get(name) {
                Some(Status::Active) => None,
                Some(Status::Unavailable { reason }) => Some(format!("{name} ({reason})")),
                Some(Status::Off { how }) => Some(format!("{name} (off: {how})")),
                None => Some(format!("{name} (not tried)")),
            })
            .collect()
    }
}

/// Runs the launcher if this process was started as one. `main` calls it before anything else: before a runtime, a
/// thread or a log exists. `arguments` are all of the process, its own name included.
pub fn dispatch(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1);
    match arguments.next()?.to_str()? {
        JAIL => Some(launcher::launch(arguments)),
        CANARY => Some(canary::stand(arguments)),
        _ => None,
    }
}

/// The launcher of a worker: this very program, even if its file was replaced since it started.
pub fn own_launcher() -> &'static Path {
    Path::new("/proc/self/exe")
}
