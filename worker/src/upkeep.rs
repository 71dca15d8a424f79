//! Upkeep: duties nobody else does, each a function that does one round and judges time by PostgreSQL's clock. One
//! process leads; the others stand by. A duty that fails is done again in the next round.

use std::sync::Arc;
use std::time::Duration;

use shared::Error;
use shared::delivery::{self, Resealed};
use shared::error::Result;
use shared::id::UploadId;
use shared::job::{JobState, Lane};
use shared::queue::Bell;
use shared::store::leader::Leader;
use shared::upload::UploadState;
use shared::{lifecycle, store};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Worker;

/// How often leases are checked: the most a dead worker's job waits beyond its lease.
const EVERY: Duration = Duration::from_secs(2);
/// Longest time for one duty.
const DUTY: Duration = Duration::from_secs(60);
/// Every so many rounds the slow duties are done: once a minute.
const SLOW_EVERY: u32 = 30;
/// Every so many rounds stray bytes are looked for, too: at the start and once an hour. A multiple of [`SLOW_EVERY`].
const STRAYS_EVERY: u32 = 60 * SLOW_EVERY;
/// Bytes without a row are strays once they are this old: an upload's row is written before its first byte.
const STRAY_AGE: Duration = Duration::from_secs(3600);
/// What is counted is counted up to this number.
const MEASURED: i64 = 10_001;
/// Uploads asked for in one query.
const STRAY_BATCH: usize = 1_000;
/// An unfinished upload that does not say when its time is over is given up so long after it was begun (48 hours).
const ABANDONED_SECONDS: f64 = 48.0 * 3600.0;
/// How long it is remembered that an upload is gone.
const GONE_AGE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long answers to requests with an Idempotency-Key are kept.
const IDEMPOTENCY_AGE: Duration = Duration::from_secs(24 * 3600);
/// Rows erased in one statement.
const ROW_BATCH: i64 = 1_000;
/// Uploads erased in one round.
const UPLOAD_BATCH: i64 = 100;
/// Most batches of events in one round: every job leaves some, so more come than of anything else.
const EVENT_BATCHES: usize = 200;
/// Most batches of one duty in one round, so that no duty keeps the others waiting.
const BATCHES: usize = 20;

/// Keeps house until the worker drains.
pub async fn run(worker: Arc<Worker>, retention: Duration) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leader = Leader::default();
    let mut round: u32 = 0;
    loop {
        tokio::select! {
            () = worker.draining.cancelled() => return,
            _ = tick.tick() => {}
        }
        let leads = timeout(EVERY, leader.leads(&worker.db)).await;
        match leads.unwrap_or_else(|e| Err(Error::unavailable("The database", e))) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot see who keeps house");
                continue;
            }
        }
        duty("rescue jobs of dead workers", rescue(&worker)).await;
        duty("end expired jobs", expire(&worker)).await;
        duty("erase finished tickets", sweep_tickets(&worker)).await;
        duty("measure the queue", measure(&worker)).await;
        if round.is_multiple_of(SLOW_EVERY) {
            duty("forget dead workers", forget_workers(&worker)).await;
            duty("forget idempotency keys", forget_keys(&worker)).await;
            duty("forget sessions that are over", forget_sessions(&worker)).await;
            duty("complete batches whose last jobs were erased", complete_batches(&worker)).await;
            duty("forget old batches", forget_batches(&worker, retention)).await;
            duty("forget old events", forget_events(&worker)).await;
            duty("erase deleted webhooks", erase_webhooks(&worker)).await;
            if round.is_multiple_of(STRAYS_EVERY) {
                duty("seal webhooks under the first key", reseal_webhooks(&worker)).await;
            }
            duty("forget uploads that are gone", forget_uploads(&worker)).await;
            erase_all(&worker, retention, round).await;
        }
        round = round.wrapping_add(1);
    }
}

/// The duties that erase bytes. Without the volume none is done: a row that went alone would leave its bytes behind.
async fn erase_all(worker: &Worker, retention: Duration, round: u32) {
    if !worker.sees_uploads().await {
        tracing::warn!("the upload volume is not there, so old jobs and uploads are not erased; is it mounted?");
        return;
    }
    duty("erase old jobs", erase_old(worker, retention)).await;
    duty("erase abandoned uploads", erase_abandoned(worker)).await;
    duty("erase unused uploads", erase_unused(worker)).await;
    if round.is_multiple_of(STRAYS_EVERY) {
        duty("erase stray bytes", erase_strays(worker)).await;
        duty("give up uploads without bytes", give_up_lost(worker)).await;
    }
}

