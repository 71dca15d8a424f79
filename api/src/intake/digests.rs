//! Digests of uploads that are on their way, kept between the requests of an upload as long as all of them come to this
//! process and in order. Losing one costs a second read of the bytes, so there are only so many.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use shared::id::UploadId;
use shared::upload::Hasher;

/// Most digests kept.
const MOST: usize = 1_000;

/// The digests of this process.
#[derive(Default)]
pub struct Digests(Mutex<HashMap<UploadId, (u64, Hasher)>>);

impl Digests {
    /// The digest of the upload's first `offset` bytes, if it is known.
    pub fn take(&self, id: UploadId, offset: u64) -> Option<Hasher> {
        if offset == 0 {
            return Some(Hasher::sha256());
        }
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        kept.filter(|(at, _)| *at == offset).map(|(_, hasher)| hasher)
    }

    /// Keeps the digest of the upload's first `offset` bytes.
    pub fn keep(&self, id: UploadId, offset: u64, hasher: Hasher) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST
            && let Some(any) = all.keys().next().copied()
        {
            all.remove(&any);
        }
        all.insert(id, (offset, hasher));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_fits_one_offset_and_there_are_not_many() {
        let (digests, id) = (Digests::default(), UploadId::new());
        digests.keep(id, 5, Hasher::sha256());
        assert!(digests.take(id, 0).is_some() && digests.take(id, 4).is_none());
        assert!(digests.take(id, 5).is_none(), "a digest of other bytes is of no use any more");
        for _ in 0..2 * MOST {
            digests.keep(UploadId::new(), 5, Hasher::sha256());
        }
        assert_eq!(digests.0.lock().unwrap().len(), MOST);
    }
}
