//! The statements of a lease: claim, beat, succeed, fail, release, rescue. Every one names the states it leaves and,
//! once a job runs, the token: a worker that lost its lease changes nothing. Called by `lifecycle` only.

use std::time::Duration;

use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};

use super::Row;
use crate::error::Result;
use crate::id::{JobId, LeaseToken, TenantId, WorkerId};
use crate::job::{Claim, Failure, Job, JobState, Progress};

/// Who claims, and what it can reach.
#[derive(Debug, Clone)]
pub struct Claimant {
    /// This run of the process.
    pub id: WorkerId,
    /// Host and process id.
    pub name: String,
    /// Media roots it has mounted.
    pub media_roots: Vec<String>,
    /// Whether it sees the upload volume.
    pub has_uploads: bool,
    /// S3 profiles it was given.
    pub s3_profiles: Vec<String>,
    /// How long it holds a job without a sign of life.
    pub lease: Duration,
}

#[derive(FromRow)]
struct Claimed {
    #[sqlx(flatten)]
    row: Row,
    upload_name: Option<String>,
    upload_sha256: Option<Vec<u8>>,
    sealed: Option<Vec<u8>>,
}

/// One statement takes the job, counts the attempt and writes its row. Whatever forbids a start is looked at here, at
/// the last moment, on every path: the time, the expiry, the pause of the lane, and what the worker can reach.
macro_rules! claim {
    ($limit:literal) => {
        concat!(
            "with taken as (
                update job set state = 'running', attempt = attempt + 1, started_at = clock_timestamp(), progress = null,
                    lease_token = $5, lease_until = clock_timestamp() + make_interval(secs => $6), worker_id = $1
                where id = $7 and state = 'queued' and run_at <= clock_timestamp()
                    and (expires_at is null or expires_at > clock_timestamp())
                    and roots <@ $3 and (upload_id is null or $4) and (s3_profile is null or s3_profile = any($8))
                    and not exists (select from lane where lane.name = job.lane and lane.paused
                        and (lane.paused_until is null or lane.paused_until > clock_timestamp()))
                    and ",
            $limit,
            " returning *
            ), noted as (
                -- an attempt that was handed back uncharged is begun anew under its number
                insert into attempt (job_id, number, worker_id, worker_name) select id, attempt, $1, $2 from taken
                on conflict on constraint attempt_pkey do update set worker_id = excluded.worker_id,
                    worker_name = excluded.worker_name, started_at = clock_timestamp(), ended_at = null, outcome = null,
                    failure = null, stderr_tail = null
            )
            select ",
            columns!(),
            ", (select filename from upload where upload.id = taken.upload_id) as upload_name,
                (select sha256 from upload where upload.id = taken.upload_id) as upload_sha256, sealed from taken"
        )
    };
}

/// Claims this job, if it is still to be had and its tenant has no limit of its own.
pub async fn claim(db: impl PgExecutor<'_>, id: JobId, by: &Claimant) -> Result<Option<Claim>> {
    let sql = claim!("(select max_running from tenant where tenant.id = job.tenant_id) is null");
    take(db, sql, id, by).await
}

/// Claims this job of a tenant with a limit. The tenant's row is locked first, so that two workers that claim at once
/// are counted one after the other; nothing else waits for that lock.
pub async fn claim_limited(db: &mut PgConnection, id: JobId, by: &Claimant) -> Result<Option<Claim>> {
    let sql = "select t.id, t.max_running from job j join tenant t on t.id = j.tenant_id
        where j.id = $1 and j.state = 'queued' and t.max_running is not null for no key update of t";
    let limited: Option<(TenantId, i32)> = sqlx::query_as(sql).bind(id).fetch_optional(&mut *db).await?;
    let Some((tenant, max_running)) = limited else { return Ok(None) };
    let sql = "select count(*) from (select from job where tenant_id = $1 and state = 'running' limit $2) r";
    let running: i64 = sqlx::query_scalar(sql).bind(tenant).bind(i64::from(max_running)).fetch_one(&mut *db).await?;
    if running >= i64::from(max_running) {
        return Ok(None);
    }
    take(db, claim!("true"), id, by).await
}

async fn take(db: impl PgExecutor<'_>, sql: &'static str, id: JobId, by: &Claimant) -> Result<Option<Claim>> {
    let token = LeaseToken::new();
    let taken: Option<Claimed> = sqlx::query_as(sql)
        .bind(by.id)
        .bind(&by.name)
        .bind(&by.media_roots)
        .bind(by.has_uploads)
        .bind(token)
        .bind(by.lease.as_secs_f64())
        .bind(id)
        .bind(&by.s3_profiles)
        .fetch_optional(db)
        .await?;
    let Some(taken) = taken else { return Ok(None) };
    let Claimed { row, upload_name, upload_sha256, sealed } = taken;
    Ok(Some(Claim { job: Job::try_from(row)?, token, lease: by.lease, upload_name, upload_sha256, sealed }))
}

