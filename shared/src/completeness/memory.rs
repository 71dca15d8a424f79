//! Test only: bytes in memory as a file, with holes, short reads and a count of what was asked.
//!
//! Used by the tests of this folder. It also checks what holds for every judgement: the bound, the sentences, the sizes.

use super::{Bytes, Completeness, MAX_BYTES, MAX_EVIDENCE, MAX_READS, MAX_SENTENCE_BYTES, Verdict, judge};

/// A file in memory.
pub(super) struct Memory {
    /// Pieces with their offsets; zeros between them.
    pieces: Vec<(u64, Vec<u8>)>,
    /// The length it claims.
    pub(super) claimed: u64,
    /// Where its reads end.
    end: u64,
    /// Bytes one read returns at most.
    pub(super) most: usize,
    /// Reads so far.
    pub(super) reads: u32,
    bytes: u64,
}

impl Memory {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self::sparse(bytes.len() as u64, vec![(0, bytes.to_vec())])
    }

    pub(super) fn sparse(len: u64, pieces: Vec<(u64, Vec<u8>)>) -> Self {
        Self { pieces, claimed: len, end: len, most: usize::MAX, reads: 0, bytes: 0 }
    }

    /// Judges it, and checks everything that holds for every file.
    pub(super) fn judge(&mut self) -> Completeness {
        let found = judge(self).unwrap();
        assert!(self.reads <= MAX_READS && self.bytes <= MAX_BYTES, "{} reads of {}", self.reads, self.bytes);
        assert!(!found.evidence.is_empty() && found.evidence.len() <= MAX_EVIDENCE);
        for sentence in &found.evidence {
            assert!(sentence.len() <= MAX_SENTENCE_BYTES && sentence.ends_with('.'), "{sentence}");
            assert!(!sentence.contains(char::is_control), "{sentence:?}");
        }
        assert_eq!(found.actual_bytes, self.claimed);
        match found.verdict {
            Verdict::Truncated => assert!(found.expected_bytes.is_none_or(|more| more > found.actual_bytes)),
            Verdict::Complete => assert!(found.expected_bytes.is_none_or(|less| less <= found.actual_bytes)),
            Verdict::Unknown => {}
        }
        found
    }
}

impl Bytes for Memory {
    fn len(&self) -> u64 {
        self.claimed
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
        self.reads += 1;
        let left = usize::try_from(self.end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = into.len().min(left).min(self.most);
        let into = &mut into[..count];
        into.fill(0);
        let within = |far: u64, most: usize| usize::try_from(far).unwrap_or(usize::MAX).min(most);
        for (at, piece) in &self.pieces {
            let skip = within(offset.saturating_sub(*at), piece.len());
            let place = within(at.saturating_sub(offset), count);
            let both = (piece.len() - skip).min(count - place);
            into[place..place + both].copy_from_slice(&piece[skip..skip + both]);
        }
        self.bytes += count as u64;
        Ok(count)
    }
}

/// What is said of a file with these bytes.
pub(super) fn judged(bytes: &[u8]) -> Completeness {
    Memory::of(bytes).judge()
}
