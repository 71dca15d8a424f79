//! The blocks of an object that were read last, so that what is read twice is fetched once. Used by `fetch`. Holds at
//! most a fixed number of blocks and forgets the one that was used longest ago.

use hyper::body::Bytes;

use super::bounds::BLOCK_BYTES;

struct Entry {
    block: u64,
    bytes: Bytes,
    /// When it was used, counted in uses.
    used: u64,
}

/// Whole blocks, by number. The last block of an object may be shorter.
pub(super) struct Cache {
    entries: Vec<Entry>,
    most: usize,
    uses: u64,
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Self { entries: Vec::new(), most: most.max(1), uses: 0 }
    }

    /// The bytes from `offset` to the end of its block, if they are here.
    pub(super) fn at(&mut self, offset: u64) -> Option<Bytes> {
        let (block, inside) = (offset / BLOCK_BYTES, usize::try_from(offset % BLOCK_BYTES).ok()?);
        self.uses += 1;
        let entry = self.entries.iter_mut().find(|e| e.block == block)?;
        entry.used = self.uses;
        (inside < entry.bytes.len()).then(|| entry.bytes.slice(inside..))
    }

    /// Keeps a whole block.
    pub(super) fn put(&mut self, block: u64, bytes: Bytes) {
        self.uses += 1;
        let entry = Entry { block, bytes, used: self.uses };
        if let Some(old) = self.entries.iter_mut().find(|e| e.block == block) {
            *old = entry;
        } else if self.entries.len() < self.most {
            self.entries.push(entry);
        } else if let Some(oldest) = self.entries.iter_mut().min_by_key(|e| e.used) {
            *oldest = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(fill: u8) -> Bytes {
        vec![fill; usize::try_from(BLOCK_BYTES).unwrap()].into()
    }

    #[test]
    fn the_block_used_longest_ago_goes() {
        let mut cache = Cache::new(2);
        cache.put(0, block(0));
        cache.put(1, block(1));
        assert_eq!(cache.at(0).unwrap()[0], 0);
        cache.put(2, block(2));
        let has = |block| cache.entries.iter().any(|e| e.block == block);
        assert!(has(0) && !has(1) && has(2));
        assert!(cache.at(BLOCK_BYTES).is_none());
        cache.put(2, block(9));
        assert_eq!((cache.entries.len(), cache.at(2 * BLOCK_BYTES).unwrap()[0]), (2, 9));
    }

    #[test]
    fn a_slice_runs_to_the_end_of_its_block() {
        let mut cache = Cache::new(2);
        cache.put(3, Bytes::from_static(b"short"));
        assert_eq!(cache.at(3 * BLOCK_BYTES + 2).unwrap(), "ort");
        assert!(cache.at(3 * BLOCK_BYTES + 5).is_none());
        assert!(cache.at(u64::MAX).is_none());
    }
}
