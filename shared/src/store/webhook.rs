//! Webhooks as they are managed, their secrets, and the targets that single jobs name. Called by `delivery`, which decides,
//! and by the API for lists. URLs and secrets come in and go out sealed. What is sent to them lies in `store::delivery`.

pub mod seal;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};

use super::access::key::After;
use crate::error::Result;
use crate::event::EventType;
use crate::id::{JobId, TenantId, WebhookId};
use crate::webhook::{DisabledReason, SECRETS_MAX};

/// The columns of a [`Webhook`], in its order.
macro_rules! columns {
    () => {
        "id, tenant_id as tenant, kind, url, description, events, disabled_at, disabled_reason, failing_since, failures,
         created_at, updated_at"
    };
}

/// Who wants to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Kind {
    /// An endpoint that a client made.
    Endpoint,
    /// The origin that single jobs name.
    Job,
}

/// A webhook as stored, without its whole URL and its secrets.
#[derive(Debug, Clone, FromRow)]
pub struct Webhook {
    /// The webhook.
    pub id: WebhookId,
    /// The owner.
    pub tenant: TenantId,
    /// Whose it is.
    pub kind: Kind,
    /// As it is shown: without user, password and query.
    pub url: String,
    /// Words for people.
    pub description: Option<String>,
    /// What it is told of.
    pub events: Vec<EventType>,
    /// Since when it gets nothing.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Why.
    pub disabled_reason: Option<DisabledReason>,
    /// The first failure since something succeeded.
    pub failing_since: Option<DateTime<Utc>>,
    /// Failures since something succeeded.
    pub failures: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When somebody changed it.
    pub updated_at: DateTime<Utc>,
}

/// Where it is, to be stored.
#[derive(Debug, Clone)]
pub struct Address {
    /// As it is shown.
    pub shown: String,
    /// The whole URL, sealed.
    pub sealed: Vec<u8>,
}

/// A webhook about to be stored.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// The owner.
    pub tenant: TenantId,
    /// Where it is.
    pub address: Address,
    /// Words for people.
    pub description: Option<String>,
    /// What it is told of.
    pub events: Vec<EventType>,
}

/// What changes of a webhook; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Where it is.
    pub address: Option<Address>,
    /// Words for people, or none any more.
    pub description: Option<Option<String>>,
    /// What it is told of.
    pub events: Option<Vec<EventType>>,
    /// Whether it is told of anything.
    pub enabled: Option<bool>,
}

fn words(events: &[EventType]) -> Vec<&'static str> {
    events.iter().map(|event| event.as_str()).collect()
}

/// Stores a new endpoint under `id`.
pub async fn insert(db: impl PgExecutor<'_>, id: WebhookId, new: &NewWebhook) -> Result<Webhook> {
    let sql = concat!(
        "insert into webhook (id, tenant_id, kind, url, sealed, description, events)
            values ($1, $2, 'endpoint', $3, $4, $5, $6) returning ",
        columns!()
    );
    Ok(sqlx::query_as(sql)
        .bind(id)
        .bind(new.tenant)
        .bind(&new.address.shown)
        .bind(&new.address.sealed)
        .bind(&new.description)
        .bind(words(&new.events))
        .fetch_one(db)
        .await?)
}

/// The tenant's webhook with this id, also the target of its jobs.
pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, id: WebhookId) -> Result<Option<Webhook>> {
    let sql = concat!("select ", columns!(), " from webhook where id = $2 and tenant_id = $1 and deleted_at is null");
    Ok(sqlx::query_as(sql).bind(tenant).bind(id).fetch_optional(db).await?)
}

/// The tenant's endpoint with this id; nobody else changes it until the transaction ends.
pub async fn find_for_update(db: impl PgExecutor<'_>, tenant: TenantId, id: WebhookId) -> Result<Option<Webhook>> {
    let sql = concat!(
        "select ",
        columns!(),
        " from webhook where id = $2 and tenant_id = $1 and kind = 'endpoint' and deleted_at is null for no key update"
    );
    Ok(sqlx::query_as(sql).bind(tenant).bind(id).fetch_optional(db).await?)
}

