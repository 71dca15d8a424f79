//! One claimed job from its bytes to its end in PostgreSQL. Holds no transaction and no database connection while bytes
//! move or ffprobe runs; the lease is kept by `keep` beside the work.

mod describe;
mod examine;
mod input;
mod pace;
mod settle;
mod share;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use shared::job::{Claim, Failure, FailureClass};
use shared::lifecycle::Reuse;
use shared::store;
use shared::store::attempt::Attempt;
use shared::store::result::NewResult;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::Worker;
use crate::keep::{Stop, keep};
use crate::settings::ResourceRetry;
use pace::Pace;

/// Most kinds of warning in a result, those of all runs together.
const MAX_WARNINGS: usize = 50;
/// What a killed ffprobe gets to be gone.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// How an attempt came to its end.
enum End {
    Result {
        result: Box<NewResult>,
        stderr_tail: String,
    },
    Failure {
        failure: Failure,
        stderr_tail: Option<String>,
    },
    Stopped(Stop),
    /// By another job's result, or its wait for it; written already.
    Shared(Reuse),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failure { failure, stderr_tail: None }
    }
}

/// Runs a claimed job to its end. `claimed_from` is an instant before the claim was sent.
pub async fn run(worker: Arc<Worker>, claim: Claim, claimed_from: Instant) {
    let span = tracing::info_span!("job", job.id = %claim.job.id, attempt = claim.job.attempt);
    async {
        if let Some(waited) = claim.job.started_at.and_then(|at| (at - claim.job.run_at).to_std().ok()) {
            worker.metrics.waited.observe(waited.as_secs_f64());
        }
        let mut end = attempt(&worker, &claim, claimed_from).await;
        if let End::Failure { failure, .. } = &mut end {
            decide_retry(&worker, &claim, failure).await;
        }
        settle::settle(&worker, &claim, end, claimed_from).await;
    }
    .instrument(span)
    .await;
}

/// Does the work and keeps the lease until one of the two ends.
async fn attempt(worker: &Worker, claim: &Claim, claimed_from: Instant) -> End {
    let (cancel, pace) = (CancellationToken::new(), Pace::default());
    let mut work = pin!(examine::examine(worker, claim, cancel.clone(), &pace));
    let stop = tokio::select! {
        end = &mut work => return end,
        stop = keep(worker, claim, claimed_from, || pace.show()) => stop,
    };
    cancel.cancel();
    // ffprobe is dead and reaped when the work returns; a read that hangs in a dead mount is left behind
    if timeout(STOP_PATIENCE, work).await.is_err() {
        tracing::warn!("the work did not stop in time");
    }
    End::Stopped(stop)
}

/// Whether the attempt before this one met a limit of the jail.
fn met_limits_before(claim: &Claim) -> bool {
    claim.job.failure.as_ref().is_some_and(|f| f.class == FailureClass::Resource)
}

/// Most attempts of a job that are looked at; only retries by hand make so many.
const LOOKED_AT: i64 = 1_000;

/// A limit that was met is final, unless the operator wants one more try and none was made.
async fn decide_retry(worker: &Worker, claim: &Claim, failure: &mut Failure) {
    if failure.class != FailureClass::Resource || worker.resource_retry == ResourceRetry::Never {
        return;
    }
    // the attempt before may have ended otherwise; what cannot be read counts as a try
    let attempts = store::attempt::list(&worker.db, claim.job.id, 0, LOOKED_AT).await;
    let met_before = |a: &Attempt| a.failure.as_ref().is_some_and(|f| f.class == FailureClass::Resource);
    failure.retryable = attempts.is_ok_and(|attempts| !attempts.iter().any(met_before));
}
