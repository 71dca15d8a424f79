//! Many jobs in one statement: what a batch is made of. A job travels as one line of JSON, so that thousands of them can wait
//! in a file instead of memory. Called by `lifecycle::batch` only.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgExecutor;
use sqlx::types::Json;

use super::{Row, SourceColumns};
use crate::error::{Code, Error, Result};
use crate::id::{BatchId, JobId, TenantId, UploadId};
use crate::job::{Failure, FailureCode, Job, JobState, JobWebhook, NewJob, Priority};
use crate::store::violates;

/// A job on its way into a batch: a row of `job` as JSON, and its place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    /// The job.
    pub id: JobId,
    /// Its place in the batch, from 1.
    pub batch_number: i32,
    /// The upload it is about, if it is about one.
    pub upload_id: Option<UploadId>,
    /// The client's own name for it.
    pub external_id: Option<String>,
    /// Where its end is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<JobWebhook>,
    /// The other columns.
    row: serde_json::Value,
}

impl Item {
    /// The job at this place.
    pub fn new(batch_number: i32, new: &NewJob) -> Self {
        let source = SourceColumns::from(&new.source);
        let row = json!({
            "profile": new.profile,
            "lane": new.profile.lane(),
            "priority": new.priority as i16,
            "path": source.path,
            "roots": new.located.as_ref().map_or(&[][..], |l| &l.roots[..]),
            "path_inside": new.located.as_ref().map(|l| &l.inside),
            "url": source.url,
            "sealed": new.sealed.as_ref().map(|sealed| STANDARD.encode(sealed)),
            "s3_profile": source.s3.map(|s| s[0]),
            "s3_bucket": source.s3.map(|s| s[1]),
            "s3_key": source.s3.map(|s| s[2]),
            "options": new.options,
            "metadata": new.metadata,
            "max_attempts": new.max_attempts,
            "expires_at": new.expires_at,
        });
        let (external_id, webhook) = (new.external_id.clone(), new.webhook.clone());
        Self { id: JobId::new(), batch_number, upload_id: source.upload, external_id, webhook, row }
    }
}

/// Stores the jobs of a batch. No external id may be taken.
pub async fn insert(db: impl PgExecutor<'_>, tenant: TenantId, batch: BatchId, items: &[Item]) -> Result<()> {
    let sql = "insert into job (id, tenant_id, profile, lane, priority, upload_id, path, roots, path_inside, url, sealed, s3_profile,
            s3_bucket, s3_key, options, external_id, metadata, max_attempts, expires_at, rank_at, batch_id, batch_number)
        select i.id, $1, r.profile, r.lane, r.priority, i.upload_id, r.path, r.roots, r.path_inside, r.url,
            decode(r.sealed, 'base64'), r.s3_profile, r.s3_bucket, r.s3_key, r.options, i.external_id, r.metadata, r.max_attempts,
            r.expires_at, clock_timestamp() + r.priority * make_interval(secs => $4), $2, i.batch_number
        from jsonb_to_recordset($3) as i (id uuid, batch_number integer, upload_id uuid, external_id text, row jsonb),
            jsonb_to_record(i.row) as r (profile text, lane text, priority smallint, path text, roots text[],
                path_inside text, url text, sealed text, s3_profile text, s3_bucket text, s3_key text, options jsonb, metadata jsonb,
                max_attempts smallint, expires_at timestamptz)";
    let done = sqlx::query(sql)
        .bind(tenant)
        .bind(batch)
        .bind(Json(items))
        .bind(Priority::AGEING.as_secs_f64())
        .execute(db)
        .await;
    match done {
        Ok(_) => Ok(()),
        Err(e) if violates(&e, "job_external_id_unique") => {
            let detail = "Another job already has the external_id of one of these. Choose other ids.";
            Err(Error::new(Code::ExternalIdTaken, detail))
        }
        Err(e) => Err(e.into()),
    }
}

/// One of `external_ids` that a job of the tenant has already.
pub async fn find_taken(db: impl PgExecutor<'_>, tenant: TenantId, external_ids: &[&str]) -> Result<Option<String>> {
    let sql = "select external_id from job where tenant_id = $1 and external_id = any($2) limit 1";
    Ok(sqlx::query_scalar(sql).bind(tenant).bind(external_ids).fetch_optional(db).await?)
}

/// A job with its place in its batch.
#[derive(Debug, sqlx::FromRow)]
struct Numbered {
    #[sqlx(flatten)]
    row: Row,
    batch_number: i32,
}

/// The jobs of the tenant's batch in their order, at most `limit`, those after the place `after`.
pub async fn list(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    batch: BatchId,
    after: i32,
    limit: i64,
) -> Result<Vec<(i32, Job)>> {
    let sql = concat!(
        "select ",
        columns!(),
        ", batch_number from job where batch_id = $1 and batch_number > $2 and tenant_id = $3 order by batch_number limit $4"
    );
    let rows: Vec<Numbered> =
        sqlx::query_as(sql).bind(batch).bind(after).bind(tenant).bind(limit).fetch_all(db).await?;
    rows.into_iter().map(|numbered| Ok((numbered.batch_number, Job::try_from(numbered.row)?))).collect()
}

/// Ends up to `limit` queued jobs of a batch as canceled, and returns them.
pub async fn cancel_queued(
    db: impl PgExecutor<'_>,
    batch: BatchId,
    failure: &Failure,
    limit: i64,
) -> Result<Vec<JobId>> {
    let sql = "update job set state = 'canceled', finished_at = clock_timestamp(), failure = $2, dispatched_at = null
        where id in (select id from job where batch_id = $1 and state = 'queued' limit $3 for update skip locked)
            and state = 'queued' returning id";
    Ok(sqlx::query_scalar(sql).bind(batch).bind(Json(failure)).bind(limit).fetch_all(db).await?)
}

/// Ends the jobs of a batch that are still queued as canceled, and asks the workers of the running ones to stop. Returns them with
/// their states. It waits for whoever is about to change one, and decides by what the job is then.
pub async fn cancel_rest(db: impl PgExecutor<'_>, batch: BatchId, failure: &Failure) -> Result<Vec<(JobId, JobState)>> {
    let sql = "update job set
            state = case state when 'queued' then 'canceled' else state end,
            finished_at = case state when 'queued' then clock_timestamp() else finished_at end,
            failure = case state when 'queued' then $2 else failure end,
            dispatched_at = case state when 'queued' then null else dispatched_at end,
            cancel_requested = cancel_requested or state = 'running'
        where batch_id = $1 and state in ('queued', 'running') and not (state = 'running' and cancel_requested)
        returning id, state";
    Ok(sqlx::query_as(sql).bind(batch).bind(Json(failure)).fetch_all(db).await?)
}

/// How many failed jobs a batch has, of those that failed with `code`, if one is given.
pub async fn count_failed(db: impl PgExecutor<'_>, batch: BatchId, code: Option<FailureCode>) -> Result<i64> {
    let sql = "select count(*) from job where batch_id = $1 and state = 'failed' and ($2::text is null or failure ->> 'code' = $2)";
    Ok(sqlx::query_scalar(sql).bind(batch).bind(code.map(FailureCode::as_str)).fetch_one(db).await?)
}
