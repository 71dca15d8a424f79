//! Sharing results: a job that allows it takes the result of an earlier job of its tenant that looked at the same bytes in
//! the same way, or waits for one that is looking now. Called by the worker once it has opened the input.

use std::time::Duration;

use sqlx::PgPool;

use crate::error::{Error, Result};
use crate::id::JobId;
use crate::job::{Claim, JobState};
use crate::media::rename_filename;
use crate::store;
use crate::store::attempt::{End, Outcome};
use crate::store::reuse::Fingerprint;

/// How long a job waits for another one before it looks again by itself: as long as a dead worker's lease.
const LOOK_AGAIN: Duration = Duration::from_secs(20);

/// What became of a job that allows another's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// There is none: run it. Others with the same fingerprint wait for it now.
    Run,
    /// The job has ended with the result of this one.
    Taken(JobId),
    /// Another job looks at the same bytes right now; this one went back to the queue until that ends.
    Waits(JobId),
    /// The lease had gone to somebody else, or somebody wants the job canceled.
    NotOurs,
}

/// Finds the result of a job with the same fingerprint, no older than `max_age`. `name` is this job's name for the file.
pub async fn reuse(
    db: &PgPool,
    claim: &Claim,
    fingerprint: &Fingerprint,
    name: &str,
    max_age: Duration,
) -> Result<Reuse> {
    let (id, tenant, token) = (claim.job.id, claim.job.tenant, claim.token);
    let mut tx = db.begin().await?;
    let holder = store::reuse::claim(&mut tx, tenant, fingerprint, id, max_age).await?;
    let (number, end, reuse) = match holder.state {
        _ if holder.job_id == id => {
            tx.commit().await?;
            return Ok(Reuse::Run);
        }
        JobState::Succeeded if holder.fresh => {
            let number = store::job::lease::succeed(&mut *tx, id, token).await?;
            if number.is_some() {
                let stored = store::result::find(&mut *tx, tenant, holder.job_id).await?;
                let stored = stored.ok_or_else(|| Error::internal("the result to be shared is gone"))?;
                let mut media = stored.media.0;
                media["name"] = name.into();
                let ffprobe = rename_filename(&stored.ffprobe, name).map_err(Error::internal)?;
                store::reuse::copy_result(&mut tx, holder.job_id, id, &media, &ffprobe).await?;
            }
            (number, Outcome::Succeeded, Reuse::Taken(holder.job_id))
        }
        JobState::Running => {
            let number = store::reuse::postpone(&mut *tx, id, token, holder.job_id, LOOK_AGAIN).await?;
            (number, Outcome::Released, Reuse::Waits(holder.job_id))
        }
        // it failed, was handed back, or is too old: this one takes its place
        _ => {
            store::reuse::replace(&mut *tx, tenant, fingerprint, id).await?;
            tx.commit().await?;
            return Ok(Reuse::Run);
        }
    };
    let Some(number) = number else { return Ok(Reuse::NotOurs) };
    store::attempt::end(&mut *tx, id, number, End { outcome: end, failure: None, stderr_tail: None }).await?;
    tx.commit().await?;
    Ok(reuse)
}

/// What the job looked at changed while it did: its result is its own, and nobody else's.
pub async fn keep_to_itself(db: &PgPool, job: JobId) -> Result<()> {
    store::reuse::delete(db, job).await
}

/// Wakes the jobs that waited for this one, after its end. Returns how many.
pub async fn wake(db: &PgPool, ended: JobId) -> Result<u64> {
    store::reuse::wake(db, ended).await
}
