//! The part in the making. Its bytes lie in pieces in the store and, for a few uploads at a time, in memory, too; those of all
//! others are read back when the part is whole. So memory does not grow with the number of uploads. Called by
//! [`super::tail`], which knows when a part is whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use object_store::PutPayload;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::Bucket;
use super::manifest::Manifest;
use crate::error::{Error, Result};
use crate::id::UploadId;

/// Most parts whose bytes are kept as they come, in a process.
const KEPT: usize = 4;
/// Most parts whose bytes are read back at a time, each for as long as it takes to write it.
const READ_BACK: usize = 2;
/// Bytes of all uploads together that wait for being a piece, as long as each can have [`SMALLEST_PIECE`].
const WAITING: usize = 32 << 20;
const SMALLEST_PIECE: usize = 512 << 10;
/// Bytes that are written as a piece without being asked to, when few uploads are going on.
pub(super) const LARGEST_PIECE: usize = 4 << 20;

/// The memory of a process for uploads into a bucket.
#[derive(Debug)]
pub(super) struct Memory {
    kept: Arc<Semaphore>,
    read_back: Semaphore,
    uploads: AtomicUsize,
}

/// One upload's share of it.
#[derive(Debug)]
pub(super) struct Share(Arc<Memory>);

/// The bytes of the pieces that belong to no part yet.
#[derive(Debug, Default)]
pub(super) enum Part {
    /// There are none.
    #[default]
    Empty,
    /// They are here as well.
    Kept {
        /// Piece by piece.
        bytes: Vec<Bytes>,
        /// Given back with them.
        _place: OwnedSemaphorePermit,
    },
    /// They are in the store alone.
    Stored,
}

/// The bytes of a part for as long as they are needed.
pub(super) struct Whole<'a> {
    pub(super) payload: PutPayload,
    _place: Option<SemaphorePermit<'a>>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let (kept, read_back) = (Arc::new(Semaphore::new(KEPT)), Semaphore::new(READ_BACK));
        Self { kept, read_back, uploads: AtomicUsize::new(0) }
    }
}

impl Share {
    pub(super) fn of(memory: &Arc<Memory>) -> Self {
        memory.uploads.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(memory))
    }

    /// Bytes that are written as a piece without being asked to: few uploads have much, many have little.
    pub(super) fn piece_bytes(&self) -> usize {
        (WAITING / self.0.uploads.load(Ordering::Relaxed).max(1)).clamp(SMALLEST_PIECE, LARGEST_PIECE)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.uploads.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Part {
    /// That of an upload that another request, or process, began; read back if there is room to keep it.
    pub(super) async fn of(bucket: &Bucket, id: UploadId, manifest: &Manifest) -> Result<Self> {
        if manifest.open_pieces().is_empty() {
            return Ok(Self::Empty);
        }
        match Arc::clone(&bucket.memory().kept).try_acquire_owned() {
            Ok(_place) => Ok(Self::Kept { bytes: read(bucket, id, manifest).await?, _place }),
            Err(_) => Ok(Self::Stored),
        }
    }

    /// Takes the bytes of a piece that was written.
    pub(super) fn push(&mut self, memory: &Memory, piece: Bytes) {
        match self {
            Self::Empty => {
                let place = Arc::clone(&memory.kept).try_acquire_owned();
                *self = place.map_or(Self::Stored, |_place| Self::Kept { bytes: vec![piece], _place });
            }
            Self::Kept { bytes, .. } => bytes.push(piece),
            Self::Stored => {}
        }
    }

    /// All of its bytes. May wait for others to be done with theirs.
    pub(super) async fn whole<'a>(&self, bucket: &'a Bucket, id: UploadId, manifest: &Manifest) -> Result<Whole<'a>> {
        let (bytes, place) = match self {
            Self::Empty => (Vec::new(), None),
            Self::Kept { bytes, .. } => (bytes.clone(), None),
            Self::Stored => {
                let place = bucket.memory().read_back.acquire().await.map_err(Error::internal)?;
                (read(bucket, id, manifest).await?, Some(place))
            }
        };
        Ok(Whole { payload: bytes.into_iter().collect(), _place: place })
    }
}

async fn read(bucket: &Bucket, id: UploadId, manifest: &Manifest) -> Result<Vec<Bytes>> {
    let mut bytes = Vec::new();
    for piece in manifest.open_pieces() {
        bytes.push(bucket.read_piece(id, *piece).await?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_uploads_share_what_few_can_have() {
        let memory = Arc::new(Memory::new());
        let mut parts: Vec<Part> = (0..KEPT + 2).map(|_| Part::default()).collect();
        for part in &mut parts {
            part.push(&memory, Bytes::from_static(b"one"));
            part.push(&memory, Bytes::from_static(b"two"));
        }
        let kept = parts.iter().filter(|part| matches!(part, Part::Kept { bytes, .. } if bytes.len() == 2)).count();
        assert_eq!(kept, KEPT);
        drop(parts);
        let mut next = Part::default();
        next.push(&memory, Bytes::from_static(b"one"));
        assert!(matches!(next, Part::Kept { .. }), "the place is free again");

        let mut shares: Vec<Share> = vec![Share::of(&memory)];
        assert_eq!(shares[0].piece_bytes(), LARGEST_PIECE);
        shares.extend((1..1_000).map(|_| Share::of(&memory)));
        assert_eq!(shares[0].piece_bytes(), SMALLEST_PIECE);
        shares.truncate(16);
        assert_eq!(shares[0].piece_bytes(), WAITING / 16);
    }
}
