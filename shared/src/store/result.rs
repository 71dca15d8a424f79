//! Results: what came out of a succeeded job, and its series of bit rates. One per job, written once.

use chrono::{DateTime, Utc};
use serde_json::Value;
pub use sqlx::types::Json as SqlJson;
use sqlx::{FromRow, PgConnection, PgExecutor};

use crate::error::Result;
use crate::id::{JobId, TenantId};

/// A result about to be stored.
#[derive(Debug, Clone, Default)]
pub struct NewResult {
    /// The normalised description.
    pub media: Value,
    /// ffprobe's own JSON, verbatim but for the file name.
    pub ffprobe: String,
    /// How it came about: versions, arguments, cost.
    pub provenance: Value,
    /// What ffprobe complained of.
    pub warnings: Vec<String>,
    /// Whether a limit bit, so that something may be missing.
    pub degraded: bool,
    /// Whether the file is all there, with evidence.
    pub completeness: Option<Value>,
    /// Reasons to doubt what was found.
    pub suspicious: Vec<String>,
    /// The summary of every packet.
    pub packets: Option<Value>,
    /// What was seen in the frames.
    pub frames: Option<Value>,
    /// Bit rate over time by stream, in the form of [`crate::packets`].
    pub series: Vec<NewSeries>,
}

/// The bit rate of one stream over time.
#[derive(Debug, Clone)]
pub struct NewSeries {
    /// The stream.
    pub stream_index: i32,
    /// Encoded and compressed.
    pub data: Vec<u8>,
}

/// A stored result.
#[derive(Debug, Clone, FromRow)]
pub struct StoredResult {
    /// The job it belongs to.
    pub job_id: JobId,
    /// The normalised description.
    pub media: SqlJson<Value>,
    /// ffprobe's own JSON.
    pub ffprobe: String,
    /// How it came about.
    pub provenance: SqlJson<Value>,
    /// What ffprobe complained of.
    pub warnings: Vec<String>,
    /// Whether a limit bit.
    pub degraded: bool,
    /// Whether the file is all there, with evidence; null for results of earlier versions.
    pub completeness: Option<SqlJson<Value>>,
    /// Reasons to doubt what was found.
    pub suspicious: Vec<String>,
    /// The summary of every packet, with the profile `packets`.
    pub packets: Option<SqlJson<Value>>,
    /// What was seen in the frames, with the profile `frames`.
    pub frames: Option<SqlJson<Value>>,
    /// The job whose result this is a copy of.
    pub reused_from: Option<JobId>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}

/// Stores a job's result.
pub async fn insert(db: &mut PgConnection, job: JobId, result: &NewResult) -> Result<()> {
    let sql = "insert into result (job_id, media, ffprobe, provenance, warnings, degraded, completeness, suspicious, packets, frames)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    sqlx::query(sql)
        .bind(job)
        .bind(&result.media)
        .bind(&result.ffprobe)
        .bind(&result.provenance)
        .bind(&result.warnings)
        .bind(result.degraded)
        .bind(&result.completeness)
        .bind(&result.suspicious)
        .bind(&result.packets)
        .bind(&result.frames)
        .execute(&mut *db)
        .await?;
    if result.series.is_empty() {
        return Ok(());
    }
    let (streams, data): (Vec<i32>, Vec<&[u8]>) =
        result.series.iter().map(|s| (s.stream_index, s.data.as_slice())).unzip();
    let sql = "insert into series (job_id, stream_index, data) select $1, s.stream, s.data from unnest($2::int[], $3::bytea[]) s (stream, data)";
    sqlx::query(sql).bind(job).bind(streams).bind(data).execute(db).await?;
    Ok(())
}

/// The columns of a [`StoredResult`].
macro_rules! columns {
    () => {
        "r.job_id, r.media, r.ffprobe, r.provenance, r.warnings, r.degraded, r.completeness, r.suspicious, r.packets, r.frames,
            r.reused_from, r.created_at"
    };
}

/// The result of the tenant's job, if it has one.
pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, job: JobId) -> Result<Option<StoredResult>> {
    let sql = concat!(
        "select ",
        columns!(),
        " from result r join job j on j.id = r.job_id where r.job_id = $2 and j.tenant_id = $1"
    );
    Ok(sqlx::query_as(sql).bind(tenant).bind(job).fetch_optional(db).await?)
}

/// The results of those of `jobs` that have one and belong to `tenant`, in the order of `jobs`, until ffprobe's JSON of all has more
/// than `bytes`; the first in any case. The lengths cost nothing: PostgreSQL knows them without reading what it keeps aside.
pub async fn list_up_to(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    jobs: &[JobId],
    bytes: i64,
) -> Result<Vec<StoredResult>> {
    let sql = concat!(
        "select ",
        columns!(),
        " from (select r.*, w.place, sum(octet_length(r.ffprobe)) over (order by w.place) as bytes
            from unnest($2::uuid[]) with ordinality w (job_id, place) join result r using (job_id)
            join job j on j.id = r.job_id where j.tenant_id = $1) r
        where r.bytes <= $3 or r.bytes = octet_length(r.ffprobe) order by r.place"
    );
    Ok(sqlx::query_as(sql).bind(tenant).bind(jobs).bind(bytes).fetch_all(db).await?)
}

/// The normalised description of what a job found, unless it has more than `most` characters.
pub async fn find_media(db: impl PgExecutor<'_>, job: JobId, most: i64) -> Result<Option<Value>> {
    let sql = "select media from result where job_id = $1 and length(media::text) <= $2";
    let media: Option<SqlJson<Value>> = sqlx::query_scalar(sql).bind(job).bind(most).fetch_optional(db).await?;
    Ok(media.map(|media| media.0))
}

/// The series of one stream of the tenant's job, encoded.
pub async fn find_series(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    job: JobId,
    stream_index: i32,
) -> Result<Option<Vec<u8>>> {
    let sql = "select s.data from series s join job j on j.id = s.job_id
        where s.job_id = $2 and s.stream_index = $3 and j.tenant_id = $1";
    Ok(sqlx::query_scalar(sql).bind(tenant).bind(job).bind(stream_index).fetch_optional(db).await?)
}
