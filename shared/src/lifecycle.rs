//! The life of a job: the only place that changes `job.state`. Each verb is one transaction; a verb of a running job
//! carries the lease token and does nothing (and says so) when the lease has gone to somebody else.
//!
//! Callers ring the doorbell after a verb returned, never before: a bell for a change that was rolled back is harmless,
//! a change nobody hears of costs a second.

pub mod batch;
mod publish;
mod reuse;
pub mod upload;
mod webhook;

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

pub use publish::{Published, publish};
pub use reuse::{Reuse, keep_to_itself, reuse, wake};

use crate::error::{Code, Error, Result};
use crate::id::{JobId, TenantId, UploadId};
use crate::job::retry::{self, Next};
use crate::job::{Claim, Failure, FailureClass, FailureCode, Job, JobState, NewJob, Progress, Source};
use crate::store;
use crate::store::attempt::{End, Outcome};
use crate::store::idempotency::{Kept, Request};
use crate::store::job::Filter;
use crate::store::job::lease::{Claimant, Rescued};
use crate::store::result::NewResult;

/// Most jobs rescued, expired or erased in one statement.
const BATCH: i64 = 500;

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

/// What became of a job that was handed in.
#[derive(Debug)]
pub enum Submitted {
    /// It was accepted.
    New(Box<Job>),
    /// The same request was answered before, with this.
    Repeated(Kept),
}

/// Accepts a job.
pub async fn submit(db: &PgPool, new: &NewJob) -> Result<Job> {
    let mut tx = db.begin().await?;
    let job = accept(&mut tx, JobId::new(), new).await?;
    tx.commit().await?;
    Ok(job)
}

/// Accepts a job at most once for each idempotency key of the tenant. `answer` makes the body that repeated requests
/// are given; it is kept in the transaction that accepts the job.
pub async fn submit_once(
    db: &PgPool,
    new: &NewJob,
    request: &Request,
    answer: impl FnOnce(&Job) -> Result<String>,
) -> Result<Submitted> {
    let mut tx = db.begin().await?;
    let id = JobId::new();
    if let Some(kept) = store::idempotency::begin(&mut tx, new.tenant, request, id.0).await? {
        return Ok(Submitted::Repeated(kept));
    }
    let job = accept(&mut tx, id, new).await?;
    store::idempotency::keep(&mut *tx, new.tenant, &request.key, &answer(&job)?).await?;
    tx.commit().await?;
    Ok(Submitted::New(Box::new(job)))
}

async fn accept(tx: &mut PgConnection, id: JobId, new: &NewJob) -> Result<Job> {
    if let Source::Upload { id } = &new.source {
        // shared lock: the upload cannot be erased between this look and our commit
        let upload = store::upload::find_for_share(&mut *tx, new.tenant, *id).await?;
        let upload = upload.ok_or_else(|| Error::not_found("upload").at("/source/id"))?;
        upload::check_usable(&upload).map_err(|e| e.at("/source/id"))?;
    }
    let job = store::job::insert(&mut *tx, id, new).await?;
    if let Some(wish) = &new.webhook {
        webhook::note(tx, new.tenant, &[(id, wish)]).await?;
    }
    Ok(job)
}

/// Gives the job to the worker, if it is to be had now and the worker can reach its bytes.
pub async fn claim(db: &PgPool, id: JobId, by: &Claimant) -> Result<Option<Claim>> {
    if let Some(claim) = store::job::lease::claim(db, id, by).await? {
        return Ok(Some(claim));
    }
    let mut tx = db.begin().await?;
    let claim = store::job::lease::claim_limited(&mut tx, id, by).await?;
    tx.commit().await?;
    Ok(claim)
}

/// What a wish to cancel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// The job is canceled.
    Done,
    /// The job runs; its worker was asked to stop.
    Requested,
}

/// Cancels a job: at once if it is queued, through its worker if it runs. One that is canceled already stays so.
pub async fn cancel(db: &PgPool, tenant: TenantId, id: JobId) -> Result<Cancel> {
    let mut tx = db.begin().await?;
    let job = find_for_update(&mut tx, tenant, id).await?;
    let done = match job.state {
        JobState::Queued => {
            store::job::end::cancel_queued(&mut *tx, id, &canceled()).await?;
            Cancel::Done
        }
        JobState::Running => {
            store::job::end::request_cancel(&mut *tx, id).await?;
            Cancel::Requested
        }
        JobState::Canceled => Cancel::Done,
        JobState::Succeeded | JobState::Failed => {
            let detail = format!("The job has {} already, so there is nothing to cancel.", job.state.as_str());
            return Err(Error::new(Code::JobEnded, detail));
        }
    };
    tx.commit().await?;
    Ok(done)
}

/// Queues a failed or canceled job again, with `attempts` more.
pub async fn retry(db: &PgPool, tenant: TenantId, id: JobId, attempts: i16) -> Result<()> {
    let mut tx = db.begin().await?;
    let job = find_for_update(&mut tx, tenant, id).await?;
    if revive(&mut tx, &[id], attempts).await?.is_empty() {
        let detail = format!(
            "The job is {}; only failed and canceled jobs can be run again. Submit a new job instead.",
            job.state.as_str()
        );
        return Err(Error::new(Code::NotRetryable, detail));
    }
    tx.commit().await?;
    Ok(())
}

