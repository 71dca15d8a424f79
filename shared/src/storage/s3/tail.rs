//! The end of an upload that grows in a bucket. Bytes wait in memory until they fill a piece or must be durable; a part's
//! worth of pieces becomes a part, from memory. One request at a time talks to the store; bytes are taken meanwhile.
//! Whatever holds the state for longer is a task of its own, so that nobody waits for a future that is not polled.
//!
//! In memory are the part in the making, where there is room for it ([`super::part`]), two pieces and a batch: under 25 MiB
//! for one upload, and not much over 1 MiB for each of many.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures::TryStreamExt;
use object_store::multipart::{MultipartStore, PartId};
use object_store::{ObjectStoreExt, PutPayload};
use tokio::sync::Mutex as AsyncMutex;
use uuid::Uuid;

use super::client::wrong;
use super::manifest::{Manifest, PART_BYTES, PARTS_MAX, Piece};
use super::part::{LARGEST_PIECE, Part, Share};
use super::side::{Kept, lost};
use super::{Bucket, MOST_BYTES};
use crate::error::{Code, Error, Result};
use crate::id::UploadId;
use crate::storage::Batch;

/// Most pieces of the part in the making: slow uploads make many small ones, which are then written again as one.
const OPEN_PIECES: usize = 32;
/// Pieces that nothing names any more are erased in such numbers.
const ERASED_AT_ONCE: usize = 64;
/// How often an upload is taken over from a process that still writes to it, and the pause in between.
const TAKES: u32 = 5;
const TAKE_PAUSE: Duration = Duration::from_millis(50);

/// The end of an upload. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Tail(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bucket: Bucket,
    id: UploadId,
    share: Share,
    inbox: Mutex<Inbox>,
    state: AsyncMutex<State>,
    /// Bytes that the row is known to count.
    counted: AtomicU64,
}

/// Bytes that came.
#[derive(Debug)]
struct Inbox {
    /// Where the next one belongs.
    end: u64,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct State {
    manifest: Manifest,
    /// The manifest that lies in the bucket; none yet, or none any more.
    kept: Option<Kept>,
    /// The bytes of the open pieces.
    part: Part,
    /// Bytes that no piece has yet.
    waiting: VecDeque<Bytes>,
    /// Pieces that nothing will name once the manifest is written, and those nothing names any more.
    dropped: Vec<Uuid>,
    unnamed: Vec<Uuid>,
    /// All bytes are one object already.
    sealed: bool,
}

impl Tail {
    fn new(bucket: Bucket, id: UploadId, manifest: Manifest, kept: Option<Kept>) -> Self {
        let end = manifest.end();
        let (part, waiting, dropped, unnamed) = (Part::Empty, VecDeque::new(), Vec::new(), Vec::new());
        let state = State { manifest, kept, part, waiting, dropped, unnamed, sealed: false };
        let inbox = Mutex::new(Inbox { end, bytes: Vec::new() });
        let share = Share::of(bucket.memory());
        Self(Arc::new(Shared { bucket, id, share, inbox, state: AsyncMutex::new(state), counted: AtomicU64::new(0) }))
    }

    /// Begins an upload.
    pub(super) async fn create(bucket: Bucket, id: UploadId) -> Result<Self> {
        let this = Self::new(bucket, id, Manifest::new(), None);
        this.0.write_manifest(&mut *this.0.state.lock().await).await?;
        Ok(this)
    }

