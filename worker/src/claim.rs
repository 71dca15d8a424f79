//! How jobs come to this worker: by tickets through apalis, and straight from PostgreSQL when a ticket does not come.
//!
//! apalis fetches a ticket only while a slot is free; the handler hands job and slot to a task of our own tracker, which
//! claims and runs, and returns at once. The ticket is so acknowledged within milliseconds, and no trouble of apalis with
//! long tasks, drains or lost acknowledgements can touch a running job. Any apalis error ends its worker; a fresh one is
//! built under a new name.

mod gate;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{BackendExt, BoxDynError, Data, WorkerBuilder, WorkerError};
use shared::id::JobId;
use shared::job::Lane;
use shared::lifecycle;
use shared::queue::{Ticker, Ticket};
use shared::store;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

use crate::claim::gate::{Gate, Given};
use crate::slots::Slot;
use crate::{Worker, probe};

/// How often a worker with a free slot looks for a ticket.
const LOOK: Duration = Duration::from_millis(25);
/// apalis can hang while it drains, so its end is awaited no longer than this.
const APALIS_DRAIN: Duration = Duration::from_secs(3);
/// First wait before a fresh apalis worker is built after an error; doubles up to [`REBUILD_MAX`].
const REBUILD: Duration = Duration::from_millis(200);
const REBUILD_MAX: Duration = Duration::from_secs(5);
/// How often a worker with a free slot asks PostgreSQL for jobs whose ticket did not come.
const ASK: Duration = Duration::from_secs(1);
/// How long a job is due before a worker with a free slot takes it without a ticket.
const OVERDUE: Duration = Duration::from_secs(5);
/// Overdue jobs looked at in one query.
const OVERDUE_BATCH: i64 = 16;
/// How long a job that no live worker can reach is put aside.
const ASIDE: Duration = Duration::from_secs(30);