/// Queues up to `limit` failed jobs of the tenant again that pass the filter and failed with `code`, if one is given.
pub async fn retry_failed(
    db: &PgPool,
    tenant: TenantId,
    filter: &Filter,
    code: Option<FailureCode>,
    attempts: i16,
    limit: i64,
) -> Result<Vec<JobId>> {
    let mut tx = db.begin().await?;
    let failed = store::job::end::list_failed(&mut *tx, tenant, filter, code, limit).await?;
    let revived = revive(&mut tx, &failed, attempts).await?;
    tx.commit().await?;
    Ok(revived)
}

/// Queues jobs again, which the transaction has locked; batches that were complete with them are open again.
async fn revive(tx: &mut PgConnection, jobs: &[JobId], attempts: i16) -> Result<Vec<JobId>> {
    // whoever completes a batch looks at its jobs while it holds the batch
    store::batch::lock_of(tx, jobs).await?;
    let revived = store::job::end::revive(&mut *tx, jobs, attempts).await?;
    store::batch::reopen(tx, &revived).await?;
    Ok(revived)
}

/// Erases a job that does not run, with its result. Returns its upload if no other job uses it: its row is gone, and
/// the caller erases its bytes.
pub async fn delete(db: &PgPool, tenant: TenantId, id: JobId) -> Result<Option<UploadId>> {
    let mut tx = db.begin().await?;
    let job = find_for_update(&mut tx, tenant, id).await?;
    if !store::job::end::delete(&mut *tx, id).await? {
        return Err(Error::new(Code::JobRunning, "The job is running. Cancel it, wait for its end, then delete it."));
    }
    let unused = match job.source {
        Source::Upload { id } if store::upload::sweep::delete_unused(&mut tx, id).await? => Some(id),
        _ => None,
    };
    tx.commit().await?;
    Ok(unused)
}

/// One round of ending jobs that nobody wants any more. Call again while it returns a full batch.
pub async fn expire(db: &PgPool) -> Result<Vec<JobId>> {
    let failure = Failure::new(FailureCode::Expired, "The job was not started before its expires_at.");
    store::job::end::expire(db, &failure, BATCH).await
}

/// One round of erasing jobs that ended longer than `age` ago. Returns how many, and the uploads that are erased with
/// them: their rows are gone, and the caller erases their bytes.
pub async fn prune(db: &PgPool, age: Duration) -> Result<(usize, Vec<UploadId>)> {
    let mut tx = db.begin().await?;
    let pruned = store::job::end::prune(&mut *tx, age, BATCH).await?;
    let mut unused = Vec::new();
    for upload in pruned.iter().flatten() {
        if store::upload::sweep::delete_unused(&mut tx, *upload).await? {
            unused.push(*upload);
        }
    }
    tx.commit().await?;
    Ok((pruned.len(), unused))
}

async fn find_for_update(tx: &mut PgConnection, tenant: TenantId, id: JobId) -> Result<Job> {
    store::job::find_for_update(tx, tenant, id).await?.ok_or_else(|| Error::not_found("job"))
}

fn canceled() -> Failure {
    Failure::new(FailureCode::Canceled, "The job was canceled.")
}

/// Renews the lease and carries progress.
pub async fn beat(db: &PgPool, claim: &Claim, progress: Option<&Progress>) -> Result<Beat> {
    let answer = store::job::lease::beat(db, claim.job.id, claim.token, claim.lease, progress).await?;
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
    store::result::insert(&mut tx, id, result).await?;
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
            Next::RetryAfter(wait) => {
                store::job::lease::requeue(&mut *tx, id, token, wait, failure, &canceled()).await?
            }
            Next::GiveUp => store::job::lease::fail(&mut *tx, id, token, JobState::Failed, failure).await?,
        };
        (number, Outcome::Failed)
    };
    let Some(number) = number else { return Ok(Held::No) };
    store::attempt::end(&mut *tx, id, number, End { outcome, failure: Some(failure), stderr_tail }).await?;
    tx.commit().await?;
    Ok(Held::Yes)
}

/// Hands the job back because the worker is stopping; the attempt is not charged. One that somebody wanted canceled is
/// canceled.
pub async fn release(db: &PgPool, claim: &Claim) -> Result<Held> {
    let id = claim.job.id;
    let mut tx = db.begin().await?;
    let Some(number) = store::job::lease::release(&mut *tx, id, claim.token, &canceled()).await? else {
        return Ok(Held::No);
    };
    store::attempt::end(&mut *tx, id, number, End { outcome: Outcome::Released, failure: None, stderr_tail: None })
        .await?;
    tx.commit().await?;
    Ok(Held::Yes)
}

/// One round of rescuing: takes jobs from workers that fell silent. Call again while it returns a full batch.
pub async fn rescue(db: &PgPool) -> Result<Vec<Rescued>> {
    let lost = Failure::new(FailureCode::WorkerLost, "The worker gave no sign of life for longer than its lease.");
    store::job::lease::rescue(db, &lost, &canceled(), BATCH).await
}
