//! What a bucket holds of an unfinished upload, as the object `manifest` beside its bytes says it. Pure: [`super::tail`] reads
//! and writes it, here are its rules. Bytes that it does not name do not count, whatever lies in the bucket.
//!
//! Every byte lies in a piece first, which can be read back; a whole part's worth of them becomes a part of the multipart
//! upload, which cannot. Pieces of a part are kept until the row counts beyond them: until then the upload may be cut there.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes of every part but the last. S3 wants 5 MiB at least, and some stores parts of equal size.
pub(super) const PART_BYTES: u64 = 16 << 20;
/// Most parts of an upload (S3's limit).
pub(super) const PARTS_MAX: u64 = 10_000;
/// Bytes at the start that stay readable until the end: what a file is, is told from them.
const FIRST_BYTES: u64 = 64 << 10;
/// The form that is written.
const FORM: u32 = 1;

/// What counts of an unfinished upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The form this was written in.
    form: u32,
    /// Who wrote it: one take-over of the upload.
    pub(super) writer: Uuid,
    /// How many times it has; with `writer` no two versions are alike.
    pub(super) version: u64,
    /// The multipart upload; none until the first whole part.
    pub(super) multipart: Option<String>,
    /// The parts it has, as the store named them.
    pub(super) parts: Vec<String>,
    /// Objects with the first bytes, where `pieces` begins later.
    pub(super) first: Vec<Piece>,
    /// Objects with bytes, in order and without a hole up to the end.
    pub(super) pieces: Vec<Piece>,
}

/// An object with some bytes of the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Piece {
    /// Its name; never used twice.
    pub(super) name: Uuid,
    /// Where its first byte belongs.
    pub(super) at: u64,
    /// How many of its bytes count.
    pub(super) bytes: u64,
}

impl Piece {
    pub(super) fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes)
    }
}

impl Manifest {
    /// That of an upload without bytes.
    pub(super) fn new() -> Self {
        let (parts, first, pieces) = (Vec::new(), Vec::new(), Vec::new());
        Self { form: FORM, writer: Uuid::new_v4(), version: 0, multipart: None, parts, first, pieces }
    }

