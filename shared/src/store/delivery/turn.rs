//! Whose turn it is to be sent to: the walk over targets, the claim under a lease with a token, and what an end does to the
//! delivery and to its target. Called by `delivery` only. Instants are PostgreSQL's.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};

use crate::error::Result;
use crate::id::{DeliveryId, LeaseToken, TenantId, WebhookId};
use crate::store::webhook::Kind;

/// Most attempts that are remembered of one delivery; those before are forgotten.
const ATTEMPTS_KEPT: i32 = 30;

/// A target with something to send, seen on the walk.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Target {
    /// The target.
    pub id: WebhookId,
    /// Whether something is due and nothing speaks against it.
    pub ready: bool,
}

/// Walks over up to `limit` targets with waiting deliveries, those after `after`, in the order of their ids. Each costs one
/// look into an index, however much waits for it. Those of the tenants in `but` are not ready.
pub async fn walk(
    db: impl PgExecutor<'_>,
    after: Option<WebhookId>,
    but: &[TenantId],
    limit: i64,
) -> Result<Vec<Target>> {
    let but: Vec<_> = but.iter().map(|tenant| tenant.0).collect();
    // the earliest one in order, and not whether one exists: for that, PostgreSQL likes to read the whole table
    let sql = "with recursive step (id) as (
            (select webhook_id from delivery where state = 'pending' and ($1::uuid is null or webhook_id > $1)
                order by webhook_id limit 1)
            union all
            select (select d.webhook_id from delivery d where d.state = 'pending' and d.webhook_id > step.id
                order by d.webhook_id limit 1) from step where step.id is not null
        ), walked as (select id from step where id is not null limit $3)
        select w.id, w.disabled_at is null and w.deleted_at is null and w.tenant_id <> all($2)
                and coalesce(greatest(w.open_until, w.asked_until) <= statement_timestamp(), true)
                and coalesce((select d.next_at from delivery d where d.webhook_id = w.id and d.state = 'pending'
                    order by d.next_at limit 1) <= statement_timestamp(), false) as ready
            from walked join webhook w on w.id = walked.id order by w.id";
    Ok(sqlx::query_as(sql).bind(after).bind(but).bind(limit).fetch_all(db).await?)
}

/// Takes those of `targets` that nobody else is claiming for, until the transaction ends: so the claims for one target are
/// counted one after the other.
pub async fn lock(tx: &mut PgConnection, targets: &[WebhookId]) -> Result<Vec<WebhookId>> {
    let ids: Vec<_> = targets.iter().map(|target| target.0).collect();
    let sql = "select id from webhook where id = any($1) and disabled_at is null and deleted_at is null
            and coalesce(greatest(open_until, asked_until) <= clock_timestamp(), true)
            order by id for no key update skip locked";
    Ok(sqlx::query_scalar(sql).bind(ids).fetch_all(tx).await?)
}

/// A delivery that a deliverer holds, with what it needs to send it. URL and secrets are sealed.
#[derive(Debug, Clone, FromRow)]
pub struct Claimed {
    /// The delivery.
    pub id: DeliveryId,
    /// The fence of every later write.
    pub token: LeaseToken,
    /// The event.
    pub event_number: i64,
    /// Whom it is for.
    pub webhook: WebhookId,
    /// Whose it is.
    pub kind: Kind,
    /// Which address of it this is.
    pub generation: i32,
    /// The owner.
    pub tenant: TenantId,
    /// All attempts, this one included.
    pub attempts: i32,
    /// Attempts since it was last begun, this one included.
    pub tries: i16,
    /// The whole URL; none if the job that named it was erased.
    pub url: Option<Vec<u8>>,
    /// What a job wants to be given back.
    pub metadata: Option<Json<Value>>,
    /// All secrets that sign, the one in force first.
    pub secrets: Vec<Vec<u8>>,
}

/// How much may be claimed.
#[derive(Debug, Clone)]
pub struct Room {
    /// Deliveries in all.
    pub slots: i64,
    /// Most on their way for one tenant, of this deliverer.
    pub per_tenant: i64,
    /// How many of this deliverer are on their way, for each tenant that has some.
    pub running: Vec<(TenantId, i64)>,
    /// Most on their way to one target, over all deliverers. A target that failed last gets one at a time.
    pub per_target: i64,
    /// How long each is held.
    pub lease: Duration,
}