/// Does a duty, but not for ever: a PostgreSQL that is gone without a word must not keep the others waiting.
async fn duty(name: &str, work: impl Future<Output = Result<()>>) {
    match timeout(DUTY, work).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, duty = name, "a duty could not be done; it is tried again"),
        Err(_) => tracing::warn!(duty = name, "a duty took too long; it is tried again"),
    }
}

/// Takes jobs from workers that fell silent.
async fn rescue(worker: &Worker) -> Result<()> {
    let mut bells = Vec::new();
    for _ in 0..BATCHES {
        let rescued = lifecycle::rescue(&worker.db).await?;
        if rescued.is_empty() {
            break;
        }
        for job in &rescued {
            tracing::warn!(job.id = %job.id, state = job.state.as_str(), "its worker fell silent");
            worker.metrics.rescued.inc();
            bells.push(if job.state == JobState::Queued { Bell::Wake } else { Bell::Done(job.id) });
        }
    }
    ring_all(worker, bells).await;
    Ok(())
}

/// Ends jobs that nobody wants any more.
async fn expire(worker: &Worker) -> Result<()> {
    let mut bells = Vec::new();
    for _ in 0..BATCHES {
        let expired = lifecycle::expire(&worker.db).await?;
        if expired.is_empty() {
            break;
        }
        for job in expired {
            tracing::info!(job.id = %job, "expired before it was started");
            bells.push(Bell::Done(job));
        }
    }
    ring_all(worker, bells).await;
    Ok(())
}

/// Rings until one bell is not heard: with Redis away each would cost a second, and whoever waits looks once a second
/// anyway.
async fn ring_all(worker: &Worker, bells: Vec<Bell>) {
    for bell in bells {
        if worker.queue.ring(bell).await.is_err() {
            return;
        }
    }
}

