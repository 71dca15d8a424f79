//! Jobs: insert, find, list. What a lease does lies in `lease`, what the relay asks in `dispatch`, what ends a job from
//! outside in `end`.

/// The columns of a [`Row`], in its order.
macro_rules! columns {
    () => {
        "id, tenant_id, state, profile, lane, priority, upload_id, path, roots, path_inside, url, s3_profile, s3_bucket, s3_key,
         options, external_id, metadata, batch_id, created_at, run_at, expires_at, started_at, finished_at, attempt, max_attempts, progress,
         failure"
    };
}

pub mod bulk;
pub mod dispatch;
pub mod end;
pub mod lease;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor, Postgres, QueryBuilder, Row as _};
use uuid::Uuid;

use super::audit::record;
use super::{audit, unreadable, violates};
use crate::error::{Code, Error, Result};
use crate::id::{BatchId, JobId, TenantId, UploadId};
use crate::job::{Failure, Job, JobState, Lane, Located, NewJob, Options, Priority, Profile, Progress, Source};

/// A row of `job` before its source is put together.
#[derive(Debug, FromRow)]
struct Row {
    id: JobId,
    tenant_id: TenantId,
    state: JobState,
    profile: Profile,
    lane: Lane,
    priority: Priority,
    upload_id: Option<UploadId>,
    path: Option<String>,
    roots: Vec<String>,
    path_inside: Option<String>,
    url: Option<String>,
    s3_profile: Option<String>,
    s3_bucket: Option<String>,
    s3_key: Option<String>,
    options: Json<Options>,
    external_id: Option<String>,
    metadata: Json<serde_json::Map<String, serde_json::Value>>,
    batch_id: Option<BatchId>,
    created_at: DateTime<Utc>,
    run_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    attempt: i16,
    max_attempts: i16,
    progress: Option<Json<Progress>>,
    failure: Option<Json<Failure>>,
}

impl TryFrom<Row> for Job {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let s3 = row.s3_profile.zip(row.s3_bucket).zip(row.s3_key);
        let source = match (row.upload_id, row.path, row.url, s3) {
            (Some(id), None, None, None) => Source::Upload { id },
            (None, Some(path), None, None) => Source::Path { path },
            (None, None, Some(url), None) => Source::Url { url },
            (None, None, None, Some(((profile, bucket), key))) => Source::S3 { profile, bucket, key },
            _ => return Err(unreadable("job", "it has no source or two")),
        };
        Ok(Self {
            id: row.id,
            tenant: row.tenant_id,
            state: row.state,
            profile: row.profile,
            source,
            located: row.path_inside.map(|inside| Located { roots: row.roots, inside }),
            options: row.options.0,
            lane: row.lane,
            priority: row.priority,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            external_id: row.external_id,
            metadata: row.metadata.0,
            batch: row.batch_id,
            created_at: row.created_at,
            run_at: row.run_at,
            expires_at: row.expires_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            failure: row.failure.map(|f| f.0),
            progress: row.progress.map(|p| p.0),
        })
    }
}

/// Which jobs a list shows. Fields that are `None` or empty do not filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// In one of these states.
    pub states: Vec<JobState>,
    /// With this profile.
    pub profile: Option<Profile>,
    /// With this external id.
    pub external_id: Option<String>,
    /// Created at this instant or later.
    pub created_from: Option<DateTime<Utc>>,
    /// Created before this instant.
    pub created_before: Option<DateTime<Utc>>,
    /// Whose source is of this kind.
    pub source: Option<SourceKind>,
    /// Handed in with this batch.
    pub batch: Option<BatchId>,
}

/// The kinds of source a list can be narrowed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// An upload.
    Upload,
    /// A path.
    Path,
    /// A URL.
    Url,
    /// An object of an S3 profile.
    S3,
}

/// A place in a list: the last job already seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Its id, which parts jobs of the same instant.
    pub id: JobId,
}

/// Where a new job's bytes are, as columns.
#[derive(Default)]
struct SourceColumns<'a> {
    upload: Option<UploadId>,
    path: Option<&'a str>,
    url: Option<&'a str>,
    s3: Option<[&'a str; 3]>,
}