/// Claims due deliveries for targets that the transaction has locked: one for each before a second for any, and no more for a
/// tenant than it may have.
pub async fn claim(tx: &mut PgConnection, targets: &[WebhookId], room: &Room) -> Result<Vec<Claimed>> {
    let ids: Vec<_> = targets.iter().map(|target| target.0).collect();
    let (tenants, running): (Vec<_>, Vec<_>) = room.running.iter().map(|(tenant, count)| (tenant.0, *count)).unzip();
    // statement_timestamp, because an index is not searched for what changes while it is searched
    let sql = "with allowed as (
            select w.id, w.tenant_id, case when w.failures = 0 then $3 else 1 end - (select count(*) from delivery d
                where d.webhook_id = w.id and d.state = 'sending') as free from webhook w where w.id = any($1)
        ), due as (
            select due.*, allowed.tenant_id, row_number() over (partition by allowed.tenant_id
                order by due.place, due.next_at) as turn from allowed cross join lateral (
                select d.id, d.next_at, row_number() over (order by d.next_at) as place from (
                    select d.id, d.next_at from delivery d where d.webhook_id = allowed.id and d.state = 'pending'
                        and d.next_at <= statement_timestamp() order by d.next_at limit greatest(allowed.free, 0)) d
            ) due
        ), chosen as (
            select due.id from due left join unnest($7::uuid[], $8::bigint[]) busy (tenant, running)
                on busy.tenant = due.tenant_id where due.turn <= $9 - coalesce(busy.running, 0)
                order by due.place, due.next_at limit $2
        ), taken as (
            update delivery set state = 'sending', lease_token = $4, attempts = attempts + 1, tries = tries + 1,
                lease_until = clock_timestamp() + make_interval(secs => $5)
            from chosen where delivery.id = chosen.id and delivery.state = 'pending' returning delivery.*
        )
        select t.id, t.lease_token as token, t.event_number, t.webhook_id as webhook, w.kind, w.generation,
            w.tenant_id as tenant, t.attempts, t.tries, coalesce(w.sealed, j.sealed, b.webhook_sealed) as url,
            coalesce(j.metadata, b.webhook_metadata) as metadata,
            case w.kind when 'endpoint' then array(select s.sealed from webhook_secret s
                    where s.tenant_id = w.tenant_id and s.webhook_id = w.id
                        and (s.until is null or s.until > clock_timestamp()) order by s.number desc limit $6)
                else array(select s.sealed from webhook_secret s
                    where s.tenant_id = w.tenant_id and s.webhook_id is null
                        and (s.until is null or s.until > clock_timestamp()) order by s.number desc limit $6)
                end as secrets
        from taken t join webhook w on w.id = t.webhook_id join event e on e.number = t.event_number
            left join job_webhook j on w.kind = 'job' and j.job_id = e.job_id
            left join batch b on w.kind = 'job' and e.type = 'batch.completed' and b.id = (e.data -> 'batch' ->> 'id')::uuid";
    Ok(sqlx::query_as(sql)
        .bind(ids)
        .bind(room.slots)
        .bind(room.per_target)
        .bind(LeaseToken::new())
        .bind(room.lease.as_secs_f64())
        .bind(crate::webhook::SECRETS_MAX)
        .bind(tenants)
        .bind(running)
        .bind(room.per_tenant)
        .fetch_all(tx)
        .await?)
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct Attempted {
    /// What the endpoint answered.
    pub status: Option<i16>,
    /// Why it was no success.
    pub error: Option<String>,
    /// How long it took.
    pub latency: Duration,
    /// The beginning of the answer's body, without NUL.
    pub response: Option<String>,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The endpoint took it.
    Succeeded,
    /// It is tried again after so long.
    After(Duration),
    /// It was tried for the last time.
    Failed,
}

/// Ends an attempt, if it is still held with this token, and notes it. A success clears what is known against its target, which
/// is written to only if there is something; how long the target asked to be left alone stays. `false` if it is not held:
/// somebody else has it.
pub async fn end(db: impl PgExecutor<'_>, claimed: &Claimed, attempted: &Attempted, next: Next) -> Result<bool> {
    let (state, wait) = match next {
        Next::Succeeded => ("succeeded", Duration::ZERO),
        Next::After(wait) => ("pending", wait),
        Next::Failed => ("failed", Duration::ZERO),
    };
    let millis = i32::try_from(attempted.latency.as_millis()).unwrap_or(i32::MAX);
    // one statement, because most deliveries succeed, and each way to the database counts
    let sql = "with ended as (
            update delivery set state = $3, lease_token = null, lease_until = null, last_status = $4, last_error = $5,
                last_latency_ms = $6, next_at = clock_timestamp() + make_interval(secs => $7),
                ended_at = case when $3 = 'pending' then null else clock_timestamp() end
            where id = $1 and lease_token = $2 and state = 'sending' returning id, webhook_id, attempts
        ), cleared as (
            update webhook set failures = 0, failing_since = null, open_until = null from ended
            where webhook.id = ended.webhook_id and webhook.generation = $10 and $3 = 'succeeded'
                and (failures > 0 or failing_since is not null or open_until is not null)
        ), forgotten as (
            delete from delivery_attempt a using ended where a.delivery_id = ended.id and a.number <= ended.attempts - $9
        )
        insert into delivery_attempt (delivery_id, number, at, status, error, latency_ms, response)
        select id, attempts, clock_timestamp() - make_interval(secs => $6 / 1000.0), $4, $5, $6, $8 from ended
        on conflict on constraint delivery_attempt_pkey do nothing";
    let done = sqlx::query(sql)
        .bind(claimed.id)
        .bind(claimed.token)
        .bind(state)
        .bind(attempted.status)
        .bind(&attempted.error)
        .bind(millis)
        .bind(wait.as_secs_f64())
        .bind(&attempted.response)
        .bind(ATTEMPTS_KEPT)
        .bind(claimed.generation)
        .execute(db)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// What is known of a target after a failure.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Failing {
    /// Failures in a row.
    pub failures: i32,
    /// Since when it has been failing, in seconds.
    pub seconds: f64,
    /// Since when it gets nothing.
    pub disabled_at: Option<DateTime<Utc>>,
}

