//! Events: published in order, read in order, forgotten. The rows are written by triggers with the change that they tell of
//! (`migrations/0012_event.sql`); here, only those that are about no job and no upload are.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};

use super::{job, unreadable};
use crate::error::Result;
use crate::event::{About, Event, EventJob, EventType};
use crate::id::{EventId, JobId, TenantId};
use crate::job::Job;

/// A row of `event` that has its place.
#[derive(Debug, FromRow)]
struct Row {
    id: EventId,
    tenant_id: TenantId,
    #[sqlx(rename = "type")]
    kind: EventType,
    job_id: Option<JobId>,
    data: Json<Value>,
    occurred_at: DateTime<Utc>,
    sequence: i64,
}

impl Row {
    fn about(self, job: Option<&Job>) -> Result<Event> {
        let bad = |e: serde_json::Error| unreadable("event", e);
        let data = match job {
            Some(job) => {
                let change = serde_json::from_value(self.data.0).map_err(bad)?;
                About::Job { job: Box::new(EventJob::new(job, change)) }
            }
            None => About::Other(serde_json::from_value(self.data.0).map_err(bad)?),
        };
        Ok(Event {
            id: self.id,
            tenant: self.tenant_id,
            kind: self.kind,
            timestamp: self.occurred_at,
            sequence: self.sequence,
            data,
        })
    }
}

/// Whose events are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Everybody's.
    All,
    /// One tenant's.
    Tenant(TenantId),
    /// One job's.
    Job(JobId),
}

/// Events that were read from a place on.
#[derive(Debug, Clone)]
pub struct Page {
    /// Those that are shown, in order. Not among them: those whose job was erased in this moment, and those that this build
    /// cannot read.
    pub events: Vec<Event>,
    /// How far was read. Who goes on behind it misses nothing.
    pub to: i64,
    /// Whether there may be more behind it.
    pub is_full: bool,
}

/// The events after the place `sequence`, in order, of some types, or of all if none is named; at most `limit` are read,
/// whatever their type, so that a look takes no longer where most are of others. One that cannot be read, because a newer build
/// wrote it, must not keep everybody from those behind it: the log tells of it, and it is left out.
pub async fn list_after(db: &mut PgConnection, of: Of, types: &[EventType], sequence: i64, limit: i64) -> Result<Page> {
    macro_rules! select {
        ($of:literal) => {
            concat!(
                "select id, tenant_id, type, job_id, data, occurred_at, sequence from event where ",
                $of,
                // during an update, a newer build may write types that this one does not know: not for its readers
                " sequence > $1 and type = any($3) order by sequence limit $2"
            )
        };
    }
    let query = match of {
        Of::All => sqlx::query_as(select!("")),
        Of::Tenant(_) => sqlx::query_as(select!("tenant_id = $4 and ")),
        Of::Job(_) => sqlx::query_as(select!("job_id = $4 and ")),
    };
    let query = query.bind(sequence).bind(limit).bind(EventType::ALL.map(EventType::as_str));
    let query = match of {
        Of::All => query,
        Of::Tenant(tenant) => query.bind(tenant),
        Of::Job(job) => query.bind(job),
    };
    let mut rows: Vec<Row> = query.fetch_all(&mut *db).await?;
    let to = rows.last().map_or(sequence, |last| last.sequence);
    let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    rows.retain(|row| types.is_empty() || types.contains(&row.kind));
    let (mut events, mut bad) = (Vec::with_capacity(rows.len()), Vec::new());
    for event in assemble(db, rows).await? {
        match event {
            Ok(event) => events.push(event),
            Err(error) => bad.push(error),
        }
    }
    if let Some(error) = bad.first() {
        tracing::warn!(%error, events = bad.len(), up_to = to, "events that this build cannot read are left out");
    }
    Ok(Page { events, to, is_full })
}

/// The published event with this number.
pub async fn find(db: &mut PgConnection, number: i64) -> Result<Option<Event>> {
    let sql = "select id, tenant_id, type, job_id, data, occurred_at, sequence from event
        where number = $1 and sequence is not null";
    let row: Option<Row> = sqlx::query_as(sql).bind(number).fetch_optional(&mut *db).await?;
    assemble(db, row.into_iter().collect()).await?.pop().transpose()
}

