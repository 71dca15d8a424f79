//! One run of a program in the jail: started through the launcher, watched, ended at the latest at its deadline, and
//! always reaped. Called by [`crate::ffprobe`] and the canary. It judges nothing: what an exit status means is theirs.
//!
//! Dropping the future kills the whole process group too; the runtime then reaps the child.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::kernel::{self, Spent};
use super::usage::Meter;
use super::{Order, Usage};

/// How often memory and bytes read are looked at.
const SAMPLE: Duration = Duration::from_millis(25);
/// Longest pause between two looks for an exit.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// How long a killed process may take to go. Only a kernel that waits for a dead disk needs longer.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// Bytes taken from a pipe at once (a pipe holds as many).
const CHUNK: usize = 64 << 10;

/// What to run.
pub(crate) struct Launch<'a> {
    /// The worker's own binary.
    pub(crate) launcher: &'a Path,
    /// [`super::JAIL`] or the canary's word.
    pub(crate) role: &'static str,
    /// What the launcher does to itself.
    pub(crate) order: &'a Order,
    /// The program and its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Its standard input.
    pub(crate) input: File,
    /// Ends the run early.
    pub(crate) cancel: &'a CancellationToken,
    /// Set to the bytes read so far, while it runs.
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
    /// Killed by us because nobody wants it any more.
    Canceled,
}

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    /// How it ended.
    pub(crate) end: End,
    /// Its standard output, up to the cap.
    pub(crate) stdout: Vec<u8>,
    /// The last lines of its standard error, as harmless text.
    pub(crate) stderr: String,
    /// What it cost.
    pub(crate) usage: Usage,
}

