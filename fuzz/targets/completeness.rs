//! Fuzz target: `completeness::judge` on arbitrary bytes. The input is a file, and also the head and tail of a large one with
//! a hole between. Fails on a panic, an overflow, an error, or a read beyond the bound. Never touches a disk.

#![no_main]

use std::io;

use fuzz::completeness::{self, Bytes, MAX_BYTES, MAX_EVIDENCE, MAX_READS, MAX_SENTENCE_BYTES};
use libfuzzer_sys::fuzz_target;

/// A file whose first part stands at its start and whose second part stands at its end.
struct Sparse<'a> {
    head: &'a [u8],
    tail: &'a [u8],
    len: u64,
    reads: u32,
    bytes: u64,
}

impl Bytes for Sparse<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        let count = into.len().min(usize::try_from(self.len - offset).unwrap_or(usize::MAX));
        let into = &mut into[..count];
        into.fill(0);
        let tail_at = self.len - self.tail.len() as u64;
        copy(self.head, 0, offset, into);
        copy(self.tail, tail_at, offset, into);
        self.bytes += count as u64;
        Ok(count)
    }
}

/// Copies what of a piece at `at` falls into the bytes from `offset` on.
fn copy(piece: &[u8], at: u64, offset: u64, into: &mut [u8]) {
    let skip = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX).min(piece.len());
    let place = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX).min(into.len());
    let count = (piece.len() - skip).min(into.len() - place);
    into[place..place + count].copy_from_slice(&piece[skip..skip + count]);
}

fn judge(mut file: Sparse<'_>) {
    let found = completeness::judge(&mut file).expect("reading memory does not fail");
    assert!(file.reads <= MAX_READS && file.bytes <= MAX_BYTES);
    assert!(!found.evidence.is_empty() && found.evidence.len() <= MAX_EVIDENCE);
    assert!(found.evidence.iter().all(|sentence| sentence.len() <= MAX_SENTENCE_BYTES));
}

fuzz_target!(|input: &[u8]| {
    completeness::content_type(input);
    judge(Sparse { head: input, tail: &[], len: input.len() as u64, reads: 0, bytes: 0 });
    // the first nine bytes choose how the rest is spread
    if let Some((choice, file)) = input.split_first_chunk::<9>() {
        let (head, tail) = file.split_at(usize::from(choice[0]) * file.len() / 256);
        let hole = u64::from_le_bytes([
            choice[1], choice[2], choice[3], choice[4], choice[5], choice[6], choice[7], choice[8],
        ]);
        let len = (file.len() as u64).saturating_add(hole);
        judge(Sparse { head, tail, len, reads: 0, bytes: 0 });
    }
});
