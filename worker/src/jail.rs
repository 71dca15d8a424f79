//! The jail: one untrusted program run behind walls that the kernel holds.
//!
//! The worker starts its own binary again as `ffprobe-worker jail …` (a launcher: no runtime, no threads), which limits
//! itself and then becomes ffprobe. Not `pre_exec`: that forces a fork, whose cost grows with the worker's memory.
//! [`crate::ffprobe`] is the only caller; nothing here knows what ffprobe is.
//!
//! The launcher asks to be killed when the *thread* that started it ends, so a run must be polled on the
//! runtime's own threads: never from `spawn_blocking` or `block_in_place`.

mod canary;
mod kernel;
mod landlock;
mod launcher;
mod limits;
mod process;
mod seccomp;
mod usage;
mod walls;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use canary::try_walls;
pub use limits::Limits;
pub(crate) use process::{End, Ended, Launch, run};
pub use usage::Usage;

/// The launcher under its everyday name.
pub(crate) const JAIL: &str = "jail";
/// The launcher that tries its own walls instead of becoming another program.
const CANARY: &str = "jail-canary";

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
}

/// Every protection by name, with its true state on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Protections(pub BTreeMap<String, Status>);

impl Protections {
    /// The required protections that do not hold, each with its reason.
    pub fn missing(&self) -> Vec<String> {
        let required = walls::Wall::ALL.into_iter().filter(|w| w.is_required()).map(walls::Wall::name);
        required
            .filter_map(|name| match self.0.get(name) {
                Some(Status::Active) => None,
                Some(Status::Unavailable { reason }) => Some(format!("{name} ({reason})")),
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
