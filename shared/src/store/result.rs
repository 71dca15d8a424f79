//! Results: what came out of a succeeded job. One per job, written once.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor};

use crate::error::Result;
use crate::id::{JobId, TenantId};

/// A result about to be stored.
#[derive(Debug, Clone)]
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
}

/// A stored result.
#[derive(Debug, Clone, FromRow)]
pub struct StoredResult {
    /// The job it belongs to.
    pub job_id: JobId,
    /// The normalised description.
    pub media: Json<Value>,
    /// ffprobe's own JSON.
    pub ffprobe: String,
    /// How it came about.
    pub provenance: Json<Value>,
    /// What ffprobe complained of.
    pub warnings: Vec<String>,
    /// Whether a limit bit.
    pub degraded: bool,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}

/// Stores a job's result.
pub async fn insert(db: impl PgExecutor<'_>, job: JobId, result: &NewResult) -> Result<()> {
    let sql =
        "insert into result (job_id, media, ffprobe, provenance, warnings, degraded) values ($1, $2, $3, $4, $5, $6)";
    sqlx::query(sql)
        .bind(job)
        .bind(&result.media)
        .bind(&result.ffprobe)
        .bind(&result.provenance)
        .bind(&result.warnings)
        .bind(result.degraded)
        .execute(db)
        .await?;
    Ok(())
}

/// The results of those of `jobs` that have one and belong to `tenant`.
pub async fn list(db: impl PgExecutor<'_>, tenant: TenantId, jobs: &[JobId]) -> Result<Vec<StoredResult>> {
    let sql = "select r.job_id, r.media, r.ffprobe, r.provenance, r.warnings, r.degraded, r.created_at
        from result r join job j on j.id = r.job_id where r.job_id = any($2) and j.tenant_id = $1";
    Ok(sqlx::query_as(sql).bind(tenant).bind(jobs).fetch_all(db).await?)
}
