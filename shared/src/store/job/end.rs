//! The statements that end, revive or erase a job from outside: cancel, retry, delete, expire, prune. Every one names
//! the states it leaves. Called by `lifecycle` only.

use std::time::Duration;

use sqlx::types::Json;
use sqlx::{PgExecutor, Postgres, QueryBuilder};
use uuid::Uuid;

use super::Filter;
use crate::error::Result;
use crate::id::{JobId, TenantId, UploadId};
use crate::job::{Failure, FailureCode, Priority};

/// Ends a queued job as canceled. `false` if it is not queued.
pub async fn cancel_queued(db: impl PgExecutor<'_>, id: JobId, failure: &Failure) -> Result<bool> {
    let sql = "update job set state = 'canceled', finished_at = clock_timestamp(), failure = $2, dispatched_at = null
        where id = $1 and state = 'queued'";
    Ok(sqlx::query(sql).bind(id).bind(Json(failure)).execute(db).await?.rows_affected() == 1)
}

/// Asks the worker of a running job to stop. `false` if it does not run.
pub async fn request_cancel(db: impl PgExecutor<'_>, id: JobId) -> Result<bool> {
    let sql = "update job set cancel_requested = true where id = $1 and state = 'running'";
    Ok(sqlx::query(sql).bind(id).execute(db).await?.rows_affected() == 1)
}

/// Queues those of `jobs` again that failed or were canceled, and returns them. The attempts made so far stay in the
/// history; each job gets `attempts` more.
pub async fn revive(db: impl PgExecutor<'_>, jobs: &[JobId], attempts: i16) -> Result<Vec<JobId>> {
    let ids: Vec<Uuid> = jobs.iter().map(|j| j.0).collect();
    let sql = "update job set state = 'queued', failure = null, finished_at = null, progress = null,
            cancel_requested = false, expires_at = null, max_attempts = attempt + $2, dispatched_at = null,
            run_at = clock_timestamp(), rank_at = clock_timestamp() + priority * make_interval(secs => $3)
        where id = any($1) and state in ('failed', 'canceled') returning id";
    Ok(sqlx::query_scalar(sql).bind(ids).bind(attempts).bind(Priority::AGEING.as_secs_f64()).fetch_all(db).await?)
}

/// Up to `limit` failed jobs of the tenant, oldest first, of those that pass the filter (whose states do not count) and
/// failed with `code`, if one is given. They stay as they are until the transaction ends.
pub async fn list_failed(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    filter: &Filter,
    code: Option<FailureCode>,
    limit: i64,
) -> Result<Vec<JobId>> {
    let mut sql = QueryBuilder::<Postgres>::new("select id from job where state = 'failed' and tenant_id = ");
    sql.push_bind(tenant);
    super::push_filter(&mut sql, &Filter { states: Vec::new(), ..filter.clone() });
    if let Some(code) = code {
        sql.push(" and failure ->> 'code' = ").push_bind(code.as_str());
    }
    sql.push(" order by ")
        .push(super::created(filter))
        .push(", id limit ")
        .push_bind(limit)
        .push(" for update skip locked");
    Ok(sql.build_query_scalar().fetch_all(db).await?)
}

/// Erases a job that does not run, with its attempts and result. `false` if it runs or is gone.
pub async fn delete(db: impl PgExecutor<'_>, id: JobId) -> Result<bool> {
    let done = sqlx::query("delete from job where id = $1 and state <> 'running'").bind(id).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Ends up to `limit` queued jobs whose time is over, as canceled.
pub async fn expire(db: impl PgExecutor<'_>, failure: &Failure, limit: i64) -> Result<Vec<JobId>> {
    let sql = "update job set state = 'canceled', finished_at = clock_timestamp(), failure = $1, dispatched_at = null
        where id in (select id from job where state = 'queued' and expires_at <= clock_timestamp()
            order by expires_at limit $2 for update skip locked) and state = 'queued' returning id";
    Ok(sqlx::query_scalar(sql).bind(Json(failure)).bind(limit).fetch_all(db).await?)
}

/// Erases up to `limit` jobs that ended longer than `age` ago. Returns for each the upload it was about, if it was about
/// one; that may have other jobs.
pub async fn prune(db: impl PgExecutor<'_>, age: Duration, limit: i64) -> Result<Vec<Option<UploadId>>> {
    let sql = "delete from job where id in (
            select id from job where finished_at < clock_timestamp() - make_interval(secs => $1)
            order by finished_at limit $2 for update skip locked) returning upload_id";
    Ok(sqlx::query_scalar(sql).bind(age.as_secs_f64()).bind(limit).fetch_all(db).await?)
}