/// Takes tickets of a lane until the worker drains.
pub async fn tickets(worker: Arc<Worker>, lane: Lane) {
    let mut wait = REBUILD;
    while !worker.draining.is_cancelled() {
        let begun = Instant::now();
        // a task of its own: a panic in apalis ends that task, not this loop
        let ended = tokio::spawn(one_apalis_worker(Arc::clone(&worker), lane)).await;
        match ended.unwrap_or_else(|panic| Err(panic.into())) {
            Ok(()) => {}
            Err(error) if worker.draining.is_cancelled() => tracing::debug!(%error, "apalis ended while draining"),
            Err(error) => tracing::warn!(%error, "apalis worker ended; building a fresh one"),
        }
        // one that ran for a while met a new trouble, not the old one
        wait = if begun.elapsed() > REBUILD_MAX { REBUILD } else { (wait * 2).min(REBUILD_MAX) };
        tokio::select! {
            () = worker.draining.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

async fn one_apalis_worker(worker: Arc<Worker>, lane: Lane) -> Result<(), BoxDynError> {
    let backend = worker.queue.backend(lane).await?;
    // a name is never used twice: apalis refuses a name it has seen alive, and never unregisters one
    let name = format!("{}-{}", worker.identity.name, Uuid::now_v7().simple());
    let apalis = WorkerBuilder::new(name.as_str())
        .backend(backend.poll_with_strategy(Ticker::new(LOOK)))
        .layer(Gate::new(worker.slots.clone(), lane))
        .data(Arc::clone(&worker))
        .build(handle);
    let draining = worker.draining.clone();
    let running = apalis.run_until(async move {
        draining.cancelled().await;
        Ok::<(), WorkerError>(())
    });
    let too_long = async {
        worker.draining.cancelled().await;
        sleep(APALIS_DRAIN).await;
    };
    tokio::select! {
        ended = running => ended.map_err(Into::into),
        () = too_long => Err("apalis did not drain in time".into()),
    }
}

/// Always `Ok`: retries are PostgreSQL's business, never apalis'.
async fn handle(ticket: Ticket, worker: Data<Arc<Worker>>, given: Data<Given>) -> Result<(), BoxDynError> {
    match given.take().filter(|_| !worker.draining.is_cancelled()) {
        Some(slot) => drop(claim_and_run(&worker, ticket.job, slot, Found::ByTicket)),
        // no slot after all, or about to stop: the relay sends it again at once
        None => take_back(&worker, ticket.job).await,
    }
    Ok(())
}

/// How a job was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A ticket came.
    ByTicket,
    /// Its ticket did not come.
    Overdue,
}

/// Claims a job and runs it, on a task of its own with the slot inside: a claim that somebody's time-out cut off in
/// mid-air would leave a job running that nobody runs. Tells whether the job was to be had, as soon as that is known.
fn claim_and_run(worker: &Arc<Worker>, job: JobId, slot: Slot, found: Found) -> oneshot::Receiver<bool> {
    let (tell, told) = oneshot::channel();
    let worker = Arc::clone(worker);
    worker.jobs.clone().spawn(async move {
        let begun = Instant::now();
        match lifecycle::claim(&worker.db, job, &worker.claimant()).await {
            Ok(Some(claim)) => {
                worker.metrics.claimed.inc();
                // nobody may listen any more, which changes nothing
                let _ = tell.send(true);
                if found == Found::Overdue {
                    tracing::info!(job.id = %job, "taken without a ticket");
                }
                probe::run(Arc::clone(&worker), claim, begun).await;
                drop(slot);
            }
            Ok(None) => {
                // free again before anybody hears of it, and looks for the next job
                drop(slot);
                let _ = tell.send(false);
                if found == Found::ByTicket {
                    take_back(&worker, job).await;
                }
            }
            Err(error) => tracing::warn!(%error, job.id = %job, "claim failed; the job is found again by itself"),
        }
    });
    told
}

/// Gives a ticket back that cannot be served here and now. For one whose job has ended or runs, that does nothing.
async fn take_back(worker: &Worker, job: JobId) {
    if let Err(error) = store::job::dispatch::take_back(&worker.db, job, ASIDE).await {
        tracing::debug!(%error, job.id = %job, "ticket not handed back; it is sent again by itself");
    }
}

/// Takes jobs of a lane whose ticket did not come, until the worker drains. Where tickets come it finds little:
/// they are faster.
pub async fn overdue(worker: Arc<Worker>, lane: Lane) {
    let mut tick = interval(ASK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut more = false;
    loop {
        tokio::select! {
            () = worker.draining.cancelled() => return,
            () = next_slot(&worker, lane), if more => {}
            _ = tick.tick() => {}
        }
        // bounded, so that a hanging database does not hang the drain
        more = match timeout(ASK * 5, take_overdue(&worker, lane)).await {
            Ok(Ok(taken)) => taken == Taken::AsManyAsFit,
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot look for overdue jobs");
                false
            }
            Err(_) => {
                tracing::debug!("looking for overdue jobs took too long");
                false
            }
        };
    }
}

/// Waits for a free slot, and then until a ticket could have taken it: where tickets come, they are cheaper.
async fn next_slot(worker: &Worker, lane: Lane) {
    poll_fn(|cx| worker.slots.poll_free(lane, cx)).await;
    sleep(LOOK * 2).await;
}

/// How a look for overdue jobs ended.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// Every free slot has one now; there may be more of them.
    AsManyAsFit,
    /// There is none left for this worker, or no slot was free to begin with.
    All,
}

/// Fills the free slots with overdue jobs.
async fn take_overdue(worker: &Arc<Worker>, lane: Lane) -> shared::Result<Taken> {
    let Some(mut slot) = worker.slots.take(lane) else { return Ok(Taken::All) };
    // the relay's duty, and it may be dead: without a rank a job is never listed
    store::job::dispatch::promote(&worker.db, OVERDUE_BATCH).await?;
    loop {
        let claimant = worker.claimant();
        let jobs = store::job::dispatch::list_overdue(&worker.db, lane, &claimant, OVERDUE, OVERDUE_BATCH).await?;
        let mut found = false;
        for job in jobs {
            if worker.draining.is_cancelled() {
                return Ok(Taken::All);
            }
            // workers that look at the same moment see the same jobs; each is claimed by one of them
            found |= claim_and_run(worker, job, slot, Found::Overdue).await.unwrap_or(false);
            match worker.slots.take(lane) {
                Some(next) => slot = next,
                None => return Ok(Taken::AsManyAsFit),
            }
        }
        if !found {
            return Ok(Taken::All);
        }
    }
}
