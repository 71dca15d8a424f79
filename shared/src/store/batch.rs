//! Batches: insert, find, list, lock, complete, forget. Their jobs lie in `job`, with the batch's id.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use super::violates;
use crate::batch::{Batch, Counts, NewBatch};
use crate::error::{Code, Error, Result};
use crate::id::{BatchId, JobId, TenantId, WebhookId};

#[derive(Debug, FromRow)]
struct Row {
    id: BatchId,
    tenant_id: TenantId,
    external_id: Option<String>,
    metadata: Json<Map<String, Value>>,
    total: i32,
    created_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
    queued: i64,
    running: i64,
    succeeded: i64,
    failed: i64,
    canceled: i64,
}

impl From<Row> for Batch {
    fn from(row: Row) -> Self {
        let Row { queued, running, succeeded, failed, canceled, .. } = row;
        Self {
            id: row.id,
            tenant: row.tenant_id,
            external_id: row.external_id,
            metadata: row.metadata.0,
            total: row.total,
            counts: Counts { queued, running, succeeded, failed, canceled },
            created_at: row.created_at,
            completed_at: row.completed_at,
        }
    }
}

/// A batch with its counts: those of its end, or those of this moment while it goes on.
macro_rules! select {
    ($from:literal) => {
        concat!(
            "select b.id, b.tenant_id, b.external_id, b.metadata, b.total, b.created_at, b.completed_at,
                coalesce(c.queued, 0) as queued, coalesce(c.running, 0) as running,
                coalesce(b.succeeded, c.succeeded, 0)::bigint as succeeded, coalesce(b.failed, c.failed, 0)::bigint as failed,
                coalesce(b.canceled, c.canceled, 0)::bigint as canceled
            from ",
            $from,
            " b left join lateral (select count(*) filter (where state = 'queued') as queued,
                count(*) filter (where state = 'running') as running,
                count(*) filter (where state = 'succeeded') as succeeded,
                count(*) filter (where state = 'failed') as failed, count(*) filter (where state = 'canceled') as canceled
                from job where job.batch_id = b.id and b.completed_at is null) c on true"
        )
    };
}

/// Stores a batch without its jobs. A taken external id is the client's error.
pub async fn insert(db: impl PgExecutor<'_>, id: BatchId, tenant: TenantId, new: &NewBatch) -> Result<Batch> {
    let sql = "insert into batch (id, tenant_id, external_id, metadata, total) values ($1, $2, $3, $4, $5)
        returning id, tenant_id, external_id, metadata, total, created_at, completed_at, total::bigint as queued,
            0::bigint as running, 0::bigint as succeeded, 0::bigint as failed, 0::bigint as canceled";
    let row: Result<Row, _> = sqlx::query_as(sql)
        .bind(id)
        .bind(tenant)
        .bind(&new.external_id)
        .bind(Json(&new.metadata))
        .bind(new.total)
        .fetch_one(db)
        .await;
    match row {
        Ok(row) => Ok(row.into()),
        Err(e) if violates(&e, "batch_external_id_unique") => {
            let detail =
                "Another batch already has this external_id. Find it in GET /api/v1/batches, or choose another.";
            Err(Error::new(Code::ExternalIdTaken, detail).at("/external_id"))
        }
        Err(e) => Err(e.into()),
    }
}

/// Notes where a batch wants its end to be told.
pub async fn set_webhook(
    db: impl PgExecutor<'_>,
    id: BatchId,
    target: WebhookId,
    sealed: &[u8],
    metadata: Option<&Value>,
) -> Result<()> {
    let sql = "update batch set webhook_id = $2, webhook_sealed = $3, webhook_metadata = $4 where id = $1";
    sqlx::query(sql).bind(id).bind(target).bind(sealed).bind(metadata.map(Json)).execute(db).await?;
    Ok(())
}

/// The tenant's batch.
pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, id: BatchId) -> Result<Option<Batch>> {
    let sql = select!("(select * from batch where id = $1 and tenant_id = $2)");
    let row: Option<Row> = sqlx::query_as(sql).bind(id).bind(tenant).fetch_optional(db).await?;
    Ok(row.map(Batch::from))
}

/// A place in a list: the last batch already seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// Its id, which parts batches of the same instant.
    pub id: BatchId,
}

/// The tenant's batches, newest first, at most `limit`, those after `after`.
pub async fn list(db: impl PgExecutor<'_>, tenant: TenantId, after: Option<After>, limit: i64) -> Result<Vec<Batch>> {
    let sql = concat!(
        select!(
            "(select * from batch where tenant_id = $1 and ($2::timestamptz is null or (created_at, id) < ($2, $3))
                order by created_at desc, id desc limit $4)"
        ),
        " order by b.created_at desc, b.id desc"
    );
    let rows: Vec<Row> = sqlx::query_as(sql)
        .bind(tenant)
        .bind(after.map(|a| a.created_at))
        .bind(after.map(|a| a.id))
        .bind(limit)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(Batch::from).collect())
}

