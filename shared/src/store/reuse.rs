//! Which job has, or is making, the result for the same bytes looked at in the same way. Called by `lifecycle` only, which
//! decides what that means for a job.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, PgExecutor};

use crate::error::Result;
use crate::id::{JobId, LeaseToken, TenantId};
use crate::job::{JobState, Priority};

/// What identifies a look at some bytes: SHA-256.
pub type Fingerprint = [u8; 32];

/// The job that answers for a fingerprint.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Holder {
    /// The job.
    pub job_id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// Whether it has a result that is young enough.
    pub fresh: bool,
}

/// Puts `job` down for a fingerprint of its tenant, unless another job is there. Returns the one that is, locked until the
/// transaction ends: whoever asks next waits for this answer.
pub async fn claim(
    db: &mut PgConnection,
    tenant: TenantId,
    fingerprint: &Fingerprint,
    job: JobId,
    max_age: Duration,
) -> Result<Holder> {
    let sql = "insert into reuse (tenant_id, fingerprint, job_id) values ($1, $2, $3) on conflict on constraint reuse_pkey do nothing";
    sqlx::query(sql).bind(tenant).bind(fingerprint.as_slice()).bind(job).execute(&mut *db).await?;
    let sql = "select r.job_id, j.state, exists (select from result where result.job_id = j.id
                and result.created_at > clock_timestamp() - make_interval(secs => $3)) as fresh
        from reuse r join job j on j.id = r.job_id where r.tenant_id = $1 and r.fingerprint = $2
        -- its end waits for this answer, so that its call to those who wait comes after
        for update of r for share of j";
    Ok(sqlx::query_as(sql).bind(tenant).bind(fingerprint.as_slice()).bind(max_age.as_secs_f64()).fetch_one(db).await?)
}

/// From now on `job` answers for the fingerprint.
pub async fn replace(db: impl PgExecutor<'_>, tenant: TenantId, fingerprint: &Fingerprint, job: JobId) -> Result<()> {
    let sql = "update reuse set job_id = $3 where tenant_id = $1 and fingerprint = $2";
    sqlx::query(sql).bind(tenant).bind(fingerprint.as_slice()).bind(job).execute(db).await?;
    Ok(())
}

/// Gives `job` a copy of the result of `from`, its series included. `media` and `ffprobe` hold the job's own name for the
/// file, the only part of a result that is not the bytes'.
pub async fn copy_result(
    db: &mut PgConnection,
    from: JobId,
    job: JobId,
    media: &serde_json::Value,
    ffprobe: &str,
) -> Result<()> {
    let sql =
        "insert into result (job_id, media, ffprobe, provenance, warnings, degraded, completeness, suspicious, packets,
            frames, reused_from)
        select $2, $3, $4, provenance, warnings, degraded, completeness, suspicious, packets, frames,
            coalesce(reused_from, job_id) from result where job_id = $1";
    sqlx::query(sql).bind(from).bind(job).bind(media).bind(ffprobe).execute(&mut *db).await?;
    let sql =
        "insert into series (job_id, stream_index, data) select $2, stream_index, data from series where job_id = $1";
    sqlx::query(sql).bind(from).bind(job).execute(db).await?;
    Ok(())
}

/// Takes a job off its fingerprint: what it looked at changed meanwhile.
pub async fn delete(db: impl PgExecutor<'_>, job: JobId) -> Result<()> {
    sqlx::query("delete from reuse where job_id = $1").bind(job).execute(db).await?;
    Ok(())
}

/// Hands a job back, uncharged, until `other` ends or `wait` is over. Returns the attempt's number.
pub async fn postpone(
    db: impl PgExecutor<'_>,
    job: JobId,
    token: LeaseToken,
    other: JobId,
    wait: Duration,
) -> Result<Option<i16>> {
    let sql = "update job set state = 'queued', waits_for = $3, run_at = clock_timestamp() + make_interval(secs => $4),
            rank_at = null, attempt = attempt - 1, dispatched_at = null, lease_token = null, lease_until = null, worker_id = null
        where id = $1 and lease_token = $2 and state = 'running' and not cancel_requested returning attempt + 1";
    let number: Option<i32> =
        sqlx::query_scalar(sql).bind(job).bind(token).bind(other).bind(wait.as_secs_f64()).fetch_optional(db).await?;
    Ok(number.and_then(|n| i16::try_from(n).ok()))
}

/// Wakes the jobs that wait for `ended`. Returns how many.
pub async fn wake(db: impl PgExecutor<'_>, ended: JobId) -> Result<u64> {
    let sql = "update job set waits_for = null, run_at = clock_timestamp(),
            rank_at = clock_timestamp() + priority * make_interval(secs => $2)
        where waits_for = $1 and state = 'queued'";
    Ok(sqlx::query(sql).bind(ended).bind(Priority::AGEING.as_secs_f64()).execute(db).await?.rows_affected())
}
