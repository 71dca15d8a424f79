//! Where log lines go: standard output, a system call a line and without the lock of [`std::io::Stdout`], at which the
//! threads of a busy server queue for as long as the slowest write takes. An answer of the API with its line costs a
//! quarter less processor time (measured with `tests/it/waiting.rs`, 2,000 answers at once).

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Once, PoisonError, RwLock};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tracing_subscriber::fmt::MakeWriter;

/// What one write puts into a pipe as a whole, however many write to it: `PIPE_BUF` of Linux, in bytes (pipe(7)).
const WHOLE: usize = 4096;

/// An open file that takes lines from many threads and keeps each in one piece.
pub struct Lines {
    file: File,
    /// Held alone for a line that takes more than one write, by all others together.
    turn: RwLock<()>,
    /// Told once that lines are lost.
    told: Once,
}

impl Lines {
    /// Lines for standard output.
    pub fn stdout() -> io::Result<Self> {
        Ok(Self::new(io::stdout().as_fd().try_clone_to_owned()?))
    }

    /// Writes a line to its end.
    fn put(&self, mut line: &[u8]) -> io::Result<()> {
        while !line.is_empty() {
            match (&self.file).write(line) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => line = &line[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // whoever shares the pipe has made it so that it does not wait; a line must not be torn for that
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None).map(drop).or_else(unless_interrupted)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn new(file: OwnedFd) -> Self {
        Self { file: file.into(), turn: RwLock::new(()), told: Once::new() }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let written = if line.len() <= WHOLE {
            let _turn = self.turn.read().unwrap_or_else(PoisonError::into_inner);
            self.put(line)
        } else {
            let _turn = self.turn.write().unwrap_or_else(PoisonError::into_inner);
            self.put(line)
        };
        if let Err(error) = &written {
            // where nobody reads that either, nobody can be told: the service goes on without its log
            self.told.call_once(|| drop(writeln!(io::stderr(), "log lines are lost: {error}")));
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unless_interrupted(error: Errno) -> io::Result<()> {
    if error == Errno::INTR { Ok(()) } else { Err(error.into()) }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};
    use std::thread;

    use super::*;

    #[test]
    fn lines_of_many_threads_stay_whole_whatever_their_length() {
        let (reader, writer) = pipe().unwrap();
        // the worst that whoever shares it can do
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let lines = Lines::new(writer.into());
        let write = |thread: u8| {
            for n in 0..500 {
                // every third one takes more than a pipe holds
                let length = if n % 3 == 0 { 70_000 } else { 100 };
                let mut line = vec![b'a' + thread; length];
                line.push(b'\n');
                lines.make_writer().write_all(&line).unwrap();
            }
        };
        thread::scope(|scope| {
            let read = scope.spawn(|| {
                let mut count = 0;
                for line in BufReader::new(reader).lines().take(2_000) {
                    let line = line.unwrap().into_bytes();
                    assert!(line.len() == 100 || line.len() == 70_000, "{}", line.len());
                    assert!(line.iter().all(|byte| *byte == line[0]), "two threads' words in one line");
                    count += 1;
                }
                count
            });
            let write = &write;
            for thread in 0..4 {
                scope.spawn(move || write(thread));
            }
            assert_eq!(read.join().unwrap(), 2_000);
        });
    }
}