/// The tenant's webhooks of a kind from there on, the newest first.
pub async fn list(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    kind: Kind,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<Webhook>> {
    let sql = concat!(
        "select ",
        columns!(),
        " from webhook where tenant_id = $1 and kind = $2 and deleted_at is null
            and ($3::timestamptz is null or (created_at, id) < ($3, $4))
            order by created_at desc, id desc limit $5"
    );
    Ok(sqlx::query_as(sql)
        .bind(tenant)
        .bind(kind)
        .bind(after.map(|a| a.created_at))
        .bind(after.map(|a| a.id))
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// How many endpoints the tenant has, counted up to `most`.
pub async fn count(db: impl PgExecutor<'_>, tenant: TenantId, most: i64) -> Result<i64> {
    let sql =
        "select count(*) from (select from webhook where tenant_id = $1 and kind = 'endpoint' and deleted_at is null
            limit $2) w";
    Ok(sqlx::query_scalar(sql).bind(tenant).bind(most).fetch_one(db).await?)
}

/// Changes an endpoint. One that is enabled, or moves, begins anew: what failed before says nothing any more.
pub async fn update(db: impl PgExecutor<'_>, id: WebhookId, change: &Change) -> Result<Webhook> {
    let sql = concat!(
        "update webhook set url = coalesce($2, url), sealed = coalesce($3, sealed),
            description = case when $4 then $5 else description end, events = coalesce($6, events),
            disabled_at = case when $7 then null when not $7 then coalesce(disabled_at, clock_timestamp())
                else disabled_at end,
            disabled_reason = case when $7 then null when not $7 then coalesce(disabled_reason, 'by_hand')
                else disabled_reason end,
            failing_since = case when $8 then null else failing_since end,
            failures = case when $8 then 0 else failures end, open_until = case when $8 then null else open_until end,
            asked_until = case when $8 then null else asked_until end,
            generation = generation + case when $8 then 1 else 0 end, updated_at = clock_timestamp()
            where id = $1 returning ",
        columns!()
    );
    let address = change.address.as_ref();
    Ok(sqlx::query_as(sql)
        .bind(id)
        .bind(address.map(|a| &a.shown))
        .bind(address.map(|a| &a.sealed))
        .bind(change.description.is_some())
        .bind(change.description.clone().flatten())
        .bind(change.events.as_deref().map(words))
        .bind(change.enabled)
        .bind(address.is_some() || change.enabled == Some(true))
        .fetch_one(db)
        .await?)
}

/// Makes a webhook get nothing any more. `false` if it got nothing before.
pub async fn disable(db: impl PgExecutor<'_>, id: WebhookId, reason: DisabledReason) -> Result<bool> {
    let sql = "update webhook set disabled_at = clock_timestamp(), disabled_reason = $2
        where id = $1 and disabled_at is null and kind = 'endpoint'";
    Ok(sqlx::query(sql).bind(id).bind(reason).execute(db).await?.rows_affected() > 0)
}

/// Hides an endpoint from everybody; [`erase`] takes it away. `false` if there is none.
pub async fn delete(db: impl PgExecutor<'_>, tenant: TenantId, id: WebhookId) -> Result<bool> {
    let sql = "update webhook set deleted_at = clock_timestamp(), updated_at = clock_timestamp()
        where id = $2 and tenant_id = $1 and kind = 'endpoint' and deleted_at is null";
    Ok(sqlx::query(sql).bind(tenant).bind(id).execute(db).await?.rows_affected() > 0)
}

/// Erases up to `limit` deliveries of webhooks that were deleted, and those webhooks that have none left. Returns how many
/// rows went.
pub async fn erase(db: &mut PgConnection, limit: i64) -> Result<u64> {
    let sql = "delete from delivery where id in (select d.id from webhook w cross join lateral
            (select id from delivery where webhook_id = w.id order by created_at desc, id desc limit $1) d
            where w.deleted_at is not null limit $1)";
    let deliveries = sqlx::query(sql).bind(limit).execute(&mut *db).await?.rows_affected();
    let sql = "delete from webhook where id in (select id from webhook w where w.deleted_at is not null
            and (select id from delivery where webhook_id = w.id order by created_at desc, id desc limit 1) is null
            limit $1)";
    Ok(deliveries + sqlx::query(sql).bind(limit).execute(db).await?.rows_affected())
}

/// Puts a new secret in force, of an endpoint, or of the tenant where none is named. The one before signs along for `overlap`.
pub async fn insert_secret(
    db: &mut PgConnection,
    tenant: TenantId,
    webhook: Option<WebhookId>,
    sealed: &[u8],
    overlap: Duration,
) -> Result<()> {
    let sql = "update webhook_secret set until = clock_timestamp() + make_interval(secs => $3)
        where tenant_id = $1 and webhook_id is not distinct from $2 and until is null";
    sqlx::query(sql).bind(tenant).bind(webhook).bind(overlap.as_secs_f64()).execute(&mut *db).await?;
    let sql = "delete from webhook_secret where number in (select number from webhook_secret
            where tenant_id = $1 and webhook_id is not distinct from $2 and until is not null
            order by (until > clock_timestamp()) desc, number desc offset $3)";
    sqlx::query(sql).bind(tenant).bind(webhook).bind(SECRETS_MAX - 1).execute(&mut *db).await?;
    let sql = "insert into webhook_secret (tenant_id, webhook_id, sealed) values ($1, $2, $3)";
    sqlx::query(sql).bind(tenant).bind(webhook).bind(sealed).execute(db).await?;
    Ok(())
}