/// Keeps the batches of those of `jobs` that may be queued again as they are until the transaction ends, once whoever completes
/// them is done. The jobs are locked already.
pub async fn lock_of(tx: &mut PgConnection, jobs: &[JobId]) -> Result<()> {
    let ids: Vec<Uuid> = jobs.iter().map(|j| j.0).collect();
    let sql = "select from batch where id in (select batch_id from job where id = any($1) and batch_id is not null
            and state in ('failed', 'canceled')) order by id for no key update";
    sqlx::query(sql).bind(ids).execute(tx).await?;
    Ok(())
}

/// Locks the open batches of which a job ended with an event placed after `sequence`, but for those that are locked already.
pub async fn lock_ended_after(tx: &mut PgConnection, sequence: i64) -> Result<Vec<BatchId>> {
    let sql = "select id from batch where completed_at is null and id in (
            select job.batch_id from event join job on job.id = event.job_id where event.sequence > $1
                and job.batch_id is not null and event.type in ('job.succeeded', 'job.failed', 'job.canceled'))
        order by id for no key update skip locked";
    Ok(sqlx::query_scalar(sql).bind(sequence).fetch_all(tx).await?)
}

/// Locks up to `limit` of the open batches that have no open job, but for those that are locked already.
pub async fn lock_left(tx: &mut PgConnection, limit: i64) -> Result<Vec<BatchId>> {
    let sql = "select id from batch where completed_at is null and not exists (select from job
            where job.batch_id = batch.id and job.state in ('queued', 'running'))
        order by created_at limit $1 for no key update skip locked";
    Ok(sqlx::query_scalar(sql).bind(limit).fetch_all(tx).await?)
}

/// Notes the end of those of the batches whose jobs have all ended, and writes the events that tell of it. Returns how many. They
/// were locked by a statement before this one, so that this one sees every job that was queued again.
pub async fn complete(tx: &mut PgConnection, batches: &[BatchId]) -> Result<u64> {
    if batches.is_empty() {
        return Ok(0);
    }
    let ids: Vec<Uuid> = batches.iter().map(|b| b.0).collect();
    let sql = "with done as (
            select b.id, count(j.id) filter (where j.state = 'succeeded') as succeeded,
                count(j.id) filter (where j.state = 'failed') as failed,
                count(j.id) filter (where j.state = 'canceled') as canceled
            from batch b left join job j on j.batch_id = b.id
            where b.id = any($1) and b.completed_at is null and not exists (select from job open
                where open.batch_id = b.id and open.state in ('queued', 'running'))
            group by b.id
        ), noted as (
            update batch b set completed_at = clock_timestamp(), succeeded = done.succeeded, failed = done.failed,
                canceled = done.canceled
            from done where b.id = done.id returning b.*
        )
        insert into event (tenant_id, type, data)
        select tenant_id, 'batch.completed', jsonb_build_object('batch', jsonb_build_object('id', id,
            'external_id', external_id, 'metadata', metadata, 'total', total, 'counts', jsonb_build_object(
                'queued', 0, 'running', 0, 'succeeded', succeeded, 'failed', failed, 'canceled', canceled),
            'created_at', created_at, 'completed_at', completed_at)) from noted";
    Ok(sqlx::query(sql).bind(ids).execute(tx).await?.rows_affected())
}

/// Reopens the batches of jobs that are queued again: their end will be told once more.
pub async fn reopen(db: impl PgExecutor<'_>, jobs: &[JobId]) -> Result<()> {
    let ids: Vec<Uuid> = jobs.iter().map(|j| j.0).collect();
    let sql = "update batch set completed_at = null, succeeded = null, failed = null, canceled = null
        where completed_at is not null and id in (select batch_id from job where id = any($1) and batch_id is not null)";
    sqlx::query(sql).bind(ids).execute(db).await?;
    Ok(())
}

/// Forgets up to `limit` batches without jobs that were completed longer than `age` ago. Returns how many.
pub async fn prune(db: impl PgExecutor<'_>, age: Duration, limit: i64) -> Result<u64> {
    let sql = "delete from batch where id in (
            select id from batch where completed_at < clock_timestamp() - make_interval(secs => $1)
                and not exists (select from job where job.batch_id = batch.id)
            order by completed_at limit $2)";
    Ok(sqlx::query(sql).bind(age.as_secs_f64()).bind(limit).execute(db).await?.rows_affected())
}
