//! What the relay asks of the queue: which jobs are due, which tickets may be lost, how deep the backlog is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgConnection, PgExecutor};
use utoipa::ToSchema;
use uuid::Uuid;

use super::lease::Claimant;
use crate::error::Result;
use crate::id::JobId;
use crate::job::{Lane, Priority};
use crate::store::worker::ALIVE_SECONDS;

/// Whether worker `w` lives and serves the lane of job `j` ($2: seconds since its last beat).
macro_rules! serves {
    () => {
        "w.beat_at > clock_timestamp() - make_interval(secs => $2) and not w.draining and j.lane = any(w.lanes)"
    };
}

/// Whether worker `w` can reach the bytes of job `j`.
macro_rules! reaches {
    () => {
        "(j.roots <@ w.media_roots and (j.upload_id is null or w.has_uploads)
            and (j.s3_profile is null or j.s3_profile = any(w.s3_profiles)))"
    };
}

/// The advisory lock that makes relays take turns. Any number; only this place uses it.
const RELAY_LOCK: i64 = 0x6666_7072_656c_6179;
/// Depths are counted up to here: nobody acts differently on a larger backlog, and counting it all would cost more.
pub const DEPTH_CAP: i64 = 10_001;

/// Takes the relay's turn until the transaction ends; `false` if another relay has it.
pub async fn try_relay_turn(db: &mut PgConnection) -> Result<bool> {
    Ok(sqlx::query_scalar("select pg_try_advisory_xact_lock($1)").bind(RELAY_LOCK).fetch_one(db).await?)
}

