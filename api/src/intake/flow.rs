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
use shared::upload::Hasher;
use shared::{Code, Error};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::pace::Pace;
use super::{BLIND, BUFFERS, COUNT_EVERY, LARGEST_BATCH, Resume, SMALLEST_BATCH, UNCOUNTED_BYTES, UNCOUNTED_TIME};
use crate::App;
use crate::hold::{Hold, locked};

/// How often a batch that is not full is written, and the clocks are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often the hold is renewed and the offset moved at least.
const RENEW: Duration = Duration::from_millis(900);

/// How long bytes are still read when the request must end, and how long for each of them.
const LAST_READS: Duration = Duration::from_millis(300);
const LAST_READ: Duration = Duration::from_millis(30);

/// What a count learned: the offset it moved to, whether the hold is still ours, and the free bytes.
type Counted = (u64, Result<(bool, Option<u64>), Error>);

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
    /// Bytes that are written at once.
    batch: usize,
    buffer: Vec<u8>,
    /// What of a frame found no place in the buffer.
    left: Bytes,
    /// Digests of the request and of the whole; `None` while they are with a batch, and if there are none.
    pub(super) request: Option<Hasher>,
    pub(super) whole: Option<Hasher>,
    /// A batch was lost: nothing is known of the bytes behind `written`.
    torn: bool,
    /// The body went on where the upload ended.
    pub(super) overflowed: bool,
    writing: Option<BoxFuture<'static, Result<Batch, Error>>>,
    counting: Option<BoxFuture<'a, Counted>>,
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
            batch: SMALLEST_BATCH,
            buffer: Vec::new(),
            left: Bytes::new(),
            request,
            whole,
            torn: false,
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
        let mut pace = Pace::new(limits.upload_stall, limits.upload_min_rate, Instant::now());
        let draining = self.app.draining.clone();
        let mut trailer = None;
        loop {
            self.begin_count();
            let willing = self.is_willing();
            tokio::select! {
                biased;
                () = self.hold.wanted.cancelled() => {
                    return self.take_last(&mut body, room, &mut trailer).await?.then_some(trailer).ok_or_else(taken_over);
                }
                () = draining.cancelled(), if resume == Resume::Possible => {
                    return self.take_last(&mut body, room, &mut trailer).await?.then_some(trailer).ok_or_else(stopping);
                }
                batch = event(&mut self.writing) => self.wrote(batch)?,
                counted = event(&mut self.counting) => self.heard_of(counted)?,
                _ = tick.tick() => {
                    pace.check(willing, Instant::now())?;
                    self.begin_write();
                    if self.heard.elapsed() > BLIND {
                        return Err(Error::unavailable("The database or the storage", "no count of an upload was heard of"));
                    }
                }
                frame = body.frame(), if willing => {
                    let Some(frame) = frame else { return Ok(trailer) };
                    match frame.map_err(|e| self.broke_off(&e))?.into_data() {
                        Ok(bytes) => {
                            pace.came(bytes.len(), Instant::now());
                            if !self.take(bytes, room) {
                                return Ok(trailer);
                            }
                        }
                        Err(frame) => trailer = frame.trailers_ref().and_then(digest_of),
                    }
                }
            }
        }
    }

    /// Takes what has arrived already and waits to be read, for a moment: it would be lost with the request. Tells whether the
    /// body came to its end.
    async fn take_last(&mut self, body: &mut Body, room: u64, trailer: &mut Option<String>) -> Result<bool, Error> {
        let until = Instant::now() + LAST_READS;
        while Instant::now() < until {
            while !self.left.is_empty() || self.buffer.len() >= self.batch {
                self.begin_write();
                self.get_on().await?;
            }
            match timeout(LAST_READ, body.frame()).await {
                Ok(None) => return Ok(true),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => {
                        if !self.take(bytes, room) {
                            return Ok(true);
                        }
                    }
                    Err(frame) => *trailer = frame.trailers_ref().and_then(digest_of),
                },
                Ok(Some(Err(_))) | Err(_) => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Takes what there is room for. `false` if that was not all.
    fn take(&mut self, mut bytes: Bytes, room: u64) -> bool {
        let room = usize::try_from(room.saturating_sub(self.taken - self.start)).unwrap_or(usize::MAX);
        self.overflowed = bytes.len() > room;
        bytes.truncate(room);
        self.taken += bytes.len() as u64;
        self.app.metrics.upload_bytes.inc_by(bytes.len() as u64);
        if !bytes.is_empty() && self.oldest.is_none() {
            self.oldest = Some(Instant::now());
        }
        self.left = bytes;
        self.fill();
        if self.buffer.len() >= self.batch {
            self.begin_write();
        }
        !self.overflowed
    }

    /// Moves what is left of a frame into the buffer, as far as it goes.
    fn fill(&mut self) {
        if self.left.is_empty() {
            return;
        }
        if self.buffer.is_empty() {
            // few get much, many get little: together they stay within the same memory
            self.batch = (BUFFERS / (2 * self.app.holds.count().max(1))).clamp(SMALLEST_BATCH, LARGEST_BATCH);
            self.buffer.reserve_exact(self.batch);
        }
        let fits = self.batch.saturating_sub(self.buffer.len()).min(self.left.len());
        self.buffer.extend_from_slice(&self.left.split_to(fits));
    }

    /// Whether more is taken now: the buffer has room, and not too much is stored without being counted.
    fn is_willing(&self) -> bool {
        let few = !self.steady || self.taken - self.counted < UNCOUNTED_BYTES;
        self.left.is_empty()
            && self.buffer.len() < self.batch
            && (few || self.oldest.is_none_or(|at| at.elapsed() < UNCOUNTED_TIME))
    }

    fn begin_write(&mut self) {
        self.fill();
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
        self.fill();
    }

    fn wrote(&mut self, batch: Result<Batch, Error>) -> Result<(), Error> {
        let mut batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                // what came behind the lost bytes must not take their place
                (self.buffer, self.left) = (Vec::new(), Bytes::new());
                self.torn = true;
                return Err(error);
            }
        };
        self.written = batch.at + batch.bytes.len() as u64;
        (self.request, self.whole) = (batch.request, batch.whole);
        // the memory goes round only while bytes come fast: a thousand idle requests keep none
        if self.buffer.is_empty() && batch.bytes.len() >= self.batch {
            batch.bytes.clear();
            self.buffer = batch.bytes;
        }
        if self.buffer.len() >= self.batch {
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
        let (app, hold, tail, before) = (self.app, self.hold, self.tail.clone(), self.counted);
        self.counting = Some(
            async move {
                let counted = async {
                    let mut free = None;
                    if to > before {
                        hold.during(before, tail.sync()).await?;
                        free = app.storage.free_bytes().await?;
                    }
                    Ok((hold.renew(to).await?, free))
                };
                (to, counted.await)
            }
            .boxed(),
        );
    }

    fn heard_of(&mut self, (to, answer): Counted) -> Result<(), Error> {
        let (held, free) = match answer {
            Ok(answer) => answer,
            // PostgreSQL is away: go on for a while, the next count says the same and more
            Err(error) if error.code() == Code::Unavailable => {
                tracing::debug!(%error, upload.id = %self.hold.id, "bytes are not counted yet");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if !held {
            return Err(locked());
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

    /// Writes what is still in memory, and waits for what is on its way.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        let mut written = Ok(());
        loop {
            self.begin_write();
            match (&self.writing, &self.counting) {
                (None, None) => break,
                // a store may need longer for the last bytes than the hold lasts
                (Some(_), None) => self.begin_count(),
                _ => {}
            }
            match self.get_on().await {
                Ok(()) => {}
                Err(error) if self.torn => written = written.and(Err(error)),
                Err(error) => {
                    tracing::debug!(%error, upload.id = %self.hold.id, "the last count makes up for this one");
                }
            }
        }
        if self.torn {
            self.forget(self.written).await;
        }
        written
    }

    /// Waits until a batch is written, a count is made, or it is time to look at the clock. All that was begun goes on
    /// meanwhile: what is not polled may have what the other waits for, the storage or a connection to PostgreSQL.
    async fn get_on(&mut self) -> Result<(), Error> {
        tokio::select! {
            biased;
            batch = event(&mut self.writing) => self.wrote(batch),
            counted = event(&mut self.counting) => self.heard_of(counted),
            () = sleep(TICK) => Ok(()),
        }
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
async fn event<T>(slot: &mut Option<BoxFuture<'_, T>>) -> T {
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
