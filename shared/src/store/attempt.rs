//! Attempts: the history of a job's runs. Rows begin inside `store::job::claim`, in the claim's own statement.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor};
use utoipa::ToSchema;

use crate::error::Result;
use crate::id::JobId;
use crate::job::Failure;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Outcome {
    /// With a result.
    Succeeded,
    /// With a failure.
    Failed,
    /// The worker's lease ran out.
    Lost,
    /// The worker handed the job back because it was stopping; the attempt was not charged.
    Released,
    /// Somebody canceled the job.
    Canceled,
}

/// One attempt as stored.
#[derive(Debug, Clone, FromRow)]
pub struct Attempt {
    /// From 1.
    pub number: i16,
    /// Host and process id of the worker.
    pub worker_name: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; null while it runs.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it failed.
    pub failure: Option<Json<Failure>>,
    /// The end of what ffprobe wrote to its standard error.
    pub stderr_tail: Option<String>,
}

/// How attempt `number` of `job` ended.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed, if it did.
    pub failure: Option<&'a Failure>,
    /// The end of ffprobe's standard error, if it ran.
    pub stderr_tail: Option<&'a str>,
}

/// Closes an attempt.
pub async fn end(db: impl PgExecutor<'_>, job: JobId, number: i16, end: End<'_>) -> Result<()> {
    let sql = "update attempt set ended_at = clock_timestamp(), outcome = $3, failure = $4, stderr_tail = $5
        where job_id = $1 and number = $2 and ended_at is null";
    sqlx::query(sql)
        .bind(job)
        .bind(number)
        .bind(end.outcome)
        .bind(end.failure.map(Json))
        .bind(end.stderr_tail)
        .execute(db)
        .await?;
    Ok(())
}

/// Up to `limit` attempts of a job with numbers above `after`, in order.
pub async fn list(db: impl PgExecutor<'_>, job: JobId, after: i16, limit: i64) -> Result<Vec<Attempt>> {
    let sql = "select number, worker_name, started_at, ended_at, outcome, failure, stderr_tail
        from attempt where job_id = $1 and number > $2 order by number limit $3";
    Ok(sqlx::query_as(sql).bind(job).bind(after).bind(limit).fetch_all(db).await?)
}
