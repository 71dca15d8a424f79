//! The canary: at the worker's start, launchers raise their walls one by one and try each as a hostile program would, once
//! with a local file as the input and once with a server on loopback. What health and metrics say about a protection
//! comes from here, never from the mere success of a system call.
//!
//! [`try_walls`] is the worker's side, called by [`crate::ffprobe`]; [`stand`] is the launcher's side, in the jail.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::walls::{SWITCH_ON, Wall, kept};
use super::{
    CANARY, Cgroup, End, Input, Launch, Loopback, Order, Protections, Reach, Sandbox, Status, Stdout, cgroup, launcher,
    run, user,
};

/// How long a connection that nothing forbids may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long the server of the trial waits for its one guest.
const GUEST_WITHIN: Duration = Duration::from_secs(10);
/// The protection of remote input: ffprobe reaches the input's port and no other.
const REMOTE_INPUT: &str = "remote_input";
/// The same, more strictly: not even that port on any other address.
const REMOTE_NAMESPACE: &str = "remote_namespace";

/// What the launcher shall try, as its second argument.
#[derive(Debug, Serialize, Deserialize)]
struct Trial {
    /// A file that this user may read, but the jail may not.
    forbidden: PathBuf,
    /// A port on loopback where somebody listens who is not the input.
    port: u16,
}

/// Where and as whom the canary runs.
pub(crate) struct Ground<'a> {
    /// The worker's own binary.
    pub(crate) launcher: &'a Path,
    /// What the launchers do to themselves; for a local file.
    pub(crate) order: Order,
    /// Where they get control groups.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// A directory of our own.
    pub(crate) dir: &'a Path,
}

/// Tries every wall in processes like those that run ffprobe. `input` is a file of the ground's directory.
pub(crate) async fn try_walls(mut ground: Ground<'_>, input: File) -> anyhow::Result<Protections> {
    let forbidden = ground.dir.join("forbidden");
    std::fs::write(&forbidden, "not for the jail\n").context("writing the canary's forbidden file")?;
    // somebody really listens: without a wall the connection succeeds
    let other = listen()?;
    let trial = Trial { forbidden, port: other.local_addr().context("reading the canary's port")?.port() };
    let local = stand_in_jail(&ground, &trial, &Input::File(input)).await?;

    let server = listen()?;
    let port = server.local_addr().context("reading the canary's port")?.port();
    let serve_on = Arc::new(|listener: TcpListener| {
        listener.set_nonblocking(true)?;
        tokio::spawn(greet(tokio::net::TcpListener::from_std(listener)?));
        Ok(())
    });
    serve_on(server).context("serving the canary")?;
    let input = Input::Loopback(Loopback { port, path: "/".into(), serve_on });
    ground.order.reach = (&input).into();
    let remote = stand_in_jail(&ground, &trial, &input).await?;
    Ok(both(local, remote))
}

fn listen() -> anyhow::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening on 127.0.0.1 for the canary")
}

/// Serves one guest one byte.
async fn greet(listener: tokio::net::TcpListener) {
    let serve = async {
        let (mut guest, _) = listener.accept().await?;
        tokio::io::AsyncWriteExt::write_all(&mut guest, b"x").await
    };
    // nobody came, or left: then the guest says what was wrong
    let _ = tokio::time::timeout(GUEST_WITHIN, serve).await;
}

async fn stand_in_jail(ground: &Ground<'_>, trial: &Trial, input: &Input) -> anyhow::Result<Protections> {
    let launcher = ground.launcher;
    let launch = Launch {
        launcher,
        role: CANARY,
        order: &ground.order,
        arguments: vec![serde_json::to_string(trial)?.into()],
        input,
        stdout: Stdout::Keep,
        cgroup: ground.cgroup,
        cancel: &CancellationToken::new(),
        bytes_read: &AtomicU64::new(0),
    };
    let ended = run(launch).await.with_context(|| format!("starting the jail's launcher {}", launcher.display()))?;
    if ended.end != End::Exited(0) {
        bail!("the jail's launcher ended with {:?}: {}", ended.end, ended.stderr.trim());
    }
    serde_json::from_slice(&ended.stdout).context("reading the canary's answer")
}

