//! A run: reading an object in order from some place on, over as many requests as that takes. `fetch` keeps a few of them
//! open, because ffprobe comes back to where it was over a new connection. A run never retries; it resumes where it is.

use std::sync::{Mutex, PoisonError};

use hyper::body::Bytes;
use shared::job::FailureCode;

use super::bounds::{BLOCK_BYTES, Bounds, FIRST_REQUEST_BYTES, GROWTH, REQUEST_BYTES};
use super::cache::Cache;
use super::fault::Fault;
use super::meter::Meter;
use super::origin::{Body, Object, Origin};
use super::patience::{self, Patience};

/// What a run reads with.
pub(super) struct Means<'a> {
    pub(super) origin: &'a dyn Origin,
    pub(super) object: &'a Object,
    pub(super) bounds: &'a Bounds,
    pub(super) meter: &'a Meter,
    pub(super) cache: &'a Mutex<Cache>,
}

/// Reading in order.
pub(super) struct Run {
    /// The answer being read; none before the next request.
    body: Option<Body>,
    /// The offset of the next byte that comes.
    at: u64,
    /// Where the answer ends.
    until: u64,
    /// How much the next request asks for.
    ask: u64,
    /// What came of the block that `at` lies in; begins with the block.
    partial: Vec<u8>,
    /// When it was used, counted in uses.
    pub(super) used: u64,
}

impl Run {
    /// Begins with the block that holds `offset`.
    pub(super) fn begin(offset: u64) -> Self {
        let at = offset - offset % BLOCK_BYTES;
        Self { body: None, at, until: at, ask: FIRST_REQUEST_BYTES, partial: Vec::new(), used: 0 }
    }

    /// Begins with an answer that holds the first bytes of the object.
    pub(super) fn opened(body: Body, until: u64) -> Self {
        Self { body: Some(body), until, ask: FIRST_REQUEST_BYTES / GROWTH, ..Self::begin(0) }
    }

    /// How far ahead of it `offset` lies; none if it is past it.
    pub(super) fn distance(&self, offset: u64) -> Option<u64> {
        offset.checked_sub(self.at)
    }

    /// The bytes at `offset` that came already and belong to a block that is not whole yet.
    pub(super) fn held(&self, offset: u64) -> Option<Bytes> {
        let start = self.at - self.partial.len() as u64;
        let inside = usize::try_from(offset.checked_sub(start)?).ok()?;
        self.partial.get(inside..).filter(|rest| !rest.is_empty()).map(Bytes::copy_from_slice)
    }

    /// Reads on until the byte at `offset`, which lies ahead, has come. Whatever comes goes into the cache too. After a
    /// fault it may be called again, and so it may if it was dropped in the middle.
    pub(super) async fn reach(
        &mut self,
        offset: u64,
        means: &Means<'_>,
        patience: &mut Patience,
    ) -> Result<Bytes, Fault> {
        loop {
            let mut bytes = self.next(means, patience).await?;
            let left = means.bounds.max_bytes.saturating_sub(means.meter.account().bytes);
            if bytes.len() as u64 > left {
                // other runs took from the budget since this answer was asked for
                self.body = None;
                bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                if bytes.is_empty() {
                    return Err(spent(means.bounds));
                }
            }
            means.meter.add(|account| account.bytes += bytes.len() as u64);
            let start = self.at;
            self.keep(&bytes, means);
            if let Some(inside) = offset.checked_sub(start).and_then(|i| usize::try_from(i).ok())
                && inside < bytes.len()
            {
                return Ok(bytes.split_off(inside));
            }
        }
    }

    /// The next bytes, from this answer or a new one.
    async fn next(&mut self, means: &Means<'_>, patience: &mut Patience) -> Result<Bytes, Fault> {
        loop {
            let Some(body) = &mut self.body else {
                self.ask(means).await?;
                continue;
            };
            let came = patience.next(body, means.meter, means.bounds).await;
            let left = self.until - self.at;
            match came {
                Ok(Some(bytes)) if bytes.len() as u64 <= left => return Ok(bytes),
                Ok(Some(_)) => {
                    self.body = None;
                    return Err(Fault::lost("The server sent more bytes than it announced."));
                }
                Ok(None) => {
                    self.body = None;
                    if left > 0 {
                        return Err(Fault::lost(format!("The answer ended {left} bytes too early.")));
                    }
                    self.ask = self.ask.saturating_mul(GROWTH).min(REQUEST_BYTES);
                }
                Err(fault) => {
                    self.body = None;
                    return Err(fault);
                }
            }
        }
    }

    /// Sends the next request.
    async fn ask(&mut self, means: &Means<'_>) -> Result<(), Fault> {
        let left = means.bounds.max_bytes.saturating_sub(means.meter.account().bytes);
        let until = self.at.saturating_add(self.ask.min(left)).min(means.object.size_bytes);
        if until <= self.at {
            return Err(spent(means.bounds));
        }
        let part = patience::answer(means.origin.read(means.object, self.at, until), means.meter, means.bounds).await?;
        if part.until <= self.at || part.until > until {
            return Err(Fault::last(
                FailureCode::RemoteRejected,
                "The server sent another part than it was asked for.",
            ));
        }
        (self.body, self.until) = (Some(part.body), part.until);
        Ok(())
    }

    /// Takes bytes in and hands each block that is whole to the cache.
    fn keep(&mut self, mut bytes: &[u8], means: &Means<'_>) {
        while !bytes.is_empty() {
            let block = self.at / BLOCK_BYTES;
            let end = ((block + 1) * BLOCK_BYTES).min(means.object.size_bytes);
            let room = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX).max(1);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if self.partial.capacity() == 0 {
                self.partial.reserve_exact(usize::try_from(end - block * BLOCK_BYTES).unwrap_or_default());
            }
            self.partial.extend_from_slice(now);
            self.at += now.len() as u64;
            bytes = later;
            if self.at >= end {
                let whole = std::mem::take(&mut self.partial).into();
                means.cache.lock().unwrap_or_else(PoisonError::into_inner).put(block, whole);
            }
        }
    }
}

fn spent(bounds: &Bounds) -> Fault {
    let most = bounds.max_bytes;
    Fault::last(FailureCode::BudgetExceeded, format!("Reading needs more than the {most} bytes of the budget."))
}