/// Renews the lease. `None`: it is no longer ours. `Some(true)`: somebody wants the job canceled.
pub async fn beat(
    db: impl PgExecutor<'_>,
    id: JobId,
    token: LeaseToken,
    lease: Duration,
    progress: Option<&Progress>,
) -> Result<Option<bool>> {
    let sql =
        "update job set lease_until = clock_timestamp() + make_interval(secs => $3), progress = coalesce($4, progress)
        where id = $1 and lease_token = $2 and state = 'running' returning cancel_requested";
    let wanted = sqlx::query_scalar(sql)
        .bind(id)
        .bind(token)
        .bind(lease.as_secs_f64())
        .bind(progress.map(Json))
        .fetch_optional(db)
        .await?;
    Ok(wanted)
}

/// Ends the job well. Returns the attempt's number, or `None` if the lease is no longer ours.
pub async fn succeed(db: impl PgExecutor<'_>, id: JobId, token: LeaseToken) -> Result<Option<i16>> {
    let sql = "update job set state = 'succeeded', finished_at = clock_timestamp(), failure = null,
            lease_token = null, lease_until = null, worker_id = null
        where id = $1 and lease_token = $2 and state = 'running' returning attempt";
    Ok(sqlx::query_scalar(sql).bind(id).bind(token).fetch_optional(db).await?)
}

/// Ends the job without a result, as `failed` or `canceled`. Returns the attempt's number.
pub async fn fail(
    db: impl PgExecutor<'_>,
    id: JobId,
    token: LeaseToken,
    state: JobState,
    failure: &Failure,
) -> Result<Option<i16>> {
    let sql = "update job set state = $3, finished_at = clock_timestamp(), failure = $4,
            lease_token = null, lease_until = null, worker_id = null
        where id = $1 and lease_token = $2 and state = 'running' returning attempt";
    Ok(sqlx::query_scalar(sql).bind(id).bind(token).bind(state).bind(Json(failure)).fetch_optional(db).await?)
}

/// Queues the job again, due after `wait`, or ends it if somebody wanted it canceled meanwhile. Returns the attempt's
/// number.
pub async fn requeue(
    db: impl PgExecutor<'_>,
    id: JobId,
    token: LeaseToken,
    wait: Duration,
    failure: &Failure,
    canceled: &Failure,
) -> Result<Option<i16>> {
    let sql = "update job set state = case when cancel_requested then 'canceled' else 'queued' end,
            finished_at = case when cancel_requested then clock_timestamp() end,
            failure = case when cancel_requested then $5 else $4 end,
            run_at = clock_timestamp() + make_interval(secs => $3), rank_at = null,
            dispatched_at = null, lease_token = null, lease_until = null, worker_id = null
        where id = $1 and lease_token = $2 and state = 'running' returning attempt";
    Ok(sqlx::query_scalar(sql)
        .bind(id)
        .bind(token)
        .bind(wait.as_secs_f64())
        .bind(Json(failure))
        .bind(Json(canceled))
        .fetch_optional(db)
        .await?)
}

/// Hands the job back as if it had not been started, uncharged, or ends it if somebody wanted it canceled meanwhile.
/// Returns the attempt's number.
pub async fn release(db: impl PgExecutor<'_>, id: JobId, token: LeaseToken, canceled: &Failure) -> Result<Option<i16>> {
    let sql = "update job set state = case when cancel_requested then 'canceled' else 'queued' end,
            finished_at = case when cancel_requested then clock_timestamp() end,
            failure = case when cancel_requested then $3 else failure end,
            attempt = attempt - 1, dispatched_at = null, lease_token = null, lease_until = null, worker_id = null
        where id = $1 and lease_token = $2 and state = 'running' returning attempt + 1";
    // PostgreSQL widens smallint + integer
    let number: Option<i32> =
        sqlx::query_scalar(sql).bind(id).bind(token).bind(Json(canceled)).fetch_optional(db).await?;
    Ok(number.and_then(|n| i16::try_from(n).ok()))
}

/// A job taken from a worker that fell silent.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Rescued {
    /// The job.
    pub id: JobId,
    /// Where it stands now: queued again, failed for want of attempts, or canceled as was wished.
    pub state: JobState,
}

/// Takes up to `limit` jobs whose lease ran out from their workers. `lost` is the failure of the attempt, `canceled` that
/// of a job somebody wanted canceled.
pub async fn rescue(db: impl PgExecutor<'_>, lost: &Failure, canceled: &Failure, limit: i64) -> Result<Vec<Rescued>> {
    let sql = "with expired as (
            select id, attempt, case when cancel_requested then 'canceled' when attempt >= max_attempts then 'failed' else 'queued' end as next
            from job where state = 'running' and lease_until < clock_timestamp()
            order by lease_until limit $2 for update skip locked
        ), closed as (
            update attempt a set ended_at = clock_timestamp(), outcome = 'lost', failure = $1
            from expired e where a.job_id = e.id and a.number = e.attempt and a.ended_at is null
        )
        update job j set state = e.next, failure = case e.next when 'canceled' then $3 else $1 end, dispatched_at = null,
            finished_at = case when e.next = 'queued' then null else clock_timestamp() end,
            lease_token = null, lease_until = null, worker_id = null
        from expired e where j.id = e.id returning j.id, j.state";
    Ok(sqlx::query_as(sql).bind(Json(lost)).bind(limit).bind(Json(canceled)).fetch_all(db).await?)
}
