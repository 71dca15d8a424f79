//! The relay: sends tickets for due jobs, in the order they shall run, and sends those again that were lost. It keeps
//! the list in Redis short: Redis knows no order but arrival, so a long list would undo the relay's.

use std::sync::Arc;
use std::time::Duration;

use shared::error::Result;
use shared::id::JobId;
use shared::job::Lane;
use shared::queue::{Bell, Sent, WINDOW_MAX};
use shared::store;
use tokio::time::Instant;

use crate::Worker;
use crate::rounds::{Rounds, Words};

/// How often due jobs are looked for when no bell rings.
const TICK: Duration = Duration::from_millis(200);
const WORDS: Words = Words {
    fails: "the relay cannot work; free workers take overdue jobs by themselves",
    works: "the relay works again",
};
/// Least number of tickets the list may hold.
const WINDOW_MIN: usize = 4;
/// Tickets beyond the free slots, per worker: what it may take while the relay is not looking.
const WINDOW_SPARE: i64 = 2;
/// Jobs whose time has come that are given a rank in one round.
const PROMOTE_BATCH: i64 = 1_000;
/// How long the workers' capacity is believed.
const CAPACITY_AGE: Duration = Duration::from_secs(1);
/// How often lost tickets are looked for.
const RESEND_EVERY: Duration = Duration::from_secs(5);
/// Lost tickets looked for in one round.
const RESEND_BATCH: i64 = 500;
/// A ticket nobody claimed for this long, and that is not in the list, was lost.
const RESEND_AGE: Duration = Duration::from_secs(15);

/// Sends tickets until the worker drains.
pub async fn run(worker: Arc<Worker>) {
    // a job that ended has freed a slot
    let wakes = |bell| matches!(bell, Bell::Wake | Bell::Done(_));
    let mut rounds = Rounds::new(&worker, TICK, wakes, WORDS);
    let mut lanes = Lane::ALL.map(LaneRelay::new);
    while rounds.next().await {
        rounds.hold(round(&worker, &mut lanes)).await;
    }
}

/// One round: gives a rank to jobs whose time has come, then serves each lane.
async fn round(worker: &Worker, lanes: &mut [LaneRelay]) -> Result<()> {
    store::job::dispatch::promote(&worker.db, PROMOTE_BATCH).await?;
    for lane in lanes {
        lane.round(worker).await?;
    }
    Ok(())
}

/// The relay's view of one lane.
struct LaneRelay {
    lane: Lane,
    window: usize,
    capacity_at: Option<Instant>,
    resent_at: Instant,
}

impl LaneRelay {
    fn new(lane: Lane) -> Self {
        Self { lane, window: WINDOW_MIN, capacity_at: None, resent_at: Instant::now() }
    }

    /// Fills the window with due jobs and, now and then, looks for lost tickets.
    async fn round(&mut self, worker: &Worker) -> Result<()> {
        if self.capacity_at.is_none_or(|at| at.elapsed() > CAPACITY_AGE) {
            let capacity = store::worker::capacity(&worker.db, self.lane).await?;
            let wanted = capacity.free_slots + capacity.workers * WINDOW_SPARE;
            self.window = usize::try_from(wanted).unwrap_or(0).clamp(WINDOW_MIN, WINDOW_MAX);
            self.capacity_at = Some(Instant::now());
        }
        if self.resent_at.elapsed() > RESEND_EVERY {
            self.resent_at = Instant::now();
            resend(worker, self.lane).await?;
        }
        let room = self.window.saturating_sub(worker.queue.depth(self.lane).await?);
        if room == 0 {
            return Ok(());
        }
        let due = take_turn(worker, self.lane, room).await?;
        send(worker, self.lane, &due).await
    }
}

/// Marks up to `room` due jobs as dispatched. The mark is committed before a ticket is sent: a ticket that is lost
/// between the two is sent again, one sent twice is harmless.
async fn take_turn(worker: &Worker, lane: Lane, room: usize) -> Result<Vec<JobId>> {
    let mut tx = worker.db.begin().await?;
    if !store::job::dispatch::try_relay_turn(&mut tx).await? {
        return Ok(Vec::new());
    }
    let due = store::job::dispatch::mark_due(&mut tx, lane, i64::try_from(room).unwrap_or(i64::MAX)).await?;
    tx.commit().await?;
    Ok(due)
}

async fn send(worker: &Worker, lane: Lane, due: &[JobId]) -> Result<()> {
    for (done, job) in due.iter().enumerate() {
        match worker.queue.send(lane, *job, WINDOW_MAX).await {
            Ok(Sent::Sent) => {
                worker.metrics.tickets.inc();
            }
            Ok(Sent::WindowFull) => return store::job::dispatch::unmark(&worker.db, &due[done..]).await,
            Err(error) => {
                store::job::dispatch::unmark(&worker.db, &due[done..]).await?;
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Finds jobs whose ticket was sent long ago and is gone, and lets them be sent again.
async fn resend(worker: &Worker, lane: Lane) -> Result<()> {
    let old = store::job::dispatch::list_unclaimed(&worker.db, lane, RESEND_AGE, RESEND_BATCH).await?;
    if old.is_empty() {
        return Ok(());
    }
    let pending = worker.queue.pending(lane).await?;
    let lost: Vec<JobId> = old.into_iter().filter(|job| !pending.contains(job)).collect();
    if !lost.is_empty() {
        tracing::info!(tickets = lost.len(), "tickets were lost; they are sent again");
        store::job::dispatch::unmark(&worker.db, &lost).await?;
    }
    Ok(())
}
