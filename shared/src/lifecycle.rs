//! The life of a job: the only place that changes `job.state`. Each verb is one transaction; a verb of a running job
//! carries the lease token and does nothing (and says so) when the lease has gone to somebody else.
//!
//! Callers ring the doorbell after a verb returned, never before: a bell for a change that was rolled back is harmless,
//! a change nobody hears of costs a second.

use std::time::Duration;

use sqlx::PgPool;

use crate::error::{Code, Error, Result};
use crate::id::JobId;
use crate::job::retry::{self, Next};
use crate::job::{Claim, Failure, FailureClass, FailureCode, Job, JobState, NewJob, Progress, Source};
use crate::store;
use crate::store::attempt::{End, Outcome};
use crate::store::job::lease::{Claimant, Rescued};
use crate::store::result::NewResult;

/// How long a worker holds a job without a sign of life.
pub const LEASE: Duration = Duration::from_secs(20);
/// How long a job is due before a worker with a free slot takes it without a ticket.
pub const OVERDUE: Duration = Duration::from_secs(5);
/// Most jobs rescued in one statement.
const RESCUE_BATCH: i64 = 500;

/// What a write under a lease did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The lease was ours; the change is in force.
    Yes,
    /// The lease had gone to somebody else; nothing was changed.
    No,
}

/// What a beat learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Go on.
    Renewed,
    /// Somebody wants the job canceled.
    CancelRequested,
    /// The lease has gone to somebody else: stop at once.
    Lost,
}

/// Accepts a job.
pub async fn submit(db: &PgPool, new: &NewJob) -> Result<Job> {
    let mut tx = db.begin().await?;
    if let Source::Upload { id } = &new.source {
        // shared lock: the upload cannot be erased between this look and our commit
        let upload = store::upload::find_for_share(&mut *tx, new.tenant, *id)
            .await?
            .ok_or_else(|| Error::not_found("upload").at("/source/id"))?;
        if upload.state != "complete" {
            let detail = "The upload has not received all of its bytes. Finish it, then create the job.";
            return Err(Error::new(Code::UploadIncomplete, detail).at("/source/id"));
        }
    }
    let job = store::job::insert(&mut *tx, new).await?;
    tx.commit().await?;
    Ok(job)
}

/// Gives the job to the worker, if it is still to be had and the worker can reach its bytes.
pub async fn claim(db: &PgPool, id: JobId, by: &Claimant) -> Result<Option<Claim>> {
    store::job::lease::claim(db, id, by, LEASE).await
}

/// Gives the worker a job whose ticket did not come.
pub async fn claim_overdue(db: &PgPool, by: &Claimant) -> Result<Option<Claim>> {
    store::job::lease::claim_overdue(db, by, LEASE, OVERDUE).await
}

/// Renews the lease and carries progress.
pub async fn beat(db: &PgPool, claim: &Claim, progress: Option<&Progress>) -> Result<Beat> {
    let answer = store::job::lease::beat(db, claim.job.id, claim.token, LEASE, progress).await?;
    Ok(match answer {
        None => Beat::Lost,
        Some(true) => Beat::CancelRequested,
        Some(false) => Beat::Renewed,
    })
}

/// Ends the job with a result.
pub async fn finish(db: &PgPool, claim: &Claim, result: &NewResult, stderr_tail: &str) -> Result<Held> {
    let id = claim.job.id;
    let mut tx = db.begin().await?;
    let Some(number) = store::job::lease::succeed(&mut *tx, id, claim.token).await? else { return Ok(Held::No) };
    store::result::insert(&mut *tx, id, result).await?;
    store::attempt::end(
        &mut *tx,
        id,
        number,
        End { outcome: Outcome::Succeeded, failure: None, stderr_tail: Some(stderr_tail) },
    )
    .await?;
    tx.commit().await?;
    Ok(Held::Yes)
}

/// Ends the attempt without a result: another one later, or the end of the job. `dice` in `0.0..1.0` spreads retries.
pub async fn fail(db: &PgPool, claim: &Claim, failure: &Failure, stderr_tail: Option<&str>, dice: f64) -> Result<Held> {
    let (id, token) = (claim.job.id, claim.token);
    let mut tx = db.begin().await?;
    let (number, outcome) = if failure.class == FailureClass::Canceled {
        (store::job::lease::fail(&mut *tx, id, token, JobState::Canceled, failure).await?, Outcome::Canceled)
    } else {
        let number = match retry::after_failure(failure, claim.job.attempt, claim.job.max_attempts, dice) {
            Next::RetryAfter(wait) => store::job::lease::requeue(&mut *tx, id, token, wait, failure).await?,
            Next::GiveUp => store::job::lease::fail(&mut *tx, id, token, JobState::Failed, failure).await?,
        };
        (number, Outcome::Failed)
    };
    let Some(number) = number else { return Ok(Held::No) };
    store::attempt::end(&mut *tx, id, number, End { outcome, failure: Some(failure), stderr_tail }).await?;
    tx.commit().await?;
    Ok(Held::Yes)
}

/// Hands the job back because the worker is stopping; the attempt is not charged.
pub async fn release(db: &PgPool, claim: &Claim) -> Result<Held> {
    let id = claim.job.id;
    let mut tx = db.begin().await?;
    let Some(number) = store::job::lease::release(&mut *tx, id, claim.token).await? else { return Ok(Held::No) };
    store::attempt::end(&mut *tx, id, number, End { outcome: Outcome::Released, failure: None, stderr_tail: None })
        .await?;
    tx.commit().await?;
    Ok(Held::Yes)
}

/// One round of rescuing: takes jobs from workers that fell silent. Call again while it returns a full batch.
pub async fn rescue(db: &PgPool) -> Result<Vec<Rescued>> {
    let lost = Failure::new(FailureCode::WorkerLost, "The worker gave no sign of life for longer than its lease.");
    store::job::lease::rescue(db, &lost, RESCUE_BATCH).await
}
