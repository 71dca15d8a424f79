//! What a run writes: standard output kept up to its cap or handed on while it comes, and the end of standard error as
//! harmless text. Called by [`super::process`] only; it judges nothing and ends nothing.
//!
//! Memory stays flat whatever is written: one chunk of each pipe, the kept output (whose cap the caller watches) and twice
//! the tail.

use std::io::{self, PipeReader};
use std::ops::ControlFlow;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::kernel;

/// Bytes taken from a pipe at once.
const CHUNK: usize = 64 << 10;
/// What each pipe of a streamed run holds: ffprobe goes on writing while the last pieces are parsed. The most that an
/// unprivileged user may ask for.
const STREAM_PIPE: i32 = 1 << 20;
/// How often the pipes of a streamed run are looked at. ffprobe writes each line by itself (40 bytes), and a reader that
/// waits for data is woken by each: that made a scan of packets twice as slow. Its complaints are as many where every
/// picture is broken (360,000 lines for 4 GB of holes), and to wait for them made it 1.4 times as slow. In this time it
/// writes 20 to 40 KB.
const LOOK: Duration = Duration::from_millis(2);

/// Takes standard output chunk by chunk, in order. To break off ends the run.
pub(crate) type Sink<'a> = &'a mut (dyn FnMut(&[u8]) -> ControlFlow<()> + Send);

/// What becomes of standard output.
pub(crate) enum Stdout<'a> {
    /// It is kept, up to its cap.
    Keep,
    /// It is handed on and forgotten; the cap counts all the same.
    Stream(Sink<'a>),
}

/// What happened on the pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// More standard output came.
    Stdout,
    /// The sink wants no more of it.
    Refused,
    /// More standard error came.
    Stderr,
    /// Both are at their end.
    Closed,
}

/// Where output comes from.
enum Pipe<W> {
    /// The runtime wakes us when there is something.
    Waited(W),
    /// We look. The runtime must never hear of this pipe: the kernel wakes whoever asked once about a pipe at every write.
    Looked { pipe: PipeReader, look: Interval, full: bool },
}

impl<W: AsyncRead + Unpin> Pipe<W> {
    /// Bytes read, 0 at the end. May be dropped at any time without losing a byte.
    /// A pipe that fails is at its end too: the exit status tells the rest.
    async fn read(&mut self, into: &mut [u8]) -> usize {
        let (pipe, look, full) = match self {
            Self::Waited(pipe) => return pipe.read(into).await.unwrap_or(0),
            Self::Looked { pipe, look, full } => (pipe, look, full),
        };
        loop {
            if *full {
                // there is more, but others on this thread want their turn too
                tokio::task::yield_now().await;
            } else {
                look.tick().await;
            }
            match rustix::io::read(&*pipe, &mut *into) {
                Ok(n) => {
                    *full = n == into.len();
                    return n;
                }
                Err(Errno::AGAIN | Errno::INTR) => *full = false,
                Err(_) => return 0,
            }
        }
    }
}

/// Our ends of pipes that the runtime does not know: of standard output and standard error.
pub(super) struct OurEnds(Option<(Pipe<ChildStdout>, Pipe<ChildStderr>)>);

/// What a child gets as its standard output and standard error, and our ends of them.
pub(super) fn outlets(stdout: &Stdout<'_>) -> io::Result<(Stdio, Stdio, OurEnds)> {
    if matches!(stdout, Stdout::Keep) {
        return Ok((Stdio::piped(), Stdio::piped(), OurEnds(None)));
    }
    let (stdout, our_stdout) = looked()?;
    let (stderr, our_stderr) = looked()?;
    Ok((stdout, stderr, OurEnds(Some((our_stdout, our_stderr)))))
}

/// A pipe that we look at.
fn looked<W>() -> io::Result<(Stdio, Pipe<W>)> {
    let (pipe, theirs) = io::pipe()?;
    fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
    if let Err(error) = kernel::set_pipe_size(&pipe, STREAM_PIPE) {
        tracing::debug!(%error, "a pipe of a scan stays small; it may be a little slower");
    }
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok((theirs.into(), Pipe::Looked { pipe, look, full: false }))
}

/// Both pipes and what came out of them.
pub(super) struct Streams<'a> {
    stdout_pipe: Option<Pipe<ChildStdout>>,
    stderr_pipe: Option<Pipe<ChildStderr>>,
    to: Stdout<'a>,
    stdout: Vec<u8>,
    stdout_bytes: u64,
    stderr: Tail,
    stdout_chunk: Vec<u8>,
    stderr_chunk: Vec<u8>,
}

impl<'a> Streams<'a> {
    /// The pipes of a child; keeps the last `stderr_bytes` of standard error.
    pub(super) fn new(child: &mut Child, ours: OurEnds, to: Stdout<'a>, stderr_bytes: u64) -> Self {
        let (stdout_pipe, stderr_pipe) = ours.0.unzip();
        Self {
            stdout_pipe: stdout_pipe.or_else(|| child.stdout.take().map(Pipe::Waited)),
            stderr_pipe: stderr_pipe.or_else(|| child.stderr.take().map(Pipe::Waited)),
            to,
            stdout: Vec::new(),
            stdout_bytes: 0,
            stderr: Tail::new(stderr_bytes),
            stdout_chunk: vec![0; CHUNK],
            stderr_chunk: vec![0; CHUNK],
        }
    }

    /// Takes the next chunk of either pipe. May be dropped at any time without losing a byte.
    pub(super) async fn step(&mut self) -> Step {
        loop {
            tokio::select! {
                n = read(&mut self.stdout_pipe, &mut self.stdout_chunk), if self.stdout_pipe.is_some() => match n {
                    0 => self.stdout_pipe = None,
                    n => {
                        let chunk = &self.stdout_chunk[..n];
                        self.stdout_bytes = self.stdout_bytes.saturating_add(n as u64);
                        return match &mut self.to {
                            Stdout::Keep => {
                                self.stdout.extend_from_slice(chunk);
                                Step::Stdout
                            }
                            Stdout::Stream(sink) => match sink(chunk) {
                                ControlFlow::Continue(()) => Step::Stdout,
                                ControlFlow::Break(()) => Step::Refused,
                            },
                        };
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

    /// Bytes of standard output so far.
    pub(super) fn stdout_bytes(&self) -> u64 {
        self.stdout_bytes
    }

    /// Whether standard output is kept.
    pub(super) fn keeps(&self) -> bool {
        matches!(self.to, Stdout::Keep)
    }

    /// What was kept of standard output, and the last lines of standard error.
    pub(super) fn into_parts(self) -> (Vec<u8>, String) {
        (self.stdout, self.stderr.into_text())
    }
}

/// Bytes read, 0 at the end.
async fn read<W: AsyncRead + Unpin>(pipe: &mut Option<Pipe<W>>, into: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(into).await,
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
