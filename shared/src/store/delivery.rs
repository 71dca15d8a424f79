//! Deliveries: made for events that are published, lists, and what is asked of them by hand. How they are claimed and what
//! their end does to their target lies in `turn`. Called by `lifecycle::publish`, `delivery` and the API.

/// The columns of a [`Delivery`], in its order, of a row `d` of `delivery` and a row `e` of `event`.
macro_rules! columns {
    () => {
        "d.id, d.webhook_id as webhook, e.id as event_id, e.type as event_type, e.sequence, e.occurred_at, e.job_id as job,
         d.state, d.attempts, case when d.state = 'pending' then d.next_at end as next_at, d.last_status, d.last_error,
         d.last_latency_ms, d.created_at, d.ended_at"
    };
}

pub mod turn;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgExecutor};

use super::access::key::After;
use crate::error::Result;
use crate::event::EventType;
use crate::id::{DeliveryId, EventId, JobId, TenantId, WebhookId};
use crate::webhook::DeliveryState;

/// A delivery as stored, with what it tells of.
#[derive(Debug, Clone, FromRow)]
pub struct Delivery {
    /// The delivery.
    pub id: DeliveryId,
    /// Whom it is for.
    pub webhook: WebhookId,
    /// The event, as receivers know it.
    pub event_id: EventId,
    /// What happened.
    pub event_type: EventType,
    /// The event's place in the order.
    pub sequence: Option<i64>,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// The job it is about.
    pub job: Option<JobId>,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i32,
    /// When it is tried next, if it is.
    pub next_at: Option<DateTime<Utc>>,
    /// What the endpoint answered last.
    pub last_status: Option<i16>,
    /// Why the latest attempt was no success.
    pub last_error: Option<String>,
    /// How long the latest attempt took.
    pub last_latency_ms: Option<i32>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

/// One attempt of a delivery.
#[derive(Debug, Clone, FromRow)]
pub struct Attempt {
    /// Which one, from 1.
    pub number: i32,
    /// When it began.
    pub at: DateTime<Utc>,
    /// What the endpoint answered.
    pub status: Option<i16>,
    /// Why it was no success.
    pub error: Option<String>,
    /// How long it took.
    pub latency_ms: Option<i32>,
    /// The beginning of the answer's body.
    pub response: Option<String>,
}

/// Makes a delivery of each event between the places `after` (left out) and `last` for everybody who wants it. Returns how
/// many. For the transaction that publishes them.
pub async fn insert_for(tx: &mut PgConnection, after: i64, last: i64) -> Result<u64> {
    let sql = "insert into delivery (event_number, webhook_id)
        select e.number, w.id from event e join webhook w on w.tenant_id = e.tenant_id and w.kind = 'endpoint'
            and w.deleted_at is null and w.disabled_at is null
            where e.sequence > $1 and e.sequence <= $2 and case e.type
                when 'ping' then w.id::text = e.data -> 'ping' ->> 'webhook_id'
                else e.type = any(w.events) end
        union all
        select e.number, j.webhook_id from event e join job_webhook j on j.job_id = e.job_id
            where e.sequence > $1 and e.sequence <= $2 and e.type in ('job.succeeded', 'job.failed', 'job.canceled')
        union all
        select e.number, b.webhook_id from event e join batch b on b.id = (e.data -> 'batch' ->> 'id')::uuid
            where e.sequence > $1 and e.sequence <= $2 and e.type = 'batch.completed' and b.webhook_id is not null
        on conflict on constraint delivery_once do nothing";
    Ok(sqlx::query(sql).bind(after).bind(last).execute(tx).await?.rows_affected())
}

/// The delivery of the tenant's webhook with this id.
pub async fn find(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    webhook: WebhookId,
    id: DeliveryId,
) -> Result<Option<Delivery>> {
    let sql = concat!(
        "select ",
        columns!(),
        " from delivery d join event e on e.number = d.event_number
            where d.id = $3 and d.webhook_id = $2 and e.tenant_id = $1"
    );
    Ok(sqlx::query_as(sql).bind(tenant).bind(webhook).bind(id).fetch_optional(db).await?)
}

/// Deliveries to a webhook from there on, the newest first.
pub async fn list(
    db: impl PgExecutor<'_>,
    webhook: WebhookId,
    state: Option<DeliveryState>,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<Delivery>> {
    macro_rules! select {
        ($state:literal) => {
            concat!(
                "select ",
                columns!(),
                " from delivery d join event e on e.number = d.event_number where d.webhook_id = $1 and ",
                $state,
                " and ($3::timestamptz is null or (d.created_at, d.id) < ($3, $4))
                    order by d.created_at desc, d.id desc limit $5"
            )
        };
    }
    // equality, so that the index by state gives the order too
    let sql = if state.is_some() { select!("d.state = $2") } else { select!("$2::text is null") };
    Ok(sqlx::query_as(sql)
        .bind(webhook)
        .bind(state)
        .bind(after.map(|a| a.created_at))
        .bind(after.map(|a| a.id))
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// The attempts of a delivery that are still known, the first of them first.
pub async fn list_attempts(db: impl PgExecutor<'_>, delivery: DeliveryId) -> Result<Vec<Attempt>> {
    let sql = "select number, at, status, error, latency_ms, response from delivery_attempt where delivery_id = $1
        order by number";
    Ok(sqlx::query_as(sql).bind(delivery).fetch_all(db).await?)
}

/// Begins a delivery anew, whatever became of it. One that is on its way is left alone.
pub async fn revive(db: impl PgExecutor<'_>, id: DeliveryId) -> Result<()> {
    let sql = "update delivery set state = 'pending', tries = 0, next_at = clock_timestamp(), ended_at = null
        where id = $1 and state <> 'sending'";
    sqlx::query(sql).bind(id).execute(db).await?;
    Ok(())
}

/// A range of time whose events are sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Events of this instant or later.
    pub since: DateTime<Utc>,
    /// Events before this instant; until now if none.
    pub until: Option<DateTime<Utc>>,
}

/// What became of a wish to send a range once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Replayed {
    /// How many events are sent again.
    pub events: i64,
    /// Where to go on, if there may be more.
    pub more_since: Option<DateTime<Utc>>,
}

/// Begins the deliveries of up to `limit` events of the range anew, the oldest first, and makes those that never were. What
/// is waiting or on its way stays as it is. Looks at twice as many events at most, wanted or not, so that a range full of
/// others takes no longer. Events of the instant at which either cuts are all taken.
pub async fn replay(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    webhook: WebhookId,
    range: Range,
    limit: i64,
) -> Result<Replayed> {
    let sql = "with seen as materialized (
            select number, type, occurred_at, sequence from event where tenant_id = $1 and occurred_at >= $3
                and occurred_at < coalesce($4, statement_timestamp())
                order by occurred_at fetch first (2 * $5::bigint) rows with ties
        ), wanted as (
            select e.number, e.occurred_at from seen e, webhook w
                where w.id = $2 and e.sequence is not null and e.type = any(w.events)
                order by e.occurred_at fetch first ($5) rows with ties
        ), begun as (
            insert into delivery (event_number, webhook_id) select number, $2 from wanted
            on conflict on constraint delivery_once do update
                set state = 'pending', tries = 0, next_at = clock_timestamp(), ended_at = null
                where delivery.state in ('succeeded', 'failed', 'canceled')
            returning 1
        )
        select (select count(*) from begun) as events,
            coalesce((select max(occurred_at) from wanted having count(*) >= $5),
                (select max(occurred_at) from seen having count(*) >= 2 * $5::bigint)) + interval '1 microsecond' as more_since";
    Ok(sqlx::query_as(sql)
        .bind(tenant)
        .bind(webhook)
        .bind(range.since)
        .bind(range.until)
        .bind(limit)
        .fetch_one(db)
        .await?)
}

/// Ends up to `limit` deliveries that wait for webhooks that were disabled. Returns how many.
pub async fn cancel_idle(db: impl PgExecutor<'_>, limit: i64) -> Result<u64> {
    let sql = "update delivery set state = 'canceled', ended_at = clock_timestamp() where state = 'pending' and id in (
            select d.id from webhook w cross join lateral
                (select id from delivery where webhook_id = w.id and state = 'pending' order by next_at limit $1) d
            where w.disabled_at is not null limit $1)";
    Ok(sqlx::query(sql).bind(limit).execute(db).await?.rows_affected())
}

/// How many wait, counted up to `most`.
pub async fn count_pending(db: impl PgExecutor<'_>, most: i64) -> Result<i64> {
    let sql = "select count(*) from (select from delivery where state = 'pending' order by webhook_id limit $1) d";
    Ok(sqlx::query_scalar(sql).bind(most).fetch_one(db).await?)
}

/// Forgets up to `limit` deliveries of the oldest events, those older than `age`. Returns how many. The events themselves go
/// afterwards: a thousand of them would take too many deliveries along at once.
pub async fn prune(db: impl PgExecutor<'_>, age: Duration, limit: i64) -> Result<u64> {
    let sql = "delete from delivery where id in (select d.id from
            (select id, event_number from delivery order by event_number limit $2) d
            join event e on e.number = d.event_number where e.occurred_at < clock_timestamp() - make_interval(secs => $1))";
    Ok(sqlx::query(sql).bind(age.as_secs_f64()).bind(limit).execute(db).await?.rows_affected())
}