    /// Reads one. What lies in a bucket may have been written by anybody who has keys for it, so nothing is believed.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(text).map_err(|e| format!("line {} is not a manifest's", e.line()))?;
        if read.form != FORM {
            return Err(format!("it has the form {}, which a later version wrote", read.form));
        }
        let chained = |pieces: &[Piece]| pieces.windows(2).all(|two| two[0].end() == two[1].at);
        let whole = chained(&read.first) && read.first.first().is_none_or(|p| p.at == 0) && chained(&read.pieces);
        // no piece reaches from one part into the next
        let small =
            read.first.iter().chain(&read.pieces).all(|p| (1..=PART_BYTES - p.at % PART_BYTES).contains(&p.bytes));
        let fits = read.parts.len() as u64 <= PARTS_MAX;
        let begins = read.pieces.first().is_none_or(|p| p.at <= read.parts_end());
        if whole && small && fits && begins { Ok(read) } else { Err("its parts and pieces do not fit".to_owned()) }
    }

    /// Bytes in whole parts.
    pub(super) fn parts_end(&self) -> u64 {
        (self.parts.len() as u64).saturating_mul(PART_BYTES)
    }

    /// Bytes that count.
    pub(super) fn end(&self) -> u64 {
        self.pieces.last().map_or(0, Piece::end).max(self.parts_end())
    }

    /// The pieces that belong to no part yet.
    pub(super) fn open_pieces(&self) -> &[Piece] {
        let end = self.parts_end();
        &self.pieces[self.pieces.partition_point(|p| p.at < end)..]
    }

    /// Cuts off what lies beyond `length`, and returns how many bytes are left: those of the whole parts before it where the
    /// pieces that the rest is made of are gone.
    pub(super) fn cut(&mut self, mut length: u64) -> u64 {
        if length >= self.end() {
            return self.end();
        }
        let keep = usize::try_from(length / PART_BYTES).unwrap_or(usize::MAX).min(self.parts.len());
        let begin = keep as u64 * PART_BYTES;
        if length > begin && !self.pieces.iter().any(|p| (p.at..p.end()).contains(&begin)) {
            length = begin;
        }
        self.parts.truncate(keep);
        for pieces in [&mut self.first, &mut self.pieces] {
            pieces.retain(|p| p.at < length);
            if let Some(last) = pieces.last_mut() {
                last.bytes = last.bytes.min(length - last.at);
            }
        }
        length
    }

    /// Replaces the pieces that belong to no part yet by one that holds them all; returns their names.
    pub(super) fn merge(&mut self, name: Uuid) -> Vec<Uuid> {
        let (at, bytes) = (self.parts_end(), self.end() - self.parts_end());
        let open = self.open_pieces().len();
        let merged = self.pieces.split_off(self.pieces.len() - open);
        self.pieces.push(Piece { name, at, bytes });
        merged.iter().map(|p| p.name).collect()
    }

    /// Lets pieces go of parts that are counted to their end, but for the first ones; returns their names. A part that may
    /// still be cut is made anew, from all of its pieces.
    pub(super) fn let_go(&mut self, counted: u64) -> Vec<Uuid> {
        let end = self.parts_end().min(counted / PART_BYTES * PART_BYTES);
        let gone = self.pieces.partition_point(|p| p.end() <= end);
        let (first, gone) = self.pieces.drain(..gone).partition(|p: &Piece| p.at < FIRST_BYTES);
        self.first.extend::<Vec<_>>(first);
        gone.iter().map(|p| p.name).collect()
    }

    /// The pieces that hold the bytes `at..end`, in order; fewer where some are gone.
    pub(super) fn pieces_of(&self, at: u64, end: u64) -> Vec<Piece> {
        let mut next = at;
        let mut found = Vec::new();
        for piece in self.first.iter().chain(&self.pieces) {
            if next < end && (piece.at..piece.end()).contains(&next) {
                found.push(*piece);
                next = piece.end();
            }
        }
        found
    }

    /// The names of all pieces.
    pub(super) fn names(&self) -> impl Iterator<Item = Uuid> {
        self.first.iter().chain(&self.pieces).map(|p| p.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn manifest(parts: usize, pieces: &[(u64, u64)]) -> Manifest {
        let pieces = pieces.iter().map(|(at, bytes)| Piece { name: Uuid::new_v4(), at: at * MIB, bytes: bytes * MIB });
        Manifest { parts: vec!["\"tag\"".to_owned(); parts], pieces: pieces.collect(), ..Manifest::new() }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for good in [manifest(0, &[]), manifest(2, &[]), manifest(1, &[(12, 4), (16, 3)]), manifest(0, &[(0, 16)])] {
            assert_eq!(Manifest::parse(&serde_json::to_vec(&good).unwrap()), Ok(good));
        }
        for bad in [
            manifest(0, &[(1, 1)]),
            manifest(1, &[(17, 1)]),
            manifest(0, &[(0, 1), (2, 1)]),
            manifest(0, &[(0, 2), (1, 2)]),
            manifest(0, &[(0, 0)]),
            manifest(0, &[(0, 17)]),
            manifest(0, &[(0, 16), (16, 1), (17, u64::MAX / MIB)]),
            manifest(10_001, &[]),
            Manifest { form: 2, ..Manifest::new() },
        ] {
            assert!(Manifest::parse(&serde_json::to_vec(&bad).unwrap()).is_err(), "{bad:?}");
        }
        assert!(Manifest::parse(b"").is_err() && Manifest::parse(b"{}").is_err());
    }

    #[test]
    fn it_is_cut_wherever_pieces_are_kept() {
        let whole = manifest(2, &[(16, 8), (24, 8), (32, 3)]);
        for (length, parts, end) in
            [(35, 2, 35), (99, 2, 35), (34, 2, 34), (32, 2, 32), (25, 1, 25), (17, 1, 17), (16, 1, 16)]
        {
            let mut cut = whole.clone();
            assert_eq!(cut.cut(length * MIB), end * MIB, "{length}");
            assert_eq!((cut.parts.len(), cut.end()), (parts, end * MIB), "{length}");
            assert!(Manifest::parse(&serde_json::to_vec(&cut).unwrap()).is_ok(), "{length}");
        }
        for (length, parts) in [(31, 1), (17, 1), (15, 0), (0, 0)] {
            // the row went back behind what it had counted: a standby took over that had not heard of it
            let mut gone = manifest(2, &[]);
            assert_eq!(gone.cut(length * MIB), parts as u64 * 16 * MIB, "{length}");
            assert_eq!((gone.parts.len(), gone.end()), (parts, parts as u64 * 16 * MIB), "{length}");
        }
    }

    #[test]
    fn pieces_go_when_they_are_in_a_part_and_counted() {
        let mut m = manifest(1, &[(0, 8), (8, 8), (16, 1), (17, 1)]);
        assert_eq!((m.let_go(16 * MIB - 1).len(), m.pieces.len()), (0, 4), "the part may still be cut, and made anew");
        assert_eq!(m.clone().cut(9 * MIB), 9 * MIB);
        assert_eq!(
            (m.let_go(16 * MIB).len(), m.first.len(), m.pieces.len()),
            (1, 1, 2),
            "the first bytes stay readable"
        );
        assert_eq!(m.let_go(99 * MIB).len(), 0);
        assert_eq!(m.pieces_of(0, 4096), m.first);
        assert_eq!(m.pieces_of(16 * MIB, 18 * MIB), m.pieces);
        assert!(m.pieces_of(9 * MIB, 18 * MIB).is_empty(), "nothing is read from behind a hole");
        assert_eq!((m.pieces.len(), m.end()), (2, 18 * MIB));
        let name = Uuid::new_v4();
        assert_eq!(m.merge(name).len(), 2);
        assert_eq!(m.open_pieces(), [Piece { name, at: 16 * MIB, bytes: 2 * MIB }]);
    }
}