    /// Goes on with an upload of which `received` bytes count, and keeps whoever else writes to it from going on.
    pub(super) async fn take(bucket: Bucket, id: UploadId, received: u64) -> Result<(Self, u64)> {
        if let Some(data) = bucket.sealed(id).await? {
            let this = Self::new(bucket, id, Manifest::new(), None);
            this.0.state.lock().await.sealed = true;
            this.0.inbox().end = data.size;
            return Ok((this, data.size.min(received)));
        }
        for _ in 0..TAKES {
            let kept = bucket.manifest(id).await?;
            let mut manifest = kept.as_ref().map_or_else(Manifest::new, |k| k.manifest.clone());
            manifest.writer = Uuid::new_v4();
            let this = Self::new(bucket.clone(), id, manifest, kept);
            let mut state = this.0.state.lock().await;
            let mut cut = state.manifest.clone();
            cut.cut(received);
            this.0.replace(&mut state, cut).await?;
            match this.0.write_manifest(&mut state).await {
                Ok(()) => {}
                Err(error) if error.code() == Code::UploadLocked => {
                    tokio::time::sleep(TAKE_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            let at = state.manifest.end();
            drop(state);
            this.counted(at);
            return Ok((this, at));
        }
        Err(lost())
    }

    pub(in crate::storage) async fn write(&self, mut batch: Batch) -> Result<Batch> {
        for hasher in [&mut batch.request, &mut batch.whole].into_iter().flatten() {
            hasher.update(&batch.bytes);
        }
        self.take_in(batch.at, &batch.bytes).await?;
        Ok(batch)
    }

    async fn take_in(&self, at: u64, bytes: &[u8]) -> Result<()> {
        let full = {
            let mut inbox = self.0.inbox();
            if inbox.end != at {
                return Err(Error::internal(format!("bytes for {at} came where {} was awaited", inbox.end)));
            }
            inbox.bytes.extend_from_slice(bytes);
            inbox.end = inbox.end.saturating_add(bytes.len() as u64);
            if inbox.end > MOST_BYTES {
                return Err(crate::upload::too_large(MOST_BYTES));
            }
            inbox.bytes.len() >= self.0.share.piece_bytes()
        };
        if full {
            self.apart(|own| async move { own.save(&mut *own.state.lock().await).await }).await?;
        }
        Ok(())
    }

    pub(in crate::storage) async fn sync(&self) -> Result<()> {
        self.apart(|own| async move { own.sync(&mut *own.state.lock().await).await }).await
    }

    /// Does what needs the state as a task of its own, which ends though its caller looks elsewhere or goes away: a request
    /// that waits for one call and does not poll another, which has the state or is the next to get it, would wait for ever.
    async fn apart<F>(&self, work: impl FnOnce(Arc<Shared>) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        tokio::spawn(work(Arc::clone(&self.0))).await.map_err(Error::internal)?
    }

    /// The row counts these bytes by now: the upload will never be cut before them.
    pub(in crate::storage) fn counted(&self, bytes: u64) {
        self.0.counted.fetch_max(bytes, Ordering::Relaxed);
    }

    pub(in crate::storage) async fn truncate(&self, length: u64) -> Result<()> {
        self.apart(move |own| async move { own.cut(&mut *own.state.lock().await, length).await }).await
    }

    /// Copies through this process: S3's own copy of parts is not to be had through `object_store`.
    pub(in crate::storage) async fn copy(&self, part: UploadId, from: u64, at: u64, most: u64) -> Result<u64> {
        // a part's worth: one answer of the store is read within the time that a request may take
        let (mut done, mut bytes) = (0, self.0.bucket.stream(part, from, most.min(PART_BYTES)).await?);
        while let Some(chunk) = bytes.try_next().await.map_err(wrong)? {
            self.take_in(at.saturating_add(done), &chunk).await?;
            done += chunk.len() as u64;
        }
        Ok(done)
    }

    /// Makes one object of the bytes.
    pub(super) async fn seal(&self) -> Result<()> {
        let (bucket, id) = (&self.0.bucket, self.0.id);
        let mut state = self.0.state.lock().await;
        if state.sealed {
            return Ok(());
        }
        self.0.save(&mut state).await?;
        let rest = state.part.whole(bucket, id, &state.manifest).await?;
        let data = bucket.data(id).map_err(wrong)?;
        let Some(multipart) = state.manifest.multipart.clone().filter(|_| !state.manifest.parts.is_empty()) else {
            bucket.store().put(&data, rest.payload.clone()).await.map_err(wrong)?;
            if let Some(unused) = &state.manifest.multipart {
                bucket.store().abort_multipart(&data, unused).await.map_err(wrong)?;
            }
            state.sealed = true;
            return Ok(());
        };
        let mut parts: Vec<_> = state.manifest.parts.iter().map(|tag| PartId { content_id: tag.clone() }).collect();
        if rest.payload.content_length() > 0 {
            let last = bucket.store().put_part(&data, &multipart, parts.len(), rest.payload.clone()).await;
            parts.push(last.map_err(wrong)?);
        }
        bucket.seal_parts(id, &multipart, parts).await?;
        state.sealed = true;
        Ok(())
    }
}

impl Shared {
    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what came to what waits.
    fn absorb(&self, state: &mut State) {
        let bytes = std::mem::take(&mut self.inbox().bytes);
        if !bytes.is_empty() {
            // to the byte: what a buffer grew by would be held as long as the part
            state.waiting.push_back(bytes.into_boxed_slice().into());
        }
    }

    /// Makes everything that came durable.
    async fn sync(&self, state: &mut State) -> Result<()> {
        self.save(state).await?;
        let gone = state.manifest.let_go(self.counted.load(Ordering::Relaxed));
        state.dropped.extend(gone);
        let written = state.kept.as_ref().is_some_and(|kept| kept.manifest == state.manifest);
        if !written && !state.sealed {
            self.write_manifest(state).await?;
        }
        if state.unnamed.len() >= ERASED_AT_ONCE {
            let names = std::mem::take(&mut state.unnamed);
            self.bucket.remove_pieces(self.id, names).await;
        }
        Ok(())
    }

    /// Cuts off what lies beyond `length`.
    async fn cut(&self, state: &mut State, length: u64) -> Result<()> {
        self.absorb(state);
        if state.sealed {
            return if self.inbox().end <= length {
                Ok(())
            } else {
                Err(Error::internal("a complete upload is not cut"))
            };
        }
        let end = state.manifest.end();
        if length < end {
            let mut cut = state.manifest.clone();
            if cut.cut(length) != length {
                return Err(Error::internal(format!("upload {} cannot be cut at {length}", self.id)));
            }
            self.replace(state, cut).await?;
            return self.write_manifest(state).await;
        }
        let mut room = usize::try_from(length - end).unwrap_or(usize::MAX);
        for chunk in &mut state.waiting {
            chunk.truncate(room);
            room -= chunk.len();
        }
        state.waiting.retain(|chunk| !chunk.is_empty());
        let waiting: usize = state.waiting.iter().map(Bytes::len).sum();
        self.inbox().end = end + waiting as u64;
        Ok(())
    }

    /// Writes everything that came as pieces, and every whole part. What fails is kept for the next time.
    async fn save(&self, state: &mut State) -> Result<()> {
        self.absorb(state);
        if state.sealed && !state.waiting.is_empty() {
            return Err(Error::internal(format!("bytes came for upload {}, which is complete", self.id)));
        }
        loop {
            let open = state.manifest.end() - state.manifest.parts_end();
            if open == PART_BYTES {
                self.write_part(state).await?;
                continue;
            }
            let Some(next) = state.waiting.front_mut() else { return Ok(()) };
            let room = usize::try_from(PART_BYTES - open).unwrap_or(usize::MAX);
            let chunk = next.slice(..next.len().min(room).min(LARGEST_PIECE));
            let piece = Piece { name: Uuid::new_v4(), at: state.manifest.end(), bytes: chunk.len() as u64 };
            self.bucket.write_piece(self.id, piece.name, PutPayload::from(chunk.clone())).await?;
            let _ = next.split_to(chunk.len());
            if next.is_empty() {
                state.waiting.pop_front();
            }
            state.manifest.pieces.push(piece);
            state.part.push(self.bucket.memory(), chunk);
            if state.manifest.open_pieces().len() >= OPEN_PIECES {
                self.merge(state).await?;
            }
        }
    }

    /// Writes the open pieces as one.
    async fn merge(&self, state: &mut State) -> Result<()> {
        let name = Uuid::new_v4();
        let part = state.part.whole(&self.bucket, self.id, &state.manifest).await?;
        self.bucket.write_piece(self.id, name, part.payload.clone()).await?;
        let merged = state.manifest.merge(name);
        state.dropped.extend(merged);
        Ok(())
    }

    /// Makes a part of the open pieces. The manifest comes first: who lost the upload is refused there and overwrites no part.
    async fn write_part(&self, state: &mut State) -> Result<()> {
        if state.manifest.parts.len() as u64 >= PARTS_MAX {
            return Err(crate::upload::too_large(MOST_BYTES));
        }
        self.write_manifest(state).await?;
        let data = self.bucket.data(self.id).map_err(wrong)?;
        let multipart = match &state.manifest.multipart {
            Some(multipart) => multipart.clone(),
            None => {
                let multipart = self.bucket.store().create_multipart(&data).await.map_err(wrong)?;
                state.manifest.multipart = Some(multipart.clone());
                match self.write_manifest(state).await {
                    // whoever has the upload by now begins its own
                    Err(error) if error.code() == Code::UploadLocked => {
                        self.bucket.give_up(self.id, &multipart).await?;
                        return Err(error);
                    }
                    written => written?,
                }
                multipart
            }
        };
        let index = state.manifest.parts.len();
        let whole = state.part.whole(&self.bucket, self.id, &state.manifest).await?;
        let part =
            self.bucket.store().put_part(&data, &multipart, index, whole.payload.clone()).await.map_err(wrong)?;
        state.manifest.parts.push(part.content_id);
        state.part = Part::Empty;
        Ok(())
    }

    /// Goes on from a manifest that was cut; nothing is changed where its open pieces are wanted and cannot be read.
    async fn replace(&self, state: &mut State, next: Manifest) -> Result<()> {
        let part = Part::of(&self.bucket, self.id, &next).await?;
        let dropped = state.manifest.names().filter(|name| next.names().all(|n| n != *name));
        state.dropped.extend(dropped);
        (state.manifest, state.part) = (next, part);
        state.waiting.clear();
        self.inbox().end = state.manifest.end();
        Ok(())
    }

    /// Makes the manifest durable, in place of the one this process wrote or read last.
    async fn write_manifest(&self, state: &mut State) -> Result<()> {
        let mut next = state.manifest.clone();
        next.version = next.version.saturating_add(1);
        let tag = self.bucket.write_manifest(self.id, &next, state.kept.as_ref()).await?;
        state.kept = Some(Kept { manifest: next.clone(), tag });
        state.manifest = next;
        let dropped = std::mem::take(&mut state.dropped);
        state.unnamed.extend(dropped);
        Ok(())
    }
}
