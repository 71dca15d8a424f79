//! The log file of a private server: opened for it, kept bounded, and its end shown when the server fails.
//!
//! Called by `private`. The server appends to it, so the file may be cut while the server runs.
//! It must never hold more than about twice `LARGEST` bytes per server.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Above this size the file becomes `NAME.1` and begins anew.
const LARGEST: u64 = 4 * 1024 * 1024;
/// How much of the end an error shows.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 12;

/// The log file of one server.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
}

impl LogFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for a server's output.
    pub(super) fn open(&self) -> io::Result<File> {
        self.keep_bounded()?;
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }

    /// Begins the file anew when it has grown too large, also while a server writes. Lines written between the copy and
    /// the cut are lost.
    pub(super) fn keep_bounded(&self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.len() > LARGEST => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        fs::copy(&self.path, older)?;
        OpenOptions::new().write(true).truncate(true).open(&self.path)?;
        Ok(())
    }

    /// Where the next line will stand: the beginning of what a start is going to write.
    pub(super) fn position(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// The last lines written since `position`, for an error message.
    pub(super) fn tail_since(&self, position: u64) -> String {
        match self.read_tail(position) {
            Ok(text) if text.is_empty() => format!("{} has no line about it", self.path.display()),
            Ok(text) => format!("the last lines of {}:\n{text}", self.path.display()),
            Err(error) => format!("{} could not be read: {error}", self.path.display()),
        }
    }

    fn read_tail(&self, position: u64) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(position.max(end.saturating_sub(TAIL_BYTES)).min(end)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_stays_bounded_while_it_is_written_to() {
        let directory = tempfile::tempdir().expect("directory");
        let log = LogFile::new(directory.path().join("server.log"));
        let mut writer = log.open().expect("open");
        writer.write_all(&vec![b'x'; 5 * 1024 * 1024]).expect("write");
        log.keep_bounded().expect("bounded");
        writer.write_all(b"after\n").expect("write");
        assert_eq!(fs::read_to_string(log.path()).expect("read"), "after\n");
        assert_eq!(fs::metadata(directory.path().join("server.log.1")).expect("older").len(), 5 * 1024 * 1024);
    }

    #[test]
    fn the_tail_is_of_this_start_only() {
        let directory = tempfile::tempdir().expect("directory");
        let log = LogFile::new(directory.path().join("server.log"));
        let mut writer = log.open().expect("open");
        writer.write_all(b"old\n").expect("write");
        let position = log.position();
        assert!(log.tail_since(position).contains("has no line"));
        for number in 0..20 {
            writeln!(writer, "new {number}").expect("write");
        }
        let tail = log.tail_since(position);
        assert!(tail.ends_with("new 18\nnew 19") && !tail.contains("old") && !tail.contains("new 7\n"), "{tail}");
    }
}