/// A wall holds if it held in both trials.
fn both(mut local: Protections, remote: Protections) -> Protections {
    for (name, status) in remote.0 {
        match (local.0.get_mut(&name), status) {
            (Some(here @ Status::Active), Status::Unavailable { reason }) => {
                *here = Status::Unavailable { reason: format!("for remote input: {reason}") };
            }
            (Some(_), _) => {}
            (None, status) => {
                local.0.insert(name, status);
            }
        }
    }
    local
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
        .map_err(io::Error::from)
        .and_then(|json| io::stdout().write_all(json.as_bytes()));
    if answer.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn raise_and_try(order: &Order, trial: &Trial) -> Protections {
    let status = |wall: Wall| match wall.switch(order) {
        Some(how) => Status::Off { how: how.to_owned() },
        None => wall.raise(order).and_then(|()| attempt(wall, order, trial)).into(),
    };
    let mut all: Protections =
        Protections(Wall::ALL.into_iter().map(|wall| (wall.name().to_owned(), status(wall))).collect());
    if order.sandbox == Sandbox::Off {
        let off = || Status::Off { how: SWITCH_ON.to_owned() };
        all.0.extend([REMOTE_INPUT, REMOTE_NAMESPACE].map(|name| (name.to_owned(), off())));
    } else if let Reach::Loopback { port } = order.reach {
        let reaches_input = read_byte(port).map_err(|e| format!("the input itself is not reached: {e}"));
        let held = |wall: Wall| all.0.get(wall.name()) == Some(&Status::Active);
        let (namespace, port_only) = (held(Wall::NetworkNamespace), held(Wall::LandlockTcp));
        let confined = reaches_input.clone().and_then(|()| {
            if !namespace && !port_only {
                return Err(format!("neither {} nor {}", Wall::LandlockTcp.name(), Wall::NetworkNamespace.name()));
            }
            unreachable("another port", connect(trial.port))
        });
        let alone = if namespace { reaches_input } else { Err("only the port is confined, at any address".into()) };
        all.0.insert(REMOTE_INPUT.to_owned(), confined.into());
        all.0.insert(REMOTE_NAMESPACE.to_owned(), alone.into());
    }
    all
}

/// Does what the wall must prevent.
fn attempt(wall: Wall, order: &Order, trial: &Trial) -> Result<(), String> {
    match (wall, order.reach) {
        (Wall::Cgroup, _) => match &order.cgroup {
            Some(Ok(cell)) => cgroup::holds(cell),
            _ => Err("there is no group".into()),
        },
        (Wall::NetworkNamespace, _) => unreachable("the machine's network", connect(trial.port)),
        (Wall::NoNewPrivs, _) => match rustix::thread::no_new_privs() {
            Ok(true) => Ok(()),
            other => Err(format!("the kernel says {other:?}")),
        },
        (Wall::Rlimits, _) => overstep_limits(order),
        (Wall::DedicatedUser, _) => order.user.map_or(Err("there is no user".into()), user::is_user),
        (Wall::Capabilities, reach) => match rustix::thread::capabilities(None) {
            Ok(left) if kept(reach).contains(left.permitted | left.effective) => {
                order.user.map_or(Ok(()), |_| user::cannot_return())
            }
            left => Err(format!("the kernel left {left:?}")),
        },
        (Wall::LandlockFs, reach) => {
            denied("reading another file", File::open(&trial.forbidden))?;
            denied("making a file", File::create(trial.forbidden.with_extension("new")))?;
            if reach != Reach::File {
                return Ok(());
            }
            let mut first = [0; 1];
            // the input stays readable, by the way ffprobe takes
            File::open("/dev/fd/0")
                .and_then(|mut f| f.read_exact(&mut first))
                .map_err(|e| format!("reading the input: {e}"))
        }
        (Wall::LandlockTcp, _) => denied("a TCP connection", connect(trial.port)),
        (Wall::Seccomp, reach) => {
            denied("a UDP socket", UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))?;
            denied("a local socket", UnixDatagram::unbound())?;
            denied("a pair of sockets", UnixDatagram::pair())?;
            denied("listening", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
            denied("a raw socket", socket(AddressFamily::NETLINK, SocketType::RAW))?;
            match reach {
                Reach::File => denied("a TCP socket", socket(AddressFamily::INET, SocketType::STREAM))?,
                Reach::Loopback { .. } => only_plain_tcp(trial.port)?,
            }
            // a program that does not exist: without the wall the answer is "not found"
            denied("another process", Command::new("/nonexistent/program").spawn())
        }
    }
}

fn socket(family: AddressFamily, kind: SocketType) -> io::Result<rustix::fd::OwnedFd> {
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).map_err(io::Error::from)
}

/// Tries the ways around Landlock's rules, which see no more than `connect` on a socket of plain TCP.
fn only_plain_tcp(port: u16) -> Result<(), String> {
    let multipath = Some(rustix::net::ipproto::MPTCP);
    let multipath = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, multipath);
    denied("multipath TCP", multipath.map_err(io::Error::from))?;
    let plain = socket(AddressFamily::INET, SocketType::STREAM).map_err(|e| format!("a TCP socket: {e}"))?;
    denied("an option of a socket", rustix::net::sockopt::set_socket_broadcast(&plain, true).map_err(io::Error::from))?;
    let there = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for flags in [SendFlags::from_bits_retain(libc::MSG_FASTOPEN.unsigned_abs()), SendFlags::empty()] {
        let sent = rustix::net::sendto(&plain, b"x", flags, &there).map_err(io::Error::from);
        denied("connecting by sending", sent)?;
    }
    Ok(())
}

fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), CONNECT_WITHIN)
}

fn read_byte(port: u16) -> io::Result<()> {
    let mut stream = connect(port)?;
    stream.read_exact(&mut [0; 1])
}

/// Somebody listens there, but not for us.
fn unreachable<T>(what: &str, answer: io::Result<T>) -> Result<(), String> {
    match answer {
        Err(e) if e.kind() == ErrorKind::ConnectionRefused || e.kind() == ErrorKind::NetworkUnreachable => Ok(()),
        other => denied(what, other),
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

fn denied<T>(what: &str, answer: io::Result<T>) -> Result<(), String> {
    match answer {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
        Err(e) => Err(format!("{what} was not denied, it failed otherwise: {e}")),
        Ok(_) => Err(format!("{what} was not denied")),
    }
}
