//! Receives the body of one request into an upload. Whatever ends it (the client, the disk, a stop, another request that
//! wants the upload), the bytes that came are stored, made durable and counted before it returns.
//!
//! Reading, writing and making durable go on at the same time. The offset moves behind them and never overtakes: what a
//! crash can lose is bounded by [`UNCOUNTED_BYTES`] or [`UNCOUNTED_TIME`]. Run it in a task of its own: a client that goes
//! away drops its handler.

pub mod assemble;
pub mod digests;
pub mod finish;
mod flow;
mod pace;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use shared::storage::Appending;
use shared::upload::{Checksum, Hasher, beyond};
use shared::{Code, Error};
use tokio::time::sleep;

use crate::App;
use crate::hold::{Hold, locked};
use flow::Flow;

/// Memory of all requests together for bytes on their way, as long as each can have [`SMALLEST_BATCH`]. A request has two
/// buffers: one is filled, one is written.
const BUFFERS: usize = 16 << 20;
/// Bytes that are written at once.
const SMALLEST_BATCH: usize = 64 * 1024;
const LARGEST_BATCH: usize = 512 * 1024;
/// Bytes that may be stored and not counted yet, if they came within [`UNCOUNTED_TIME`] more.
const UNCOUNTED_BYTES: u64 = 8 << 20;
/// How long bytes may be stored and not counted yet, if they are more than [`UNCOUNTED_BYTES`].
const UNCOUNTED_TIME: Duration = Duration::from_secs(1);
/// The offset moves at the latest after so many bytes, if the disk keeps up.
const COUNT_EVERY: u64 = UNCOUNTED_BYTES / 2;
/// How long bytes are taken while PostgreSQL does not answer.
const BLIND: Duration = Duration::from_secs(30);
/// How long the last count is tried for when PostgreSQL does not answer.
const LAST_COUNT: Duration = Duration::from_secs(10);
/// Wait before the last count is tried again.
const LAST_COUNT_PAUSE: Duration = Duration::from_millis(250);
/// Bytes of the storage that are read for a digest in one go.
const READ_BACK: u64 = 64 << 20;

/// When the offset moves.
#[derive(Debug)]
pub enum Count {
    /// As the bytes become durable.
    Steadily,
    /// At the end, if the digest that was announced is right; otherwise nothing is kept.
    Checked(Checksum),
    /// At the end, if the digest that comes after the body is right.
    CheckedByTrailer,
}

/// Who can go on with the upload when the request breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The client, by its URL.
    Possible,
    /// Nobody: the client does not know the upload yet, so a process that stops lets it come to its end.
    Impossible,
}

/// What to receive.
pub struct Plan {
    /// Where the first byte goes.
    pub at: u64,
    /// Most bytes to take.
    pub room: u64,
    /// Bytes of the whole upload, if known.
    pub length: Option<u64>,
    /// When the offset moves.
    pub count: Count,
    /// The digest of the bytes before `at`, if one of the whole is wanted and known so far.
    pub whole: Option<Hasher>,
    /// Who can go on.
    pub resume: Resume,
}

/// What was received.
pub struct Received {
    /// Durable and counted bytes of the upload.
    pub offset: u64,
    /// The digest of all of them, if it is known.
    pub whole: Option<Hasher>,
    /// Whether the body came to its end, or why not.
    pub end: Result<(), Error>,
}

/// Receives the body. The hold stays the caller's.
pub async fn receive(app: &Arc<App>, hold: &Hold, tail: Appending, plan: Plan, body: Body) -> Received {
    let (start, length, room) = (plan.at, plan.length, plan.room);
    let (request, by_trailer, steady) = match plan.count {
        Count::Steadily => (None, false, true),
        Count::Checked(checksum) => (Some(checksum), false, false),
        Count::CheckedByTrailer => (None, true, false),
    };
    let (hasher, expected) = request.map(|c| (c.hasher, c.expected)).unzip();
    let mut flow = Flow::new(app, hold, tail, start, steady, hasher, plan.whole);
    let (mut end, trailer) = match flow.run(body, room, plan.resume).await {
        Ok(trailer) => (Ok(()), trailer),
        Err(error) => (Err(error), None),
    };
    if let Err(error) = flow.settle().await {
        end = end.and(Err(error));
    }
    if flow.overflowed {
        end = end.and(Err(beyond("The body goes on".into(), length, room)));
    }
    if let (Ok(()), Some(expected)) = (&end, expected) {
        end = match flow.request.take() {
            Some(hasher) => Checksum { hasher, expected }.verify(),
            None => Err(Error::internal("the digest of a request was lost")),
        };
    }
    if let (Ok(()), true) = (&end, by_trailer) {
        // only what is durable can be read back everywhere
        end = hold.during(start, flow.tail.sync()).await;
    }
    if let (Ok(()), true) = (&end, by_trailer) {
        end = verify_trailer(app, hold, start, flow.written, trailer.as_deref()).await;
    }
    if !steady && end.is_err() {
        // none of them counts; a failure to cut them off now is mended when the upload goes on
        flow.forget(start).await;
    }
    let whole = flow.whole.take();
    match flow.count_all().await {
        Ok(offset) => Received { offset, whole: whole.filter(|_| offset == flow.written), end },
        Err((offset, error)) => Received { offset, whole: None, end: Err(error) },
    }
}

/// Compares what was stored with the digest that came after it, which names its algorithm only now.
async fn verify_trailer(app: &App, hold: &Hold, start: u64, end: u64, value: Option<&str>) -> Result<(), Error> {
    let value = value.ok_or_else(|| {
        let detail =
            "The trailer Upload-Checksum was announced and did not come. Nothing was kept; send the bytes again.";
        Error::new(Code::BadRequest, detail)
    })?;
    let Checksum { mut hasher, expected } = Checksum::parse(value)?;
    let mut at = start;
    while at < end {
        let reading = app.storage.digest(hold.id, at, (end - at).min(READ_BACK), hasher);
        let (next, read) = hold.during(start, reading).await?;
        if read == 0 {
            return Err(Error::internal("stored bytes cannot be read back"));
        }
        (hasher, at) = (next, at + read);
    }
    Checksum { hasher, expected }.verify()
}

impl Flow<'_> {
    /// Makes everything durable and moves the offset there. Fails with the offset that counts.
    async fn count_all(&mut self) -> Result<u64, (u64, Error)> {
        if self.written > self.counted
            && let Err(error) = self.hold.during(self.counted, self.tail.sync()).await
        {
            self.forget(self.counted).await;
            return Err((self.counted, error));
        }
        let begun = tokio::time::Instant::now();
        loop {
            match self.hold.renew(self.written).await {
                Ok(true) => return Ok(self.written),
                Ok(false) => return Err((self.counted, locked())),
                Err(error) if begun.elapsed() > LAST_COUNT => return Err((self.counted, error)),
                Err(error) => {
                    tracing::debug!(%error, upload.id = %self.hold.id, "the last bytes are not counted yet");
                    sleep(LAST_COUNT_PAUSE).await;
                }
            }
        }
    }
}