impl<'a> From<&'a Source> for SourceColumns<'a> {
    fn from(source: &'a Source) -> Self {
        match source {
            Source::Upload { id } => Self { upload: Some(*id), ..Self::default() },
            Source::Path { path } => Self { path: Some(path), ..Self::default() },
            Source::Url { url } => Self { url: Some(url), ..Self::default() },
            Source::S3 { profile, bucket, key } => Self { s3: Some([profile, bucket, key]), ..Self::default() },
        }
    }
}

/// Stores a new job under `id`, and the event that tells of it in the same statement. A taken external id is the client's error.
pub async fn insert(db: impl PgExecutor<'_>, id: JobId, new: &NewJob) -> Result<Job> {
    let sql = concat!(
        "with audited as (",
        record!("$21"),
        ") insert into job (id, tenant_id, profile, lane, priority, upload_id, path, roots, path_inside, url, sealed, s3_profile,
             s3_bucket, s3_key, options, external_id, metadata, max_attempts, expires_at, rank_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
             clock_timestamp() + $5 * make_interval(secs => $20))
         returning ",
        columns!()
    );
    let source = SourceColumns::from(&new.source);
    let event = new.audit.clone().map(|event| event.on("job", id));
    let row: Result<Row, _> = sqlx::query_as(sql)
        .bind(id)
        .bind(new.tenant)
        .bind(new.profile)
        .bind(new.profile.lane())
        .bind(new.priority)
        .bind(source.upload)
        .bind(source.path)
        .bind(new.located.as_ref().map_or(&[][..], |l| &l.roots[..]))
        .bind(new.located.as_ref().map(|l| &l.inside))
        .bind(source.url)
        .bind(&new.sealed)
        .bind(source.s3.map(|s| s[0]))
        .bind(source.s3.map(|s| s[1]))
        .bind(source.s3.map(|s| s[2]))
        .bind(Json(&new.options))
        .bind(&new.external_id)
        .bind(Json(&new.metadata))
        .bind(new.max_attempts)
        .bind(new.expires_at)
        .bind(Priority::AGEING.as_secs_f64())
        .bind(audit::of(event.as_ref()))
        .fetch_one(db)
        .await;
    match row {
        Ok(row) => row.try_into(),
        Err(e) if violates(&e, "job_external_id_unique") => {
            let id = new.external_id.as_deref().unwrap_or_default();
            let detail = format!(
                "Another job already has the external_id '{id}'. Find it with GET /api/v1/jobs?external_id=…, or choose another id."
            );
            Err(Error::new(Code::ExternalIdTaken, detail).at("/external_id"))
        }
        Err(e) => Err(e.into()),
    }
}

/// The tenant's job.
pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, id: JobId) -> Result<Option<Job>> {
    let sql = concat!("select ", columns!(), " from job where id = $1 and tenant_id = $2");
    let row: Option<Row> = sqlx::query_as(sql).bind(id).bind(tenant).fetch_optional(db).await?;
    row.map(Job::try_from).transpose()
}

/// Those of `jobs` that exist, of whatever tenant: for events and waiters, which are told apart by them. Each is read for
/// itself: one that a newer build wrote, and this one cannot read, keeps nobody from the others.
pub async fn list_by_id(db: impl PgExecutor<'_>, jobs: &[JobId]) -> Result<HashMap<JobId, Result<Job>>> {
    let ids: Vec<Uuid> = jobs.iter().map(|j| j.0).collect();
    let sql = concat!("select ", columns!(), " from job where id = any($1)");
    let rows = sqlx::query(sql).bind(ids).fetch_all(db).await?;
    let read = |row| Row::from_row(row).map_err(|e| unreadable("job", e)).and_then(Job::try_from);
    rows.iter().map(|row| Ok((row.try_get("id")?, read(row)))).collect()
}

