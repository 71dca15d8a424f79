//! How jobs come to this worker: by tickets through apalis, and straight from PostgreSQL when a ticket does not come.
//!
//! apalis fetches a ticket only while a slot is free; the handler claims the job, starts it on our own tracker and
//! returns at once, so the ticket is acknowledged within milliseconds and no trouble of apalis with long tasks, drains
//! or lost acknowledgements can touch a running job. Any apalis error ends its worker; a fresh one is built under a
//! new name.

mod gate;

use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{BackendExt, BoxDynError, Data, WorkerBuilder, WorkerError};
use shared::job::Claim;
use shared::lifecycle;
use shared::queue::{Ticker, Ticket};
use shared::store;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, interval, sleep, timeout};
use uuid::Uuid;

use crate::claim::gate::{Gate, Slot};
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

/// Takes tickets until the worker drains.
pub async fn tickets(worker: Arc<Worker>) {
    let mut wait = REBUILD;
    while !worker.draining.is_cancelled() {
        let begun = Instant::now();
        // a task of its own: a panic in apalis ends that task, not this loop
        let ended = tokio::spawn(one_apalis_worker(Arc::clone(&worker))).await;
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

async fn one_apalis_worker(worker: Arc<Worker>) -> Result<(), BoxDynError> {
    let backend = worker.queue.backend().await?;
    // a name is never used twice: apalis refuses a name it has seen alive, and never unregisters one
    let name = format!("{}-{}", worker.identity.name, Uuid::now_v7().simple());
    let apalis = WorkerBuilder::new(name.as_str())
        .backend(backend.poll_with_strategy(Ticker::new(LOOK)))
        .layer(Gate::new(Arc::clone(&worker.slots)))
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
async fn handle(ticket: Ticket, worker: Data<Arc<Worker>>, slot: Data<Slot>) -> Result<(), BoxDynError> {
    let worker = Arc::clone(&worker);
    let permit = slot.take().filter(|_| !worker.draining.is_cancelled());
    let Some(permit) = permit else {
        // no slot after all, or about to stop: let the relay send it again at once
        if let Err(error) = store::job::dispatch::unmark(&worker.db, &[ticket.job]).await {
            tracing::debug!(%error, job.id = %ticket.job, "ticket not handed back; it is sent again by itself");
        }
        return Ok(());
    };
    let begun = Instant::now();
    match lifecycle::claim(&worker.db, ticket.job, &worker.claimant()).await {
        Ok(Some(claim)) => start(&worker, claim, permit, begun),
        Ok(None) => tracing::debug!(job.id = %ticket.job, "ticket for a job that is not to be had"),
        Err(error) => tracing::warn!(%error, job.id = %ticket.job, "claim failed; the ticket is sent again by itself"),
    }
    Ok(())
}

/// Takes jobs whose ticket did not come, until the worker drains. With a healthy relay and Redis it finds none.
pub async fn overdue(worker: Arc<Worker>) {
    let mut tick = interval(ASK);
    loop {
        tokio::select! {
            () = worker.draining.cancelled() => return,
            _ = tick.tick() => {}
        }
        while let Ok(permit) = Arc::clone(&worker.slots).try_acquire_owned() {
            let begun = Instant::now();
            // bounded, so that a hanging database does not keep the permit from the tickets
            match timeout(ASK * 5, lifecycle::claim_overdue(&worker.db, &worker.claimant())).await {
                Ok(Ok(Some(claim))) => {
                    tracing::info!(job.id = %claim.job.id, "taken without a ticket");
                    start(&worker, claim, permit, begun);
                }
                Ok(Ok(None)) => break,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "cannot look for overdue jobs");
                    break;
                }
                Err(_) => break,
            }
            if worker.draining.is_cancelled() {
                return;
            }
        }
    }
}

/// Starts a claimed job on the tracker. The permit is given back when the job is over, however it ends.
fn start(worker: &Arc<Worker>, claim: Claim, permit: OwnedSemaphorePermit, claimed_from: Instant) {
    worker.metrics.claimed.inc();
    let job = probe::run(Arc::clone(worker), claim, claimed_from);
    worker.jobs.spawn(async move {
        let _permit = permit;
        job.await;
    });
}
