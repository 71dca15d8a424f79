//! One run of a program in the jail: started through the launcher, watched, ended at the latest at its deadline, and
//! always reaped. Called by [`crate::ffprobe`] and the canary. It judges nothing: what an exit status means is theirs.
//!
//! Dropping the future kills the whole process group too; the runtime then reaps the child.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::cgroup::{Cell, Cgroup};
use super::kernel::{self, Spent};
use super::limits::LIBRARIES;
use super::namespace::Handover;
use super::streams::{Stdout, Step, Streams, outlets};
use super::usage::Meter;
use super::{Input, Order, Usage, oom};

/// How often memory and bytes read are looked at.
const SAMPLE: Duration = Duration::from_millis(25);
/// Longest pause between two looks for an exit.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// How long a killed process may take to go. Only a kernel that waits for a dead disk needs longer.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// What to run.
pub(crate) struct Launch<'a, 's> {
    /// The worker's own binary.
    pub(crate) launcher: &'a Path,
    /// [`super::JAIL`] or the canary's word.
    pub(crate) role: &'static str,
    /// What the launcher does to itself.
    pub(crate) order: &'a Order,
    /// The program and its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// What it reads.
    pub(crate) input: &'a Input,
    /// What becomes of its standard output.
    pub(crate) stdout: Stdout<'s>,
    /// Where it gets a control group.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// Ends the run early.
    pub(crate) cancel: &'a CancellationToken,
    /// Grows by the bytes read, while it runs.
    pub(crate) bytes_read: &'a AtomicU64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal, which was not ours.
    Killed(i32),
    /// Killed by us at its deadline.
    Deadline,
    /// Killed by us for writing too much.
    TooMuchOutput,
    /// Killed by us because its output is not wanted any more.
    Refused,
    /// Killed by us, or taken for nothing, because it read more than its budget.
    ReadBudget,
    /// Killed by the kernel because its control group, or the worker's, was out of memory.
    OutOfMemory,
    /// Killed by us because nobody wants it any more.
    Canceled,
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it ended.
    pub(crate) end: End,
    /// Its standard output up to the cap, if it was kept.
    pub(crate) stdout: Vec<u8>,
    /// The last lines of its standard error, as harmless text.
    pub(crate) stderr: String,
    /// What it cost.
    pub(crate) usage: Usage,
}

/// Runs a program in the jail until it ends or must end. An error means that it could not be started.
pub(crate) async fn run(launch: Launch<'_, '_>) -> io::Result<Ended> {
    let started = Instant::now();
    let limits = launch.order.limits;
    let cancel = launch.cancel;
    let noted = Noted { total: launch.bytes_read, before: launch.bytes_read.load(Ordering::Relaxed) };
    let kills = oom::kills();
    let Spawned { mut running, mut streams, handover, cell } = spawn(launch)?;
    let mut meter = Meter::new(running.pid);
    let over_budget =
        |read: Option<u64>| limits.read_bytes.zip(read).is_some_and(|(most, n)| n > most.saturating_add(LIBRARIES));
    let mut tick = interval(SAMPLE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deadline = std::pin::pin!(sleep(Duration::from_millis(limits.wall_ms)));
    let mut awaited = handover.as_ref();
    let mut cut_short = loop {
        tokio::select! {
            // the pipes come last: a run that never stops writing is looked at all the same
            biased;
            () = cancel.cancelled() => break Some(End::Canceled),
            () = &mut deadline => break Some(End::Deadline),
            served = hand_over(awaited) => {
                served?;
                awaited = None;
            }
            _ = tick.tick() => {
                let read = noted.note(meter.sample());
                if over_budget(read) {
                    break Some(End::ReadBudget);
                }
            }
            step = streams.step() => match step {
                Step::Stdout if streams.stdout_bytes() > limits.stdout_bytes => break Some(End::TooMuchOutput),
                // what is kept ffprobe writes last of all, so now it is as large as it gets
                Step::Stdout if streams.keeps() => { noted.note(meter.sample()); }
                Step::Stdout | Step::Stderr => {}
                Step::Refused => break Some(End::Refused),
                Step::Closed => break None,
            },
        }
    };
    let mut spent = None;
    if cut_short.is_none() {
        tokio::select! {
            biased;
            () = cancel.cancelled() => cut_short = Some(End::Canceled),
            () = &mut deadline => cut_short = Some(End::Deadline),
            s = running.exited() => spent = s,
        }
    }
    running.kill(); // the program itself, or what it left behind in its group
    if cut_short.is_some() {
        spent = timeout(GONE_WITHIN, running.exited()).await.unwrap_or_default();
    }
    let mut usage = meter.total(started.elapsed(), spent);
    noted.note(usage.bytes_read);
    usage.group_peak_bytes = cell.as_ref().and_then(Cell::peak_bytes);
    let status = running.reap().await?;
    let end = match (cut_short, status.code()) {
        (Some(end), _) => end,
        _ if cell.is_some_and(|cell| cell.ran_out_of_memory()) => End::OutOfMemory,
        // the same file must not pass or fail by when it was looked at
        _ if over_budget(usage.bytes_read) => End::ReadBudget,
        (None, Some(code)) => End::Exited(code),
        // two that are killed at the same moment are not told apart, and need not be
        (None, None) if status.signal() == Some(libc::SIGKILL) && oom::kills() > kills => End::OutOfMemory,
        (None, None) => End::Killed(status.signal().unwrap_or_default()),
    };
    let (stdout, stderr) = streams.into_parts();
    Ok(Ended { end, stdout, stderr, usage })
}

/// Where bytes read are added up over several runs.
struct Noted<'a> {
    total: &'a AtomicU64,
    before: u64,
}

