//! The loop of a request's body: one batch being filled, one being written, one count on its way, all at the same time.
//! Called by `super::receive`. It never waits for anything but the next of these events, and each has its bound.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use shared::storage::{self, Appending, Batch};
use shared::store;
use shared::upload::Hasher;
use shared::{Code, Error};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::pace::Pace;
use super::{BATCH, BLIND, COUNT_EVERY, Resume, UNCOUNTED_BYTES, UNCOUNTED_TIME};
use crate::App;
use crate::hold::{Hold, LEASE, locked};

/// How often a batch that is not full is written, and the clocks are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often the hold is renewed and the offset moved at least.
const RENEW: Duration = Duration::from_millis(900);

/// What a count learned: the offset it moved to, who wants the upload (`None`: the hold is lost), and the free bytes.
type Counted = (u64, Result<(Option<bool>, Option<u64>), Error>);

/// A body on its way to the disk.
pub(super) struct Flow<'a> {
    app: &'a Arc<App>,
    pub(super) hold: &'a Hold,
    pub(super) tail: Appending,
    /// Whether the offset follows the bytes; otherwise it stays until the end.
    steady: bool,
    start: u64,
    /// End of the bytes that came, that are written, and that count.
    taken: u64,
    pub(super) written: u64,
    pub(super) counted: u64,
    /// When the oldest byte came that does not count yet.
    oldest: Option<Instant>,
    buffer: Vec<u8>,
    /// Digests of the request and of the whole; `None` while they are with a batch, and if there are none.
    pub(super) request: Option<Hasher>,
    pub(super) whole: Option<Hasher>,
    /// The body went on where the upload ended.
    pub(super) overflowed: bool,
    writing: Option<BoxFuture<'static, Result<Batch, Error>>>,
    counting: Option<BoxFuture<'static, Counted>>,
    /// When the last count began, and when the last one that was heard of did.
    count_begun: Instant,
    heard: Instant,
}

impl<'a> Flow<'a> {
    pub(super) fn new(
        app: &'a Arc<App>,
        hold: &'a Hold,
        tail: Appending,
        start: u64,
        steady: bool,
        request: Option<Hasher>,
        whole: Option<Hasher>,
    ) -> Self {
        let now = Instant::now();
        Self {
            app,
            hold,
            tail,
            steady,
            start,
            taken: start,
            written: start,
            counted: start,
            oldest: None,
            buffer: Vec::new(),
            request,
            whole,
            overflowed: false,
            writing: None,
            counting: None,
            count_begun: now,
            heard: now,
        }
    }