/// Erases finished tickets, so that Redis stays small.
async fn sweep_tickets(worker: &Worker) -> Result<()> {
    for lane in Lane::ALL {
        for _ in 0..BATCHES {
            if worker.queue.sweep(lane).await? == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Puts the queue's depth where Prometheus finds it.
async fn measure(worker: &Worker) -> Result<()> {
    let depth = store::job::dispatch::depth(&worker.db).await?;
    worker.metrics.queued.set(depth.queued);
    worker.metrics.running.set(depth.running);
    worker.metrics.oldest_due.set(depth.oldest_due_seconds.unwrap_or(0.0));
    worker.metrics.deliveries_pending.set(store::delivery::count_pending(&worker.db, MEASURED).await?);
    worker.metrics.circuits_open.set(store::webhook::count_open(&worker.db, MEASURED).await?);
    Ok(())
}

/// Forgets workers that have been silent for long.
async fn forget_workers(worker: &Worker) -> Result<()> {
    store::worker::prune(&worker.db).await.map(drop)
}

/// Forgets answers that nobody will ask for again.
async fn forget_keys(worker: &Worker) -> Result<()> {
    for _ in 0..BATCHES {
        if store::idempotency::prune(&worker.db, IDEMPOTENCY_AGE, ROW_BATCH).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Forgets sessions and refresh tokens whose time is over.
async fn forget_sessions(worker: &Worker) -> Result<()> {
    for _ in 0..BATCHES {
        if store::session::prune(&worker.db, ROW_BATCH).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Completes batches that no job's end completes any more.
async fn complete_batches(worker: &Worker) -> Result<()> {
    lifecycle::batch::complete_left(&worker.db, ROW_BATCH).await.map(drop)
}

/// Forgets batches whose jobs are all erased.
async fn forget_batches(worker: &Worker, retention: Duration) -> Result<()> {
    store::batch::prune(&worker.db, retention, ROW_BATCH).await.map(drop)
}

/// Forgets events that nobody comes back for.
async fn forget_events(worker: &Worker) -> Result<()> {
    for _ in 0..EVENT_BATCHES {
        if store::delivery::prune(&worker.db, worker.event_retention, ROW_BATCH).await? == 0 {
            break;
        }
    }
    for _ in 0..EVENT_BATCHES {
        if store::event::prune(&worker.db, worker.event_retention, ROW_BATCH).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Erases webhooks that were deleted, and forgets targets that no job names.
async fn erase_webhooks(worker: &Worker) -> Result<()> {
    for _ in 0..BATCHES {
        if delivery::prune(&worker.db).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Brings what is sealed of webhooks, which may live for years, under the key that seals now.
async fn reseal_webhooks(worker: &Worker) -> Result<()> {
    let Resealed { done, left } = delivery::reseal(&worker.db, &worker.keys).await?;
    if done > 0 {
        tracing::info!(done, "URLs and secrets of webhooks were sealed under the first of ENCRYPTION_KEYS");
    }
    if left > 0 {
        tracing::error!(left, "URLs and secrets of webhooks are sealed under keys that are not among ENCRYPTION_KEYS");
    }
    Ok(())
}

/// Erases jobs that ended longer ago than anybody wants to know, and their uploads.
async fn erase_old(worker: &Worker, retention: Duration) -> Result<()> {
    for _ in 0..BATCHES {
        let (jobs, uploads) = lifecycle::prune(&worker.db, retention).await?;
        for upload in uploads {
            erase(worker, upload).await;
        }
        if jobs == 0 {
            break;
        }
        tracing::info!(jobs, "old jobs were erased");
    }
    Ok(())
}

/// Erases bytes that no row knows: what a crash between the two left behind.
async fn erase_strays(worker: &Worker) -> Result<()> {
    for batch in worker.storage.list(STRAY_AGE).await?.chunks(STRAY_BATCH) {
        let known = store::upload::sweep::list_known(&worker.db, batch).await?;
        for id in batch.iter().filter(|id| !known.contains(id)) {
            erase(worker, *id).await;
        }
    }
    Ok(())
}

/// Gives up unfinished uploads whose time is over.
async fn erase_abandoned(worker: &Worker) -> Result<()> {
    for id in store::upload::sweep::list_abandoned(&worker.db, ABANDONED_SECONDS, UPLOAD_BATCH).await? {
        if lifecycle::upload::bury(&worker.db, id, UploadState::Expired).await? {
            erase(worker, id).await;
        }
    }
    Ok(())
}

/// Erases complete uploads that no job has used for long.
async fn erase_unused(worker: &Worker) -> Result<()> {
    for id in store::upload::sweep::list_unused(&worker.db, worker.upload_retention, UPLOAD_BATCH).await? {
        if lifecycle::upload::bury(&worker.db, id, UploadState::Expired).await? {
            erase(worker, id).await;
        }
    }
    Ok(())
}

/// Forgets uploads that were gone for so long that nobody asks for them any more.
async fn forget_uploads(worker: &Worker) -> Result<()> {
    for _ in 0..BATCHES {
        if store::upload::sweep::prune(&worker.db, GONE_AGE, ROW_BATCH).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Gives up complete uploads whose bytes are not there, so that nobody relies on them: a disk lost them, or somebody erased
/// them by hand. The caller has made sure that the volume is there.
async fn give_up_lost(worker: &Worker) -> Result<()> {
    let mut after = None;
    loop {
        let batch = store::upload::sweep::list_complete(&worker.db, after, ROW_BATCH).await?;
        let Some(last) = batch.last().copied() else { return Ok(()) };
        for id in batch {
            let lost = !worker.storage.exists(id).await?;
            if lost && lifecycle::upload::bury(&worker.db, id, UploadState::Expired).await? {
                tracing::error!(upload.id = %id, "the bytes of an upload are gone; it was given up");
            }
        }
        after = Some(last);
    }
}

/// Erases the bytes of an upload whose row is gone. What cannot be erased now is a stray, and erased later.
async fn erase(worker: &Worker, id: UploadId) {
    match worker.storage.remove(id).await {
        Ok(()) => tracing::info!(upload.id = %id, "an upload was erased"),
        Err(error) => tracing::warn!(%error, upload.id = %id, "an upload could not be erased; it is tried again"),
    }
}
