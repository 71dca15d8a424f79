//! The canary: at the worker's start, a launcher raises its walls one by one and tries each as a hostile program would.
//! What health and metrics say about a protection comes from here, never from the mere success of a system call.
//!
//! [`try_walls`] is the worker's side, called by [`crate::ffprobe`]; [`stand`] is the launcher's side, in the jail.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::walls::{KEPT, Wall};
use super::{CANARY, End, Launch, Order, Protections, Status, launcher, run};

/// How long a connection that nothing forbids may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// What the launcher shall try, as its second argument.
#[derive(Debug, Serialize, Deserialize)]
struct Trial {
    /// A file that this user may read, but the jail may not.
    forbidden: PathBuf,
    /// A port on loopback where somebody listens.
    port: u16,
}

/// Tries every wall in a process like those that run ffprobe. `input` is a file of `dir`, a directory of our own.
pub(crate) async fn try_walls(launcher: &Path, order: &Order, input: File, dir: &Path) -> anyhow::Result<Protections> {
    let forbidden = dir.join("forbidden");
    std::fs::write(&forbidden, "not for the jail\n").context("writing the canary's forbidden file")?;
    // somebody really listens: without a wall the connection succeeds
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening on 127.0.0.1 for the canary")?;
    let trial = Trial { forbidden, port: listener.local_addr().context("reading the canary's port")?.port() };
    let launch = Launch {
        launcher,
        role: CANARY,
        order,
        arguments: vec![serde_json::to_string(&trial)?.into()],
        input,
        cancel: &CancellationToken::new(),
        bytes_read: &AtomicU64::new(0),
    };
    let ended = run(launch).await.with_context(|| format!("starting the jail's launcher {}", launcher.display()))?;
    if ended.end != End::Exited(0) {
        bail!("the jail's launcher ended with {:?}: {}", ended.end, ended.stderr.trim());
    }
    serde_json::from_slice(&ended.stdout).context("reading the canary's answer")
}

/// `ffprobe-worker jail-canary ORDER TRIAL`: raises each wall, tries it, and prints what held.
pub(super) fn stand(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let order = match launcher::read_order(arguments.next()).and_then(|order| launcher::detach(&order).map(|()| order))
    {
        Ok(order) => order,
        Err(refusal) => return refusal.into_exit(),
    };
    let trial = arguments.next().unwrap_or_default();
    let answer = serde_json::from_str(&trial.to_string_lossy())
        .map(|trial| raise_and_try(&order, &trial))
        .and_then(|protections| serde_json::to_string(&protections))
        .map_err(std::io::Error::from)
        .and_then(|json| std::io::stdout().write_all(json.as_bytes()));
    if answer.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn raise_and_try(order: &Order, trial: &Trial) -> Protections {
    let status = |wall: Wall| {
        let held = if wall.is_wanted(order.sandbox) {
            wall.raise(order).and_then(|()| attempt(wall, order, trial))
        } else {
            Err("switched off by SANDBOX=off".into())
        };
        held.map_or_else(|reason| Status::Unavailable { reason }, |()| Status::Active)
    };
    Protections(Wall::ALL.into_iter().map(|wall| (wall.name().to_owned(), status(wall))).collect())
}

/// Does what the wall must prevent.
fn attempt(wall: Wall, order: &Order, trial: &Trial) -> Result<(), String> {
    match wall {
        Wall::NoNewPrivs => match rustix::thread::no_new_privs() {
            Ok(true) => Ok(()),
            other => Err(format!("the kernel says {other:?}")),
        },
        Wall::Rlimits => overstep_limits(order),
        Wall::Capabilities => match rustix::thread::capabilities(None) {
            Ok(left) if KEPT.contains(left.permitted | left.effective) => Ok(()),
            left => Err(format!("the kernel left {left:?}")),
        },
        Wall::LandlockFs => {
            denied("reading another file", File::open(&trial.forbidden))?;
            denied("making a file", File::create(trial.forbidden.with_extension("new")))?;
            let mut first = [0; 1];
            // the input stays readable, by the way ffprobe takes
            File::open("/dev/fd/0")
                .and_then(|mut f| f.read_exact(&mut first))
                .map_err(|e| format!("reading the input: {e}"))
        }
        Wall::LandlockTcp => {
            let there = SocketAddr::from((Ipv4Addr::LOCALHOST, trial.port));
            denied("a TCP connection", TcpStream::connect_timeout(&there, CONNECT_WITHIN))
        }
        Wall::Seccomp => {
            denied("a UDP socket", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))?;
            // a program that does not exist: without the wall the answer is "not found"
            denied("another process", Command::new("/nonexistent/program").spawn())
        }
    }
}

fn overstep_limits(order: &Order) -> Result<(), String> {
    let memory = usize::try_from(order.limits.memory_bytes).unwrap_or(usize::MAX);
    if Vec::<u8>::new().try_reserve_exact(memory).is_ok() {
        return Err(format!("{memory} bytes of memory were given"));
    }
    for (resource, limit) in [
        (Resource::Cpu, order.limits.cpu_seconds),
        (Resource::Nofile, order.limits.open_files),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ] {
        if getrlimit(resource).current.is_none_or(|current| current > limit) {
            return Err(format!("{resource:?} is not limited to {limit}"));
        }
    }
    Ok(())
}

fn denied<T>(what: &str, answer: std::io::Result<T>) -> Result<(), String> {
    match answer {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(e) => Err(format!("{what} was not denied, it failed otherwise: {e}")),
        Ok(_) => Err(format!("{what} was not denied")),
    }
}