impl Noted<'_> {
    /// Stores what is known of this run and gives it back.
    fn note(&self, bytes: Option<u64>) -> Option<u64> {
        if let Some(bytes) = bytes {
            self.total.store(self.before.saturating_add(bytes), Ordering::Relaxed);
        }
        bytes
    }
}

/// A run that has begun.
struct Spawned<'s> {
    running: Running,
    streams: Streams<'s>,
    /// For remote input: where the launcher hands over its listener, and who serves there.
    handover: Option<(Handover, Serve)>,
    cell: Option<Cell>,
}

/// Takes a listener inside the run's own network.
type Serve = Arc<dyn Fn(TcpListener) -> io::Result<()> + Send + Sync>;

/// Waits for the launcher's listener and has it served; for ever if there is nothing to wait for.
async fn hand_over(awaited: Option<&(Handover, Serve)>) -> io::Result<()> {
    match awaited {
        Some((handover, serve_on)) => handover.receive().await?.map_or(Ok(()), |listener| serve_on(listener)),
        None => std::future::pending().await,
    }
}

fn spawn<'s>(launch: Launch<'_, 's>) -> io::Result<Spawned<'s>> {
    let (stdin, handover) = match launch.input {
        Input::File(file) => (Stdio::from(file.try_clone()?), None),
        Input::Loopback(server) => {
            let (ours, theirs) = Handover::pair()?;
            (Stdio::from(theirs), Some((ours, Arc::clone(&server.serve_on))))
        }
    };
    let (stdout, stderr, ours) = outlets(&launch.stdout)?;
    let cell = launch.cgroup.map(|cgroup| cgroup.cell(&launch.order.limits));
    let mut order = launch.order.clone();
    order.cgroup = cell.as_ref().map(|cell| cell.as_ref().map(|c| c.path.clone()).map_err(Clone::clone));
    let cell = cell.and_then(Result::ok);
    // no pre_exec and nothing else that would make this a fork
    let mut child = Command::new(launch.launcher)
        .arg0("ffprobe-worker")
        .arg(launch.role)
        .arg(serde_json::to_string(&order)?)
        .args(&launch.arguments)
        .env_clear()
        .env("LANG", "C")
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()?;
    let pid = child
        .id()
        .and_then(|id| Pid::from_raw(id.cast_signed()))
        .ok_or_else(|| io::Error::other("the child has no id"))?;
    let streams = Streams::new(&mut child, ours, launch.stdout, order.limits.stderr_bytes);
    Ok(Spawned { running: Running { child, pid, reaped: false }, streams, handover, cell })
}

/// A child that is killed with its whole group unless it was reaped.
struct Running {
    child: Child,
    pid: Pid,
    reaped: bool,
}

impl Running {
    /// Kills the process group, and the launcher itself in case it has no group of its own yet. The id is ours until the
    /// child is reaped, so nobody else is hit.
    fn kill(&self) {
        // an error only says that there is nobody to kill any more
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = kill_process(self.pid, Signal::KILL);
    }

    /// Waits until the child is a zombie, without reaping it. None if the kernel does not say what it used.
    async fn exited(&self) -> Option<Spent> {
        // both pipes close within microseconds of the end, so the first looks nearly always see it
        let mut pause = Duration::from_millis(1);
        tokio::task::yield_now().await;
        loop {
            match kernel::peek_exit(self.pid) {
                Ok(None) => sleep(pause).await,
                Ok(spent) => return spent,
                Err(error) => {
                    tracing::warn!(%error, "waitid tells nothing of ffprobe's end; its cost is not known");
                    return None;
                }
            }
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    /// Reaps the child. An error means that even SIGKILL did not end it in time; the runtime reaps it later.
    async fn reap(&mut self) -> io::Result<ExitStatus> {
        let Ok(status) = timeout(GONE_WITHIN, self.child.wait()).await else {
            tracing::error!(pid = %self.pid, "ffprobe does not end, not even killed: its file system hangs");
            return Err(io::Error::new(io::ErrorKind::TimedOut, "ffprobe does not end, not even killed"));
        };
        self.reaped = true;
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill();
        }
    }
}
