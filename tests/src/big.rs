//! Big files: 50 GB of hole with a valid structure around it, and small siblings with the same head, for tests that
//! compare what they cost.
//!
//! Heads and first frames come from ffmpeg's samples; sizes, tables, indexes and the hole are written by hand. The files
//! take almost no room on the disk. Nothing in them can be decoded but the first second.

mod matroska;
mod movie;
mod other;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The largest upload.
pub const FIFTY_GB: u64 = 50 << 30;
/// Several GB, for scans of every packet.
pub const FOUR_GB: u64 = 4 << 30;
/// What a big file is compared with.
pub const FIVE_MB: u64 = 5 << 20;

/// A container that is written big.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// MP4 with its index at the end: one video, one audio track.
    MoovAtEnd,
    /// MP4 with its index at the beginning.
    Faststart,
    /// Matroska with a cluster for every MB and cues at the end.
    Matroska,
    /// A transport stream with packets at its beginning and end, and a hole between.
    TransportStream,
    /// MXF with a footer, and filler between its essence and that.
    Mxf,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::MoovAtEnd, Self::Faststart, Self::Matroska, Self::TransportStream, Self::Mxf];

    /// Its file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::MoovAtEnd => "moov_at_end.mp4",
            Self::Faststart => "faststart.mp4",
            Self::Matroska => "clusters.mkv",
            Self::TransportStream => "stream.ts",
            Self::Mxf => "footer.mxf",
        }
    }

    /// The format as `media.container.format` or ffprobe's `format_name` begin.
    pub fn format(self) -> &'static str {
        match self {
            Self::MoovAtEnd | Self::Faststart => "mov",
            Self::Matroska => "matroska",
            Self::TransportStream => "mpegts",
            Self::Mxf => "mxf",
        }
    }

    /// Whether a scan of all packets goes through the whole file. It stops at the hole of the others.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::MoovAtEnd | Self::Faststart | Self::Matroska)
    }

    /// Writes it with about so many bytes (within a thousandth, and the head's own size) into a folder.
    pub fn write(self, folder: &Path, bytes: u64) -> PathBuf {
        let path = folder.join(format!("{bytes}-{}", self.name()));
        let mut file = File::create(&path).expect("the folder is writable");
        let written: io::Result<()> = match self {
            Self::MoovAtEnd => movie::write(&mut file, bytes, movie::Index::AtEnd),
            Self::Faststart => movie::write(&mut file, bytes, movie::Index::AtStart),
            Self::Matroska => matroska::write(&mut file, bytes),
            Self::TransportStream => other::transport_stream(&mut file, bytes),
            Self::Mxf => other::mxf(&mut file, bytes),
        };
        written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }
}

/// A file whose scan meets this many packets of one byte each; about as many bytes, none of them sparse.
pub fn many_packets(folder: &Path, packets: u32) -> PathBuf {
    let path = folder.join(format!("{packets}-packets.mkv"));
    let mut file = File::create(&path).expect("the folder is writable");
    crate::bombs::many_packets(&mut file, packets).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    path
}