    /// Takes the body to its end, or to the first thing that ends it. Returns the trailer with a digest, if one came.
    pub(super) async fn run(&mut self, mut body: Body, room: u64, resume: Resume) -> Result<Option<String>, Error> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let limits = &self.app.limits;
        let mut pace = Pace::new(limits.upload_stall, limits.upload_min_rate);
        let draining = self.app.draining.clone();
        let mut trailer = None;
        loop {
            self.begin_count();
            let willing = self.is_willing();
            tokio::select! {
                biased;
                () = self.hold.wanted.cancelled() => return Err(taken_over()),
                () = draining.cancelled(), if resume == Resume::Possible => return Err(stopping()),
                batch = event(&mut self.writing) => self.wrote(batch)?,
                counted = event(&mut self.counting) => self.heard_of(counted)?,
                _ = tick.tick() => {
                    pace.check(willing)?;
                    self.begin_write();
                    if self.heard.elapsed() > BLIND {
                        return Err(Error::unavailable("The database", "no count of an upload was heard of"));
                    }
                }
                frame = body.frame(), if willing => {
                    let Some(frame) = frame else { return Ok(trailer) };
                    match frame.map_err(|e| self.broke_off(&e))?.into_data() {
                        Ok(bytes) => {
                            pace.came(bytes.len());
                            if !self.take(&bytes, room) {
                                return Ok(trailer);
                            }
                        }
                        Err(frame) => trailer = frame.trailers_ref().and_then(digest_of),
                    }
                }
            }
        }
    }

    /// Takes what there is room for. `false` if that was not all.
    fn take(&mut self, bytes: &Bytes, room: u64) -> bool {
        let left = room.saturating_sub(self.taken - self.start);
        let fits = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.buffer.extend_from_slice(&bytes[..fits]);
        self.taken += fits as u64;
        self.app.metrics.upload_bytes.inc_by(fits as u64);
        if fits > 0 && self.oldest.is_none() {
            self.oldest = Some(Instant::now());
        }
        if self.buffer.len() >= BATCH {
            self.begin_write();
        }
        self.overflowed = fits < bytes.len();
        !self.overflowed
    }

    /// Whether more is taken now: the buffer has room, and not too much is stored without being counted.
    fn is_willing(&self) -> bool {
        let few = !self.steady || self.taken - self.counted < UNCOUNTED_BYTES;
        self.buffer.len() < BATCH && (few || self.oldest.is_none_or(|at| at.elapsed() < UNCOUNTED_TIME))
    }

    fn begin_write(&mut self) {
        if self.writing.is_some() || self.buffer.is_empty() {
            return;
        }
        let batch = Batch {
            at: self.written,
            bytes: std::mem::take(&mut self.buffer),
            request: self.request.take(),
            whole: self.whole.take(),
        };
        let tail = self.tail.clone();
        self.writing = Some(async move { tail.write(batch).await }.boxed());
    }

    fn wrote(&mut self, batch: Result<Batch, Error>) -> Result<(), Error> {
        let mut batch = batch?;
        self.written = batch.at + batch.bytes.len() as u64;
        (self.request, self.whole) = (batch.request, batch.whole);
        // the memory goes round only while bytes come fast: a thousand idle requests keep none
        if self.buffer.is_empty() && batch.bytes.len() >= BATCH {
            batch.bytes.clear();
            self.buffer = batch.bytes;
        }
        if self.buffer.len() >= BATCH {
            self.begin_write();
        }
        Ok(())
    }

    /// Begins to move the offset if it is time to.
    fn begin_count(&mut self) {
        let much = self.steady && self.written - self.counted >= COUNT_EVERY;
        if self.counting.is_some() || !(much || self.count_begun.elapsed() >= RENEW) {
            return;
        }
        self.count_begun = Instant::now();
        let to = if self.steady { self.written } else { self.start };
        let (app, tail, moves) = (Arc::clone(self.app), self.tail.clone(), to > self.counted);
        let (id, token) = (self.hold.id, self.hold.token);
        self.counting = Some(
            async move {
                let counted = async {
                    let mut free = None;
                    if moves {
                        tail.sync().await?;
                        free = app.storage.free_bytes().await?;
                    }
                    let expiry = app.limits.upload_expiry;
                    let wanted = store::upload::hold::renew(&app.db, id, token, to, LEASE, expiry).await?;
                    Ok((wanted, free))
                };
                (to, counted.await)
            }
            .boxed(),
        );
    }

    fn heard_of(&mut self, (to, answer): Counted) -> Result<(), Error> {
        let (wanted, free) = match answer {
            Ok(answer) => answer,
            // PostgreSQL is away: go on for a while, the next count says the same and more
            Err(error) if error.code() == Code::Unavailable => {
                tracing::debug!(%error, upload.id = %self.hold.id, "bytes are not counted yet");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Some(wanted) = wanted else {
            self.hold.wanted.cancel();
            return Err(locked());
        };
        if wanted {
            self.hold.wanted.cancel();
        }
        self.heard = Instant::now();
        if self.steady {
            self.counted = to;
            self.tail.counted(to);
        }
        // what does not count yet came after this count began
        self.oldest = (self.taken > self.counted).then_some(self.count_begun);
        match free {
            Some(free) if free < self.app.limits.upload_min_free_bytes => Err(storage::full()),
            _ => Ok(()),
        }
    }

    /// Writes what is still in memory.
    pub(super) async fn write_rest(&mut self) -> Result<(), Error> {
        loop {
            if self.writing.is_none() {
                self.begin_write();
            }
            let Some(writing) = self.writing.take() else { break };
            self.wrote(writing.await)?;
        }
        if let Some(counting) = self.counting.take() {
            let (to, answer) = counting.await;
            if self.steady && matches!(answer, Ok((Some(_), _))) {
                self.counted = to;
            }
        }
        Ok(())
    }

    /// Cuts off what lies beyond `to`.
    pub(super) async fn forget(&mut self, to: u64) {
        if let Err(error) = self.tail.truncate(to).await {
            tracing::warn!(%error, upload.id = %self.hold.id, "bytes that do not count are still stored");
        }
        self.written = to;
    }

    fn broke_off(&self, cause: &axum::Error) -> Error {
        let detail = format!("The body broke off after {} bytes: {cause}. Go on from there.", self.taken - self.start);
        Error::new(Code::IncompleteBody, detail)
    }
}

/// The next event of something that may not be going on.
async fn event<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = slot else { return pending().await };
    let value = future.await;
    *slot = None;
    value
}

fn digest_of(trailers: &axum::http::HeaderMap) -> Option<String> {
    trailers.get("upload-checksum")?.to_str().ok().map(str::to_owned)
}

fn taken_over() -> Error {
    Error::new(Code::UploadLocked, "Another request has taken the upload over. What came until then is stored.")
}

fn stopping() -> Error {
    Error::new(Code::Unavailable, "The service is being restarted. What came until now is stored; go on from there.")
}
