//! Where an answer that is saved goes: a file that appears under its name only when it is whole, or what stands for one, such as
//! standard output.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Seek, Stdout, Write, stdout};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// The place of an answer.
pub struct Output {
    name: PathBuf,
    to: To,
    written: bool,
}

enum To {
    /// A new file, written beside its place.
    New(NamedTempFile),
    /// A terminal, a pipe or a device: what was written stays written.
    Open(File),
    Stdout(Stdout),
}

impl Output {
    /// Opens the place; `-` is standard output. A file that is there already stays as it is until [`Self::keep`].
    pub fn open(name: &Path) -> Result<Self> {
        let context = || format!("{} cannot be written", name.display());
        let to = if name == Path::new("-") {
            To::Stdout(stdout())
        } else if name.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            To::Open(OpenOptions::new().write(true).open(name).with_context(context)?)
        } else {
            let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            // as any file of this user, not as the private ones of this crate
            let mode = Permissions::from_mode(0o666);
            let new = tempfile::Builder::new().prefix(".probectl-").permissions(mode).tempfile_in(folder);
            To::New(new.with_context(context)?)
        };
        Ok(Self { name: name.to_owned(), to, written: false })
    }

    /// Whether it is standard output.
    pub fn is_stdout(&self) -> bool {
        matches!(self.to, To::Stdout(_))
    }

    /// Takes back what was written. `false`: that is not possible.
    pub fn restart(&mut self) -> Result<bool> {
        if let To::New(file) = &mut self.to {
            file.as_file().set_len(0).and_then(|()| file.rewind()).with_context(|| self.name.display().to_string())?;
            self.written = false;
        }
        Ok(!self.written)
    }

    /// Adds a piece.
    pub fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.written = true;
        let written = match &mut self.to {
            To::New(file) => file.write_all(piece),
            To::Open(file) => file.write_all(piece),
            To::Stdout(out) => out.write_all(piece),
        };
        written.with_context(|| format!("{} cannot be written", self.name.display()))
    }

    /// Puts the whole answer in its place.
    pub fn keep(self) -> Result<()> {
        let context = || format!("{} cannot be written", self.name.display());
        match self.to {
            To::New(file) => {
                file.as_file().sync_all().with_context(context)?;
                file.persist(&self.name).map(drop).with_context(context)
            }
            To::Open(mut file) => file.flush().with_context(context),
            To::Stdout(mut out) => out.flush().with_context(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("results.csv");
        fs::write(&name, "last night's").unwrap();
        let mut output = Output::open(&name).unwrap();
        output.write(b"half of").unwrap();
        drop(output);
        assert_eq!(fs::read_to_string(&name).unwrap(), "last night's");
        let mut output = Output::open(&name).unwrap();
        output.write(b"half of").unwrap();
        assert!(output.restart().unwrap());
        output.write(b"whole").unwrap();
        output.keep().unwrap();
        assert_eq!(fs::read_to_string(&name).unwrap(), "whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_device_is_written_to_and_stays() {
        let mut output = Output::open(Path::new("/dev/null")).unwrap();
        output.write(b"x").unwrap();
        assert!(!output.restart().unwrap());
        output.keep().unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
        let error = Output::open(Path::new("/nonexistent/results.csv")).err().unwrap().to_string();
        assert!(error.contains("/nonexistent/results.csv cannot be written"), "{error}");
    }
}