/// Whether the tenant has a default secret.
pub async fn has_default_secret(db: impl PgExecutor<'_>, tenant: TenantId) -> Result<bool> {
    let sql = "select exists (select from webhook_secret where tenant_id = $1 and webhook_id is null)";
    Ok(sqlx::query_scalar(sql).bind(tenant).fetch_one(db).await?)
}

/// How long a target that no job names is kept at least; a job that names it again within half of that need not touch it.
const TARGET_AGE: Duration = Duration::from_secs(3600);

/// The target of the tenant's jobs at this origin, made if there is none.
pub async fn target(db: &mut PgConnection, tenant: TenantId, origin: &str) -> Result<WebhookId> {
    let sql = "select id from webhook where tenant_id = $1 and url = $2 and kind = 'job' and deleted_at is null
        and updated_at > clock_timestamp() - make_interval(secs => $3)";
    let young = TARGET_AGE.as_secs_f64() / 2.0;
    if let Some(id) = sqlx::query_scalar(sql).bind(tenant).bind(origin).bind(young).fetch_optional(&mut *db).await? {
        return Ok(id);
    }
    let sql = "insert into webhook (id, tenant_id, kind, url) values ($1, $2, 'job', $3)
        on conflict (tenant_id, url) where kind = 'job' and deleted_at is null
            do update set updated_at = clock_timestamp() returning id";
    Ok(sqlx::query_scalar(sql).bind(WebhookId::new()).bind(tenant).bind(origin).fetch_one(db).await?)
}

/// Where a job wants its end to be told.
#[derive(Debug, Clone, Copy)]
pub struct ForJob<'a> {
    /// The job.
    pub job: JobId,
    /// Whose circuit and turns it shares.
    pub target: WebhookId,
    /// The whole URL.
    pub sealed: &'a [u8],
    /// Given back with the events.
    pub metadata: Option<&'a Value>,
}

/// Notes where jobs want their ends to be told.
pub async fn insert_for_jobs(db: impl PgExecutor<'_>, wishes: &[ForJob<'_>]) -> Result<()> {
    let jobs: Vec<_> = wishes.iter().map(|w| w.job.0).collect();
    let targets: Vec<_> = wishes.iter().map(|w| w.target.0).collect();
    let sealed: Vec<_> = wishes.iter().map(|w| w.sealed).collect();
    let metadata: Vec<_> = wishes.iter().map(|w| w.metadata.map(Json)).collect();
    let sql = "insert into job_webhook (job_id, webhook_id, sealed, metadata)
        select * from unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::jsonb[])";
    sqlx::query(sql).bind(jobs).bind(targets).bind(sealed).bind(metadata).execute(db).await?;
    Ok(())
}

/// Looks at up to `limit` targets that were not for long, and forgets those that no job names any more. Returns how many it
/// looked at: those that stay are looked at again when they are as old once more, so that they are in nobody's way.
pub async fn prune_targets(db: impl PgExecutor<'_>, limit: i64) -> Result<u64> {
    let sql = "with old as (
            select id from webhook where kind = 'job' and updated_at < clock_timestamp() - make_interval(secs => $1)
                order by updated_at limit $2 for no key update skip locked
        ), idle as (
            select id from old where not exists (select from batch where webhook_id = old.id)
                and (select job_id from job_webhook where webhook_id = old.id order by webhook_id limit 1) is null
                and (select id from delivery where webhook_id = old.id order by created_at desc, id desc limit 1) is null
        ), stays as (
            update webhook set updated_at = clock_timestamp() where id in (select id from old except select id from idle)
        ), gone as (
            delete from webhook where id in (select id from idle)
        )
        select count(*) from old";
    let seen: i64 = sqlx::query_scalar(sql).bind(TARGET_AGE.as_secs_f64()).bind(limit).fetch_one(db).await?;
    Ok(seen.unsigned_abs())
}

/// How many circuits are open, counted up to `most`.
pub async fn count_open(db: impl PgExecutor<'_>, most: i64) -> Result<i64> {
    let sql = "select count(*) from (select from webhook where open_until > clock_timestamp() limit $1) w";
    Ok(sqlx::query_scalar(sql).bind(most).fetch_one(db).await?)
}