/// Counts a failure of a target, and locks it until the transaction ends. One after more than `quiet` without a failure is the
/// first of its row. `None` if the target has moved, or was enabled anew, since `generation`.
pub async fn count_failure(
    db: impl PgExecutor<'_>,
    target: WebhookId,
    generation: i32,
    quiet: Duration,
) -> Result<Option<Failing>> {
    let sql = "update webhook set failed_at = clock_timestamp(),
            failures = case when failed_at < clock_timestamp() - make_interval(secs => $3) then 1
                else least(failures, 1000000) + 1 end,
            failing_since = case when failed_at < clock_timestamp() - make_interval(secs => $3) then clock_timestamp()
                else coalesce(failing_since, clock_timestamp()) end
        where id = $1 and generation = $2 returning failures, disabled_at,
            extract(epoch from clock_timestamp() - failing_since)::float8 as seconds";
    Ok(sqlx::query_as(sql).bind(target).bind(generation).bind(quiet.as_secs_f64()).fetch_optional(db).await?)
}

/// Leaves a target alone: for so long because of its failures, and for as long as it has ever asked.
pub async fn pause(db: impl PgExecutor<'_>, target: WebhookId, own: Duration, asked: Duration) -> Result<()> {
    let sql = "update webhook set
            open_until = coalesce(clock_timestamp() + make_interval(secs => nullif($2, 0)), open_until),
            asked_until = greatest(asked_until, clock_timestamp() + make_interval(secs => nullif($3, 0)))
        where id = $1";
    sqlx::query(sql).bind(target).bind(own.as_secs_f64()).bind(asked.as_secs_f64()).execute(db).await?;
    Ok(())
}

/// Gives a delivery of which nothing was sent back, as if it had not been claimed: to be claimed again after `wait`, or
/// canceled if there is none. `false` if it is not held with this token.
pub async fn give_back(
    db: impl PgExecutor<'_>,
    id: DeliveryId,
    token: LeaseToken,
    reason: &str,
    wait: Option<Duration>,
) -> Result<bool> {
    let sql = "update delivery set state = case when $4::float8 is null then 'canceled' else 'pending' end,
            attempts = attempts - 1, tries = tries - 1, lease_token = null, lease_until = null,
            next_at = clock_timestamp() + make_interval(secs => coalesce($4, 0)),
            ended_at = case when $4 is null then clock_timestamp() end,
            last_error = $3, last_status = null, last_latency_ms = null
        where id = $1 and lease_token = $2 and state = 'sending'";
    let wait = wait.map(|wait| wait.as_secs_f64());
    Ok(sqlx::query(sql).bind(id).bind(token).bind(reason).bind(wait).execute(db).await?.rows_affected() > 0)
}

/// Takes up to `limit` deliveries from deliverers that fell silent, to be tried after the wait of their try, in seconds. One
/// that was tried more often than there are waits has failed: what kills deliverers must come to an end. Returns how many.
pub async fn rescue(db: impl PgExecutor<'_>, waits: &[i64], limit: i64) -> Result<u64> {
    let sql = "with lost as (
            select id from delivery where state = 'sending' and lease_until < statement_timestamp()
                order by lease_until limit $1 for update skip locked
        ), freed as (
            update delivery set state = case when tries <= cardinality($3) then 'pending' else 'failed' end,
                lease_token = null, lease_until = null, last_error = $2, last_status = null,
                next_at = clock_timestamp() + make_interval(secs => coalesce(($3::bigint[])[tries], 0)),
                ended_at = case when tries <= cardinality($3) then null else clock_timestamp() end
            from lost where delivery.id = lost.id returning delivery.id, delivery.attempts
        )
        insert into delivery_attempt (delivery_id, number, at, error) select id, attempts, clock_timestamp(), $2 from freed
        on conflict on constraint delivery_attempt_pkey do nothing";
    let error = "the deliverer fell silent; whether the endpoint got it is not known";
    Ok(sqlx::query(sql).bind(limit).bind(error).bind(waits).execute(db).await?.rows_affected())
}
