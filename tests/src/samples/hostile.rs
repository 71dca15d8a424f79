//! Files that are not what they seem: empty, cut off, or something else under a media name. Used by tests of failures.
//! Each says whether an honest reader can still describe it.

use std::path::PathBuf;
use std::sync::LazyLock;

use super::{folder, path, publish};

/// What can be said of such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: there is no media in it, or nobody can tell.
    Unreadable,
    /// The header is whole, so it can be described, although media is missing.
    HeaderOnly,
}

/// A file that is not what it seems.
pub struct Hostile {
    /// A short name.
    pub name: &'static str,
    /// What can be said of it.
    pub outcome: Outcome,
    bytes: Vec<u8>,
}

impl Hostile {
    /// Where the file is; all of them claim to be MP4.
    pub fn path(&self) -> PathBuf {
        let path = folder().join(format!("{}.mp4", self.name));
        publish(&path, &self.bytes);
        path
    }
}

/// All of them.
pub fn hostile() -> &'static [Hostile] {
    static HOSTILE: LazyLock<Vec<Hostile>> = LazyLock::new(|| {
        let hostile = |name, outcome, bytes| Hostile { name, outcome, bytes };
        // A reader that obeys it describes another file of ours, under the name of this one.
        let victim = path("ts");
        let playlist = format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
            victim.display(),
            victim.file_name().unwrap_or_default().display()
        );
        vec![
            hostile("empty", Outcome::Unreadable, Vec::new()),
            hostile("text", Outcome::Unreadable, b"These are notes, not media.\n".repeat(40)),
            hostile("cut_before_index", Outcome::Unreadable, part_of("mp4")),
            hostile("cut_after_index", Outcome::HeaderOnly, part_of("faststart")),
            hostile("playlist", Outcome::Unreadable, playlist.into_bytes()),
        ]
    });
    &HOSTILE
}

/// The first two thirds of a sample.
fn part_of(sample: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(path(sample)).expect("a sample");
    bytes.truncate(bytes.len() * 2 / 3);
    bytes
}