/// Puts what a job is beside what happened to it. An event whose job was erased in this moment is left out.
async fn assemble(db: &mut PgConnection, rows: Vec<Row>) -> Result<Vec<Result<Event>>> {
    let mut ids: Vec<JobId> = rows.iter().filter_map(|row| row.job_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let jobs = if ids.is_empty() { HashMap::new() } else { job::list_by_id(db, &ids).await? };
    let event = |row: Row| match row.job_id.map(|id| jobs.get(&id)) {
        None => Some(row.about(None)),
        Some(None) => None,
        Some(Some(Ok(job))) => Some(row.about(Some(job))),
        Some(Some(Err(error))) => Some(Err(unreadable("event", error))),
    };
    Ok(rows.into_iter().filter_map(event).collect())
}

/// The last place that was given.
pub async fn last_sequence(db: impl PgExecutor<'_>) -> Result<i64> {
    Ok(sqlx::query_scalar("select last from event_counter").fetch_one(db).await?)
}

/// Which events are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Known {
    /// The place before the oldest one: who has seen less has missed some.
    pub oldest: i64,
    /// The last place that was given.
    pub last: i64,
}

/// Which events are known.
pub async fn known(db: impl PgExecutor<'_>) -> Result<Known> {
    let sql =
        "select coalesce((select sequence from event where sequence is not null order by sequence limit 1) - 1, last)
            as oldest, last from event_counter";
    Ok(sqlx::query_as(sql).fetch_one(db).await?)
}

/// How far the events of a job are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Progress {
    /// The place of the last one that was published and is still known.
    pub last: Option<i64>,
    /// Whether the job has ended.
    pub ended: bool,
    /// Whether another one waits to be published.
    pub more: bool,
    /// Whether the first one is known, so that none was forgotten: that of a job which nobody has started.
    pub whole: bool,
}

/// How far the events of a job are, and the job with them.
pub async fn progress(db: impl PgExecutor<'_>, job: JobId) -> Result<Progress> {
    let sql = "select (select sequence from event where job_id = $1 and sequence is not null
                order by sequence desc limit 1) as last,
            exists (select from job where id = $1 and state in ('succeeded', 'failed', 'canceled')) as ended,
            exists (select from event where job_id = $1 and sequence is null) as more,
            coalesce((select type = 'job.queued' and (data ->> 'attempt')::int = 0 from event where job_id = $1
                order by number limit 1), false) as whole";
    Ok(sqlx::query_as(sql).bind(job).fetch_one(db).await?)
}

/// Takes the right to publish until the transaction ends. The last place that was given; `None` if somebody else has it.
pub async fn take_turn(tx: &mut PgConnection) -> Result<Option<i64>> {
    Ok(sqlx::query_scalar("select last from event_counter for update skip locked").fetch_optional(tx).await?)
}

/// Events that were given their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Numbered {
    /// The last place that was given.
    pub last: i64,
    /// Whether one of them is the end of a job.
    pub ends: bool,
}

/// Gives places after `last` to up to `limit` events, in the order they were written. The caller has the turn. Events that are
/// being erased with their job are passed over: they get a place in another round if they stay.
pub async fn number(tx: &mut PgConnection, last: i64, limit: i64) -> Result<Numbered> {
    let sql = "with fresh as (select number, row_number() over (order by number) as place from
            (select number from event where sequence is null order by number limit $2 for update skip locked) oldest),
        placed as (update event set sequence = $1 + fresh.place from fresh where event.number = fresh.number returning type),
        moved as (update event_counter set last = $1 + (select count(*) from fresh) where exists (select from fresh)
            returning last)
        select coalesce((select last from moved), $1) as last,
            coalesce(bool_or(type in ('job.succeeded', 'job.failed', 'job.canceled')), false) as ends
        from placed";
    Ok(sqlx::query_as(sql).bind(last).bind(limit).fetch_one(tx).await?)
}

/// Writes an event about something that has no trigger. `data` is an object with one member, named as the type begins.
pub async fn insert(db: impl PgExecutor<'_>, tenant: TenantId, kind: EventType, data: &Value) -> Result<EventId> {
    let sql = "insert into event (tenant_id, type, data) values ($1, $2, $3) returning id";
    Ok(sqlx::query_scalar(sql).bind(tenant).bind(kind).bind(Json(data)).fetch_one(db).await?)
}

/// Forgets up to `limit` of the oldest events, those older than `age`. Returns how many.
pub async fn prune(db: impl PgExecutor<'_>, age: Duration, limit: i64) -> Result<u64> {
    let sql = "delete from event where number in (select number from
            (select number, occurred_at from event order by number limit $2) oldest
            where occurred_at < clock_timestamp() - make_interval(secs => $1)) and sequence is not null";
    Ok(sqlx::query(sql).bind(age.as_secs_f64()).bind(limit).execute(db).await?.rows_affected())
}