/// The first $2 due jobs of lane $1, in the order they run: whose tenant has least going on, then whose tenant waited
/// longest for a turn, then by rank; within a tenant by rank alone. `$which` narrows the jobs, `$taken` is what already
/// counts against a tenant's limit. A paused lane has none.
///
/// The tenants are found by leaping through the index: one probe for each, however many jobs wait.
macro_rules! in_turn {
    ($which:literal, $taken:literal) => {
        concat!(
            "with recursive waiting (tenant_id) as (
            -- ordered as the whole index, so that no other index can seem as good
            (select tenant_id from job where lane = $1 and state = 'queued' and rank_at is not null
                order by lane, tenant_id, rank_at, id limit 1)
            union all
            select (select j.tenant_id from job j where j.lane = $1 and j.state = 'queued' and j.rank_at is not null
                and j.tenant_id > w.tenant_id order by j.lane, j.tenant_id, j.rank_at, j.id limit 1)
                from waiting w where w.tenant_id is not null
        ), active as (
            -- a tenant's limit counts what it has running in both lanes, its turn only what goes on in this one
            select tenant_id, count(*) filter (where lane = $1) as jobs, count(*) filter (where state = 'running') as running,
                count(*) filter (where state = 'queued') as sent
            from (
                select tenant_id, lane, state from job where state = 'running'
                union all
                select tenant_id, lane, state from job where state = 'queued' and dispatched_at is not null and lane = $1
            ) a group by tenant_id
        ), candidate as (
            select coalesce(a.jobs, 0) as active, turn.served_at, j.id, j.rank_at,
                row_number() over (partition by w.tenant_id order by j.rank_at, j.id) as nth
            from waiting w join tenant t on t.id = w.tenant_id
            left join active a on a.tenant_id = w.tenant_id
            left join turn on turn.lane = $1 and turn.tenant_id = w.tenant_id
            cross join lateral (
                select id, rank_at from job where lane = $1 and tenant_id = w.tenant_id and state = 'queued'
                    and rank_at is not null and (expires_at is null or expires_at > clock_timestamp()) and ",
            $which,
            " order by rank_at, id limit case when t.max_running is null then $2
                    else greatest(least($2, t.max_running - coalesce(",
            $taken,
            ", 0)), 0) end
            ) j
            where not exists (select from lane where name = $1 and paused
                and (paused_until is null or paused_until > clock_timestamp()))
        )
        select id from candidate order by row_number() over (order by active + nth, served_at nulls first, rank_at, id) limit $2"
        )
    };
}

/// Marks up to `limit` due jobs of `lane` that have no ticket as dispatched and returns them in the order they shall
/// run. A paused lane has none; a tenant gets no more than it may have running.
pub async fn mark_due(db: &mut PgConnection, lane: Lane, limit: i64) -> Result<Vec<JobId>> {
    let sql = in_turn!("dispatched_at is null", "a.running + a.sent");
    let due: Vec<JobId> = sqlx::query_scalar(sql).bind(lane).bind(limit).fetch_all(&mut *db).await?;
    // a statement of its own: joined with the choice, whose size PostgreSQL cannot guess, it would read the whole table
    let ids: Vec<Uuid> = due.iter().map(|j| j.0).collect();
    let sql = "with marked as (
            update job set dispatched_at = clock_timestamp()
            where id = any($2) and state = 'queued' and dispatched_at is null returning id, tenant_id
        ), served as (
            insert into turn (lane, tenant_id, served_at) select $1, tenant_id, clock_timestamp() from marked group by tenant_id
            on conflict on constraint turn_pkey do update set served_at = excluded.served_at
        )
        select id from marked";
    let marked: Vec<JobId> = sqlx::query_scalar(sql).bind(lane).bind(ids).fetch_all(db).await?;
    // in the order of the choice; one that was canceled or claimed in between has dropped out
    Ok(due.into_iter().filter(|id| marked.contains(id)).collect())
}

/// Up to `limit` jobs of `lane` that this worker can reach and that have been due for `overdue`, ticket or not, in the
/// relay's order.
pub async fn list_overdue(
    db: impl PgExecutor<'_>,
    lane: Lane,
    by: &Claimant,
    overdue: Duration,
    limit: i64,
) -> Result<Vec<JobId>> {
    // tickets do not count against the limit: those of a dead relay or Redis are worth nothing
    let sql = in_turn!(
        "run_at < clock_timestamp() - make_interval(secs => $3) and roots <@ $4 and (upload_id is null or $5)
            and (s3_profile is null or s3_profile = any($6))",
        "a.running"
    );
    Ok(sqlx::query_scalar(sql)
        .bind(lane)
        .bind(limit)
        .bind(overdue.as_secs_f64())
        .bind(&by.media_roots)
        .bind(by.has_uploads)
        .bind(&by.s3_profiles)
        .fetch_all(db)
        .await?)
}

/// Gives a rank to jobs whose time has come, at most `limit`. Returns how many.
pub async fn promote(db: impl PgExecutor<'_>, limit: i64) -> Result<u64> {
    let sql = "update job set rank_at = run_at + priority * make_interval(secs => $1) where id in (
            select id from job where state = 'queued' and rank_at is null and run_at <= clock_timestamp()
            order by run_at limit $2 for update skip locked
        ) and state = 'queued'";
    Ok(sqlx::query(sql).bind(Priority::AGEING.as_secs_f64()).bind(limit).execute(db).await?.rows_affected())
}

/// Takes back a ticket that could not be served. A job that none of the live workers of its lane can reach at the
/// moment is put aside for `aside`, so that it is not in the way of others; without any worker it stays where it is.
pub async fn take_back(db: impl PgExecutor<'_>, id: JobId, aside: Duration) -> Result<()> {
    let sql = concat!(
        "with live as (
            select count(*) > 0 and not bool_or(",
        reaches!(),
        ") as out_of_reach from job j join worker w on ",
        serves!(),
        " where j.id = $1
        )
        update job set dispatched_at = null,
            rank_at = case when live.out_of_reach then null else rank_at end,
            run_at = case when live.out_of_reach then greatest(run_at, clock_timestamp() + make_interval(secs => $3)) else run_at end
        from live where id = $1 and state = 'queued'"
    );
    sqlx::query(sql).bind(id).bind(ALIVE_SECONDS).bind(aside.as_secs_f64()).execute(db).await?;
    Ok(())
}

