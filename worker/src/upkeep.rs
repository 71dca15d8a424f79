//! Upkeep: duties nobody else does, each a function that does one round and judges time by PostgreSQL's clock. Several
//! processes may keep house at once: every round locks only the rows it changes and skips those of others.

use std::sync::Arc;
use std::time::Duration;

use shared::error::Result;
use shared::job::JobState;
use shared::queue::Bell;
use shared::{lifecycle, store};
use tokio::time::{MissedTickBehavior, interval};

use crate::Worker;

/// How often leases are checked: the most a dead worker's job waits beyond its lease.
const EVERY: Duration = Duration::from_secs(2);
/// Every so many rounds the slow duties are done: once a minute.
const SLOW_EVERY: u32 = 30;
/// An upload that was begun this long ago and never finished is given up (48 hours).
const ABANDONED_SECONDS: f64 = 48.0 * 3600.0;
/// Uploads erased in one round.
const UPLOAD_BATCH: i64 = 100;
/// Most batches of finished tickets erased in one round.
const SWEEP_BATCHES: usize = 20;

/// Keeps house until the worker drains.
pub async fn run(worker: Arc<Worker>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut round: u32 = 0;
    loop {
        tokio::select! {
            () = worker.draining.cancelled() => return,
            _ = tick.tick() => {}
        }
        note("rescue jobs of dead workers", rescue(&worker).await);
        note("erase finished tickets", sweep_tickets(&worker).await);
        note("measure the queue", measure(&worker).await);
        if round.is_multiple_of(SLOW_EVERY) {
            note("erase abandoned uploads", erase_abandoned(&worker).await);
            note("forget dead workers", store::worker::prune(&worker.db).await.map(drop));
        }
        round = round.wrapping_add(1);
    }
}

/// A duty that fails is done again in the next round.
fn note(duty: &str, outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, duty, "a duty could not be done; it is tried again");
    }
}

/// Takes jobs from workers that fell silent.
pub async fn rescue(worker: &Worker) -> Result<()> {
    loop {
        let rescued = lifecycle::rescue(&worker.db).await?;
        if rescued.is_empty() {
            return Ok(());
        }
        for job in &rescued {
            tracing::warn!(job.id = %job.id, state = job.state.as_str(), "its worker fell silent");
            worker.metrics.rescued.inc();
            worker.ring(if job.state == JobState::Queued { Bell::Wake } else { Bell::Done(job.id) }).await;
        }
    }
}

/// Erases finished tickets, so that Redis stays small.
async fn sweep_tickets(worker: &Worker) -> Result<()> {
    for _ in 0..SWEEP_BATCHES {
        if worker.queue.sweep().await? == 0 {
            break;
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
    Ok(())
}

/// Erases uploads whose request ended without a word, for example with the process that served it.
async fn erase_abandoned(worker: &Worker) -> Result<()> {
    if !worker.sees_uploads().await {
        return Ok(());
    }
    for id in store::upload::list_abandoned(&worker.db, ABANDONED_SECONDS, UPLOAD_BATCH).await? {
        if store::upload::delete_unfinished(&worker.db, id).await? {
            worker.storage.remove(id).await?;
            tracing::info!(upload.id = %id, "an abandoned upload was erased");
        }
    }
    Ok(())
}
