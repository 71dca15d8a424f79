//! Writing the end of an attempt into PostgreSQL, through restarts of it. Every write carries the lease token, so
//! trying for long is safe: once the job has gone to somebody else, nothing happens.

use std::sync::Arc;
use std::time::Duration;

use shared::error::Result;
use shared::id::JobId;
use shared::job::{Claim, Failure, FailureCode};
use shared::lifecycle::{self, Held, Reuse};
use shared::queue::Bell;
use shared::{Code, Error};
use tokio::time::{Instant, sleep, timeout};

use super::End;
use crate::Worker;
use crate::keep::Stop;

/// How long the end is tried to be written while PostgreSQL is away.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest single try.
const TRY: Duration = Duration::from_secs(10);
/// Wait between tries.
const PAUSE: Duration = Duration::from_millis(300);

/// Writes how the attempt ended and tells whoever waits.
pub(super) async fn settle(worker: &Arc<Worker>, claim: &Claim, end: End, claimed_from: Instant) {
    let end = match end {
        End::Stopped(Stop::Canceled) => {
            Failure::new(FailureCode::Canceled, "The job was canceled while it ran.").into()
        }
        end => end,
    };
    let word = outcome(&end);
    worker.metrics.attempt(claim.job.profile.as_str(), word, claimed_from.elapsed());
    let took_ms = u64::try_from(claimed_from.elapsed().as_millis()).unwrap_or(u64::MAX);
    match write(worker, claim, &end).await {
        Ok(Held::Yes) => {
            tracing::info!(outcome = word, duration_ms = took_ms, "attempt ended");
            // a released job may start at once elsewhere; everything else is news for those who wait
            let bell = match end {
                End::Stopped(Stop::Released) | End::Shared(Reuse::Waits(_)) => Bell::Wake,
                _ => Bell::Done(claim.job.id),
            };
            // beside the job: with Redis away a bell takes a second, and the slot is wanted
            let (worker_beside, shares, id) = (Arc::clone(worker), claim.job.options.reuse.is_some(), claim.job.id);
            worker.jobs.spawn(async move {
                worker_beside.ring(bell).await;
                if shares {
                    wake(&worker_beside, id).await;
                }
            });
        }
        Ok(Held::No) => {
            tracing::warn!(outcome = word, "the job has gone to another worker; this attempt changes nothing");
        }
        Err(error) => {
            tracing::error!(%error, outcome = word, "the end could not be written; the lease runs out and the job is run again");
        }
    }
}

/// Tries until it is written, until the lease turns out to be lost, or until patience ends.
async fn write(worker: &Worker, claim: &Claim, end: &End) -> Result<Held> {
    let begun = Instant::now();
    loop {
        let error = match timeout(TRY, write_once(worker, claim, end)).await {
            Ok(Ok(held)) => return Ok(held),
            Ok(Err(error)) => error,
            Err(elapsed) => Error::unavailable("The database", elapsed),
        };
        if error.code() != Code::Unavailable {
            // this result will never be stored; say so on the job instead of running it for ever
            tracing::error!(%error, "the end of the attempt was refused");
            let failure = Failure::new(FailureCode::Internal, "The result could not be stored.");
            return lifecycle::fail(&worker.db, claim, &failure, None, rand::random()).await;
        }
        if begun.elapsed() > PATIENCE {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
}

async fn write_once(worker: &Worker, claim: &Claim, end: &End) -> Result<Held> {
    let db = &worker.db;
    match end {
        End::Result { result, stderr_tail } => lifecycle::finish(db, claim, result, stderr_tail).await,
        End::Failure { failure, stderr_tail } => {
            lifecycle::fail(db, claim, failure, stderr_tail.as_deref(), rand::random()).await
        }
        End::Stopped(Stop::Released) => lifecycle::release(db, claim).await,
        End::Shared(Reuse::Taken(_) | Reuse::Waits(_)) => Ok(Held::Yes),
        End::Stopped(Stop::Lost | Stop::Canceled) | End::Shared(Reuse::Run | Reuse::NotOurs) => Ok(Held::No),
    }
}

/// Wakes the jobs that waited for this one's result; without it they look again by themselves in some seconds.
async fn wake(worker: &Worker, ended: JobId) {
    match lifecycle::wake(&worker.db, ended).await {
        Ok(0) => {}
        Ok(jobs) => {
            tracing::debug!(jobs, "jobs that waited for this result are due");
            worker.ring(Bell::Wake).await;
        }
        Err(error) => tracing::debug!(%error, "nobody was woken; they look again by themselves"),
    }
}

/// The word for metrics and logs.
fn outcome(end: &End) -> &'static str {
    match end {
        End::Result { .. } => "succeeded",
        End::Failure { failure, .. } => failure.code.as_str(),
        End::Stopped(Stop::Released) => "released",
        End::Shared(Reuse::Taken(_)) => "succeeded",
        End::Shared(Reuse::Waits(_)) => "waits",
        End::Stopped(Stop::Lost | Stop::Canceled) | End::Shared(Reuse::Run | Reuse::NotOurs) => "lost",
    }
}
