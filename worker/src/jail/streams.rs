//! What a run writes: standard output kept up to its cap or handed on while it comes, and the end of standard error as
//! harmless text. Called by [`super::process`] only; it judges nothing and ends nothing.
//!
//! Memory stays flat whatever is written: one chunk of each pipe, the kept output (whose cap the caller watches) and twice
//! the tail.

use std::ops::ControlFlow;

use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, ChildStdout};

use super::kernel;

/// Bytes taken from a pipe at once.
const CHUNK: usize = 64 << 10;
/// What the pipe of a streamed output holds. ffprobe writes in pieces of 4 to 32 KiB; in a large pipe it goes on writing
/// while the last pieces are parsed. The most that an unprivileged user may ask for.
const STREAM_PIPE: i32 = 1 << 20;

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

/// Both pipes and what came out of them.
pub(super) struct Streams<'a> {
    stdout_pipe: Option<ChildStdout>,
    stderr_pipe: Option<ChildStderr>,
    to: Stdout<'a>,
    stdout: Vec<u8>,
    stdout_bytes: u64,
    stderr: Tail,
    stdout_chunk: Vec<u8>,
    stderr_chunk: Vec<u8>,
}

impl<'a> Streams<'a> {
    /// The pipes of a child; keeps the last `stderr_bytes` of standard error.
    pub(super) fn new(
        stdout_pipe: Option<ChildStdout>,
        stderr_pipe: Option<ChildStderr>,
        to: Stdout<'a>,
        stderr_bytes: u64,
    ) -> Self {
        if let (Some(pipe), Stdout::Stream(_)) = (&stdout_pipe, &to)
            && let Err(error) = kernel::set_pipe_size(pipe, STREAM_PIPE)
        {
            tracing::debug!(%error, "the pipe of a scan stays small; it may be a little slower");
        }
        Self {
            stdout_pipe,
            stderr_pipe,
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
