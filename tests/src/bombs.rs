//! Bombs: small or sparse files that cost a reader gigabytes, minutes, or floods of text. Each says what it is, what the
//! machine's plain `ffprobe FILE` does with it (measured with 5.1), and which protections stop it.
//!
//! Used by the tests of hostile input and of the jail. Every one is written by hand: no encoder makes such files. Sparse
//! ones take no room on the disk.

mod images;
mod matroska;
mod movies;
mod streams;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use matroska::many_packets;

/// What keeps a bomb from doing harm. Several may have to stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// `-max_alloc`: the largest single allocation.
    MaxAlloc,
    /// `-max_streams`.
    MaxStreams,
    /// `RLIMIT_AS`.
    Memory,
    /// `RLIMIT_CPU`, or the deadline where it comes first.
    Processor,
    /// The cap on standard output.
    Output,
    /// The cap on standard error.
    Complaints,
    /// The list of formats.
    Formats,
    /// The name without extension.
    Alias,
    /// None is needed: FFmpeg bounds it itself, and it must stay so.
    Itself,
}

/// One bomb.
#[derive(Debug)]
pub struct Bomb {
    /// Its file name; the extension is part of some.
    pub name: &'static str,
    /// What plain ffprobe does with it.
    pub plain: &'static str,
    /// What stops it.
    pub stopped_by: &'static [Protection],
    write: fn(&mut File) -> io::Result<()>,
}

impl Bomb {
    /// Writes it into a folder and returns where.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join(self.name);
        let mut file = File::create(&path).expect("the folder is writable");
        (self.write)(&mut file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Bomb> {
    [movies::BOMBS, matroska::BOMBS, streams::BOMBS, images::BOMBS].into_iter().flatten()
}

/// The bomb of this name.
pub fn named(name: &str) -> &'static Bomb {
    all().find(|bomb| bomb.name == name).unwrap_or_else(|| panic!("there is no bomb {name}"))
}
