//! The bound: every byte that [`super::judge`] sees comes through [`Reader`], which counts reads and bytes and stops at a
//! limit. It reads blocks and keeps the last one, because headers stand close together and a remote read is a request.
//! Used by all walkers of this folder; it knows no container.

use std::io;

use super::Bytes;

/// Reads of one judgement, at most.
pub const MAX_READS: u32 = 64;
/// Bytes read for one judgement, at most.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// Bytes fetched at least, where the file has them.
const BLOCK_BYTES: usize = 4096;

/// Why a look ended early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The source failed.
    Io(io::Error),
    /// The bound is reached.
    GaveUp,
}

/// The result of looking at something.
pub(super) type Look<T> = Result<T, Stop>;

/// What has been used of the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) reads: u32,
    pub(super) bytes: u64,
}

/// Bounded access to a file.
pub(super) struct Reader<'a> {
    bytes: &'a mut dyn Bytes,
    len: u64,
    spent: Spent,
    block: Vec<u8>,
    block_at: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a mut dyn Bytes) -> Self {
        let len = bytes.len();
        Self { bytes, len, spent: Spent { reads: 0, bytes: 0 }, block: Vec::new(), block_at: 0 }
    }

    /// The length of the file, as it was at the start.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn spent(&self) -> Spent {
        self.spent
    }

    /// The bytes at an offset: as many as wanted, fewer only at the end of the file.
    pub(super) fn view(&mut self, offset: u64, wanted: usize) -> Look<&[u8]> {
        let wanted = self.in_file(offset, wanted);
        if wanted == 0 {
            return Ok(&[]);
        }
        let held = offset.checked_sub(self.block_at).and_then(|skip| usize::try_from(skip).ok());
        let start = match held {
            Some(start) if start.checked_add(wanted).is_some_and(|end| end <= self.block.len()) => start,
            _ => {
                self.fetch(offset, self.in_file(offset, wanted.max(BLOCK_BYTES)))?;
                0
            }
        };
        Ok(&self.block[start..start + wanted])
    }

    /// The `N` bytes at an offset; nothing if the file ends before.
    pub(super) fn take<const N: usize>(&mut self, offset: u64) -> Look<Option<[u8; N]>> {
        Ok(self.view(offset, N)?.try_into().ok())
    }

    /// The last bytes of the file, and where they begin.
    pub(super) fn tail(&mut self, wanted: usize) -> Look<(u64, &[u8])> {
        let at = self.len.saturating_sub(wanted as u64);
        Ok((at, self.view(at, wanted)?))
    }

    /// How many of the wanted bytes the file has from an offset on.
    fn in_file(&self, offset: u64, wanted: usize) -> usize {
        usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(wanted)
    }

    fn fetch(&mut self, offset: u64, wanted: usize) -> Look<()> {
        self.block_at = offset;
        self.block.clear();
        if wanted as u64 > MAX_BYTES - self.spent.bytes {
            return Err(Stop::GaveUp);
        }
        self.block.resize(wanted, 0);
        let mut came = 0;
        while came < wanted {
            if self.spent.reads == MAX_READS {
                self.block.clear();
                return Err(Stop::GaveUp);
            }
            self.spent.reads += 1;
            match self.bytes.read_at(offset + came as u64, &mut self.block[came..]) {
                Ok(0) => return Err(Stop::Io(shrunk())),
                // A source that claims more than there was room for has filled the room.
                Ok(more) => came += more.min(wanted - came),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Io(error)),
            }
        }
        self.spent.bytes += wanted as u64;
        Ok(())
    }
}

fn shrunk() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the file became shorter while it was read; look again when nobody writes it",
    )
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    #[test]
    fn small_views_of_one_block_are_one_read() {
        let mut memory = Memory::of(&[7; 10_000]);
        let mut reader = Reader::new(&mut memory);
        for offset in [0, 8, 100, 4088] {
            assert_eq!(reader.take::<8>(offset).unwrap(), Some([7; 8]));
        }
        assert_eq!(reader.spent(), Spent { reads: 1, bytes: 4096 });
        assert_eq!(reader.take::<8>(9_993).unwrap(), None);
        assert_eq!(reader.view(9_993, 8).unwrap().len(), 7);
        assert_eq!(reader.view(u64::MAX, 8).unwrap().len(), 0);
    }

    #[test]
    fn short_reads_are_put_together_and_counted() {
        let mut memory = Memory::of(&[7; 100]);
        memory.most = 30;
        let mut reader = Reader::new(&mut memory);
        assert_eq!(reader.view(0, 100).unwrap().len(), 100);
        assert_eq!(reader.spent().reads, 4);
    }

    #[test]
    fn reads_and_bytes_end_at_their_limit() {
        let mut memory = Memory::of(&vec![7; 3 << 20]);
        let mut reader = Reader::new(&mut memory);
        let views = (0..200).take_while(|n| reader.view(n * 10_000, 8).is_ok()).count();
        assert_eq!(views, MAX_READS as usize);
        assert!(matches!(reader.view(0, 8), Err(Stop::GaveUp)));

        let mut reader = Reader::new(&mut memory);
        assert!(reader.view(0, 1 << 20).is_ok());
        assert!(matches!(reader.view(2 << 20, 1), Err(Stop::GaveUp)));
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let mut memory = Memory::of(&[7; 100]);
        memory.claimed = 5000;
        let error = Reader::new(&mut memory).view(0, 200).map(<[u8]>::len);
        assert!(matches!(error, Err(Stop::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof));
    }
}
