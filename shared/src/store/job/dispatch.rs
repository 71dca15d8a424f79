//! What the relay asks of the queue: which jobs are due, which tickets may be lost, how deep the backlog is.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, PgExecutor};

use crate::error::Result;
use crate::id::JobId;

/// The advisory lock that makes relays take turns. Any number; only this place uses it.
const RELAY_LOCK: i64 = 0x6666_7072_656c_6179;
/// Depths are counted up to here: nobody acts differently on a larger backlog, and counting it all would cost more.
pub const DEPTH_CAP: i64 = 10_001;

/// Takes the relay's turn until the transaction ends; `false` if another relay has it.
pub async fn try_relay_turn(db: &mut PgConnection) -> Result<bool> {
    Ok(sqlx::query_scalar("select pg_try_advisory_xact_lock($1)").bind(RELAY_LOCK).fetch_one(db).await?)
}

#[derive(FromRow)]
struct Due {
    id: JobId,
    place: i64,
}

/// Marks up to `limit` due jobs that have no ticket as dispatched and returns them in the order they shall run.
pub async fn mark_due(db: &mut PgConnection, limit: i64) -> Result<Vec<JobId>> {
    // one index range per priority, so that retries waiting for their time are never waded through
    let sql = "with due as (
            select d.id, row_number() over (order by p.priority, d.run_at, d.id) as place
            from (values (0), (1), (2)) as p (priority) cross join lateral (
                select id, run_at from job where state = 'queued' and priority = p.priority
                and run_at <= clock_timestamp() and dispatched_at is null order by run_at, id limit $1
            ) d order by place limit $1
        )
        update job j set dispatched_at = clock_timestamp() from due
        where j.id = due.id and j.state = 'queued' and j.dispatched_at is null returning j.id, due.place";
    let mut due: Vec<Due> = sqlx::query_as(sql).bind(limit).fetch_all(db).await?;
    due.sort_unstable_by_key(|d| d.place);
    Ok(due.into_iter().map(|d| d.id).collect())
}

/// Marks one job as dispatched: its ticket was sent by the process that accepted it.
pub async fn mark_sent(db: impl PgExecutor<'_>, id: JobId) -> Result<()> {
    let sql =
        "update job set dispatched_at = clock_timestamp() where id = $1 and state = 'queued' and dispatched_at is null";
    sqlx::query(sql).bind(id).execute(db).await?;
    Ok(())
}

/// Queued jobs whose ticket was sent longer than `age` ago, oldest first, at most `limit`.
pub async fn list_unclaimed(db: &mut PgConnection, age: Duration, limit: i64) -> Result<Vec<JobId>> {
    let sql =
        "select id from job where state = 'queued' and dispatched_at < clock_timestamp() - make_interval(secs => $1)
        order by dispatched_at limit $2";
    Ok(sqlx::query_scalar(sql).bind(age.as_secs_f64()).bind(limit).fetch_all(db).await?)
}

/// Forgets that these jobs were sent, so that they are sent again.
pub async fn unmark(db: impl PgExecutor<'_>, jobs: &[JobId]) -> Result<()> {
    let ids: Vec<uuid::Uuid> = jobs.iter().map(|j| j.0).collect();
    sqlx::query("update job set dispatched_at = null where id = any($1) and state = 'queued'")
        .bind(ids)
        .execute(db)
        .await?;
    Ok(())
}

/// How deep the backlog is.
#[derive(Debug, Clone, Copy, Default, PartialEq, FromRow)]
pub struct Depth {
    /// Queued jobs, counted up to [`DEPTH_CAP`].
    pub queued: i64,
    /// Running jobs, counted up to [`DEPTH_CAP`].
    pub running: i64,
    /// How long the longest-waiting due job has been due, in seconds; null without one.
    pub oldest_due_seconds: Option<f64>,
}

/// How deep the backlog is, in bounded time.
pub async fn depth(db: impl PgExecutor<'_>) -> Result<Depth> {
    let sql = "select (select count(*) from (select from job where state = 'queued' limit $1) q) as queued,
            (select count(*) from (select from job where state = 'running' limit $1) r) as running,
            (select extract(epoch from clock_timestamp() - min(o.run_at))::float8
                from (values (0), (1), (2)) as p (priority) cross join lateral (
                    select run_at from job where state = 'queued' and priority = p.priority and run_at <= clock_timestamp()
                    order by run_at limit 1
                ) o) as oldest_due_seconds";
    Ok(sqlx::query_as(sql).bind(DEPTH_CAP).fetch_one(db).await?)
}