/// Marks one new job as dispatched, so that its ticket can be sent past the relay: only while no other job of its lane
/// waits for a ticket and the lane is not paused, or it would jump the queue. `false`: leave it to the relay.
pub async fn mark_sent(db: impl PgExecutor<'_>, id: JobId) -> Result<bool> {
    let sql = "update job set dispatched_at = clock_timestamp()
        where id = $1 and state = 'queued' and dispatched_at is null
            and not exists (select from job o where o.lane = job.lane and o.state = 'queued' and o.rank_at is not null
                and o.dispatched_at is null and o.id <> job.id)
            and not exists (select from lane where name = job.lane and paused)";
    Ok(sqlx::query(sql).bind(id).execute(db).await?.rows_affected() == 1)
}

/// Queued jobs of a lane whose ticket was sent longer than `age` ago, oldest first, at most `limit`.
pub async fn list_unclaimed(db: impl PgExecutor<'_>, lane: Lane, age: Duration, limit: i64) -> Result<Vec<JobId>> {
    let sql =
        "select id from job where state = 'queued' and lane = $3 and dispatched_at < clock_timestamp() - make_interval(secs => $1)
        order by dispatched_at limit $2";
    Ok(sqlx::query_scalar(sql).bind(age.as_secs_f64()).bind(limit).bind(lane).fetch_all(db).await?)
}

/// Forgets that these jobs were sent, so that they are sent again.
pub async fn unmark(db: impl PgExecutor<'_>, jobs: &[JobId]) -> Result<()> {
    let ids: Vec<Uuid> = jobs.iter().map(|j| j.0).collect();
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
    // ranked and unranked apart: each has an index of its own, the two together have none
    let sql = "select least($1, (select count(*) from (select from job where state = 'queued' and rank_at is not null limit $1) q)
                + (select count(*) from (select from job where state = 'queued' and rank_at is null limit $1) l)) as queued,
            (select count(*) from (select from job where state = 'running' limit $1) r) as running,
            (select extract(epoch from clock_timestamp() - run_at)::float8 from job
                where state = 'queued' and rank_at is not null order by run_at limit 1) as oldest_due_seconds";
    Ok(sqlx::query_as(sql).bind(DEPTH_CAP).fetch_one(db).await?)
}

/// What a queued job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum WaitingFor {
    /// The lane is paused.
    Paused,
    /// No live worker serves the lane.
    NoWorker,
    /// No live worker can reach the bytes.
    NoMount,
    /// Its next attempt is due later.
    Retry,
    /// The tenant has as many jobs running as it may have.
    TenantLimit,
    /// A free slot.
    Slot,
}

/// Where a queued job stands in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Place {
    /// Its place among the tenant's due jobs of its lane, from 1, counted up to [`DEPTH_CAP`]; null before it is due.
    pub position: Option<i64>,
    /// What it waits for.
    pub waiting_for: WaitingFor,
}

/// Where a queued job stands; `None` if it is not queued.
pub async fn place(db: impl PgExecutor<'_>, id: JobId) -> Result<Option<Place>> {
    let sql = concat!(
        "select case when j.rank_at is not null then 1 + (select count(*) from (
                select from job ahead where ahead.lane = j.lane and ahead.tenant_id = j.tenant_id and ahead.state = 'queued'
                and ahead.rank_at is not null and (ahead.rank_at, ahead.id) < (j.rank_at, j.id) limit $3) a) end as position,
            case
                when l.paused and (l.paused_until is null or l.paused_until > clock_timestamp()) then 'paused'
                when not exists (select from worker w where ",
        serves!(),
        ") then 'no_worker'
                when not exists (select from worker w where ",
        serves!(),
        " and ",
        reaches!(),
        ") then 'no_mount'
                when j.run_at > clock_timestamp() then 'retry'
                when t.max_running is not null and t.max_running <= (select count(*) from (
                    select from job r where r.tenant_id = j.tenant_id and r.state = 'running' limit t.max_running) r)
                    then 'tenant_limit'
                else 'slot'
            end as waiting_for
        from job j join lane l on l.name = j.lane join tenant t on t.id = j.tenant_id
        where j.id = $1 and j.state = 'queued'"
    );
    Ok(sqlx::query_as(sql).bind(id).bind(ALIVE_SECONDS).bind(DEPTH_CAP).fetch_optional(db).await?)
}