/// Adds the conditions of a filter to a query that already has one.
fn push_filter(sql: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(id) = &filter.external_id {
        sql.push(" and external_id = ").push_bind(id);
    }
    match filter.states.as_slice() {
        [] => {}
        // equality, so that the index by state gives the order too
        [one] => drop(sql.push(" and state = ").push_bind(*one)),
        many => {
            let words: Vec<&str> = many.iter().map(|s| s.as_str()).collect();
            sql.push(" and state = any(").push_bind(words).push(")");
        }
    }
    if let Some(batch) = filter.batch {
        sql.push(" and batch_id = ").push_bind(batch);
    }
    if let Some(profile) = filter.profile {
        sql.push(" and profile = ").push_bind(profile);
    }
    match filter.source {
        Some(SourceKind::Upload) => drop(sql.push(" and upload_id is not null")),
        Some(SourceKind::Path) => drop(sql.push(" and path is not null")),
        Some(SourceKind::Url) => drop(sql.push(" and url is not null")),
        Some(SourceKind::S3) => drop(sql.push(" and s3_profile is not null")),
        None => {}
    }
    if let Some(from) = filter.created_from {
        sql.push(" and created_at >= ").push_bind(from);
    }
    if let Some(before) = filter.created_before {
        sql.push(" and created_at < ").push_bind(before);
    }
}

/// What jobs are ordered by that pass the filter. Those of a batch, 10,000 at most, lie together: they are found by their batch and
/// sorted. PostgreSQL thinks them spread over the list, and would walk it to meet them, past all that came later; an expression is
/// no order of an index.
fn created(filter: &Filter) -> &'static str {
    if filter.batch.is_some() { "created_at + interval '0'" } else { "created_at" }
}

/// The tenant's jobs that pass the filter, newest first, at most `limit`, those after `after`.
pub async fn list(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    filter: &Filter,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<Job>> {
    let mut sql = QueryBuilder::<Postgres>::new(concat!("select ", columns!(), " from job where tenant_id = "));
    sql.push_bind(tenant);
    push_filter(&mut sql, filter);
    if let Some(after) = after {
        sql.push(" and (created_at, id) < (").push_bind(after.created_at).push(", ").push_bind(after.id).push(")");
    }
    sql.push(" order by ").push(created(filter)).push(" desc, id desc limit ").push_bind(limit);
    let rows: Vec<Row> = sql.build_query_as().fetch_all(db).await?;
    rows.into_iter().map(Job::try_from).collect()
}

/// The tenant's job, kept as it is until the transaction ends.
pub async fn find_for_update(db: impl PgExecutor<'_>, tenant: TenantId, id: JobId) -> Result<Option<Job>> {
    let sql = concat!("select ", columns!(), " from job where id = $1 and tenant_id = $2 for update");
    let row: Option<Row> = sqlx::query_as(sql).bind(id).bind(tenant).fetch_optional(db).await?;
    row.map(Job::try_from).transpose()
}

/// How many jobs of the tenant are queued; `most` if there are more. Reads so many entries of an index.
pub async fn count_queued(db: impl PgExecutor<'_>, tenant: TenantId, most: u32) -> Result<u32> {
    let sql = "select count(*) from (select from job where tenant_id = $1 and state = 'queued' limit $2) queued";
    let count: i64 = sqlx::query_scalar(sql).bind(tenant).bind(i64::from(most)).fetch_one(db).await?;
    Ok(u32::try_from(count).unwrap_or(most))
}

/// Those of `jobs` that were erased.
pub async fn list_gone(db: impl PgExecutor<'_>, jobs: &[JobId]) -> Result<Vec<JobId>> {
    let ids: Vec<Uuid> = jobs.iter().map(|j| j.0).collect();
    let sql = "select wanted.id from unnest($1::uuid[]) as wanted (id)
        where not exists (select from job where job.id = wanted.id)";
    Ok(sqlx::query_scalar(sql).bind(ids).fetch_all(db).await?)
}

/// Those of `jobs` that have ended or no longer exist: what a process that waits for many jobs asks in one query.
pub async fn list_ended(db: impl PgExecutor<'_>, jobs: &[JobId]) -> Result<Vec<JobId>> {
    let ids: Vec<Uuid> = jobs.iter().map(|j| j.0).collect();
    let sql = "select wanted.id from unnest($1::uuid[]) as wanted (id) left join job on job.id = wanted.id
        where job.id is null or job.state in ('succeeded', 'failed', 'canceled')";
    Ok(sqlx::query_scalar(sql).bind(ids).fetch_all(db).await?)
}