/// Runs a program in the jail until it ends or must end. An error means that it could not be started.
pub(crate) async fn run(launch: Launch<'_>) -> io::Result<Ended> {
    let started = Instant::now();
    let limits = launch.order.limits;
    let (mut running, mut streams) = spawn(&launch)?;
    let mut meter = Meter::new(running.pid);
    let mut tick = interval(SAMPLE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut deadline = std::pin::pin!(sleep(Duration::from_millis(limits.wall_ms)));
    let mut cut_short = loop {
        tokio::select! {
            biased;
            () = launch.cancel.cancelled() => break Some(End::Canceled),
            () = &mut deadline => break Some(End::Deadline),
            step = streams.step() => match step {
                Step::Stdout if streams.stdout_bytes() > limits.stdout_bytes => break Some(End::TooMuchOutput),
                // ffprobe writes last of all, so now it is as large as it gets
                Step::Stdout => note(meter.sample(), launch.bytes_read),
                Step::Stderr => {}
                Step::Closed => break None,
            },
            _ = tick.tick() => note(meter.sample(), launch.bytes_read),
        }
    };
    let mut spent = None;
    if cut_short.is_none() {
        tokio::select! {
            biased;
            () = launch.cancel.cancelled() => cut_short = Some(End::Canceled),
            () = &mut deadline => cut_short = Some(End::Deadline),
            s = running.exited() => spent = s,
        }
    }
    running.kill(); // the program itself, or what it left behind in its group
    if cut_short.is_some() {
        spent = timeout(GONE_WITHIN, running.exited()).await.unwrap_or_default();
    }
    let usage = meter.total(started.elapsed(), spent);
    note(usage.bytes_read, launch.bytes_read);
    let status = running.reap().await?;
    let end = cut_short.unwrap_or(match status.code() {
        Some(code) => End::Exited(code),
        None => End::Killed(status.signal().unwrap_or_default()),
    });
    let Streams { stdout, stderr, .. } = streams;
    Ok(Ended { end, stdout, stderr: stderr.into_text(), usage })
}

fn note(bytes: Option<u64>, into: &AtomicU64) {
    if let Some(bytes) = bytes {
        into.store(bytes, Ordering::Relaxed);
    }
}

fn spawn(launch: &Launch<'_>) -> io::Result<(Running, Streams)> {
    let order = serde_json::to_string(launch.order)?;
    // no pre_exec and nothing else that would make this a fork
    let mut child = Command::new(launch.launcher)
        .arg0("ffprobe-worker")
        .arg(launch.role)
        .arg(order)
        .args(&launch.arguments)
        .env_clear()
        .env("LANG", "C")
        .stdin(Stdio::from(launch.input.try_clone()?))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let pid = child
        .id()
        .and_then(|id| Pid::from_raw(id.cast_signed()))
        .ok_or_else(|| io::Error::other("the child has no id"))?;
    let (stdout_pipe, stderr_pipe) = (child.stdout.take(), child.stderr.take());
    let streams = Streams {
        stdout_pipe,
        stderr_pipe,
        stdout: Vec::new(),
        stderr: Tail::new(launch.order.limits.stderr_bytes),
        stdout_chunk: vec![0; CHUNK],
        stderr_chunk: vec![0; CHUNK],
    };
    Ok((Running { child, pid, reaped: false }, streams))
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

enum Step {
    Stdout,
    Stderr,
    Closed,
}

/// Both pipes and what came out of them.
struct Streams {
    stdout_pipe: Option<ChildStdout>,
    stderr_pipe: Option<ChildStderr>,
    stdout: Vec<u8>,
    stderr: Tail,
    stdout_chunk: Vec<u8>,
    stderr_chunk: Vec<u8>,
}

impl Streams {
    /// Takes the next chunk of either pipe. May be dropped at any time without losing a byte.
    async fn step(&mut self) -> Step {
        loop {
            tokio::select! {
                n = read(&mut self.stdout_pipe, &mut self.stdout_chunk), if self.stdout_pipe.is_some() => match n {
                    0 => self.stdout_pipe = None,
                    n => {
                        self.stdout.extend_from_slice(&self.stdout_chunk[..n]);
                        return Step::Stdout;
                    }
                },
                n = read(&mut self.stderr_pipe, &mut self.stderr_chunk), if self.stderr_pipe.is_some() => match n {
                    0 => self.stderr_pipe = None,
                    n => {
                        self.stderr.push(&self.stderr_chunk[..n]);
                        return Step::Stderr;
                    }
                },
                else => return Step::Closed,
            }
        }
    }

    fn stdout_bytes(&self) -> u64 {
        self.stdout.len() as u64
    }
}

/// Bytes read, 0 at the end. A pipe that fails is at its end too: the exit status tells the rest.
async fn read(pipe: &mut Option<impl AsyncReadExt + Unpin>, into: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(into).await.unwrap_or(0),
        None => 0,
    }
}

/// The last bytes of a stream.
struct Tail {
    bytes: Vec<u8>,
    keep: usize,
    cut: bool,
}

impl Tail {
    fn new(keep: u64) -> Self {
        Self { bytes: Vec::new(), keep: usize::try_from(keep).unwrap_or(usize::MAX), cut: false }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > self.keep.saturating_mul(2) {
            self.trim();
        }
    }

    fn trim(&mut self) {
        if let Some(excess) = self.bytes.len().checked_sub(self.keep).filter(|e| *e > 0) {
            self.bytes.drain(..excess);
            self.cut = true;
        }
    }

    /// Whole lines of text without control characters; what is not UTF-8 becomes U+FFFD.
    fn into_text(mut self) -> String {
        self.trim();
        let start = if self.cut { self.bytes.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1) } else { 0 };
        let harmless = |c: char| if c.is_control() && c != '\n' && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
        String::from_utf8_lossy(&self.bytes[start..]).replace("\r\n", "\n").chars().map(harmless).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_whole_lines_as_harmless_text() {
        let mut tail = Tail::new(24);
        for n in 0..1000 {
            tail.push(format!("line {n}\n").as_bytes());
        }
        assert_eq!(tail.into_text(), "line 998\nline 999\n");

        let mut short = Tail::new(64);
        short.push(b"a\0b\xffc\x1b[31m\r\nd");
        assert_eq!(short.into_text(), "a\u{fffd}b\u{fffd}c\u{fffd}[31m\nd");

        let mut one_long_line = Tail::new(4);
        one_long_line.push(b"0123456789");
        assert_eq!(one_long_line.into_text(), "6789");
    }
}
