//! Answers kept for repeated requests.

use std::time::Duration;

use sqlx::{FromRow, PgExecutor};

use crate::error::{Code, Error, Result};
use crate::id::{JobId, TenantId};

/// SQLSTATE of a lock that was waited for too long.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A request that may be repeated.
#[derive(Debug, Clone)]
pub struct Request {
    /// The client's word for it.
    pub key: String,
    /// Method and route.
    pub operation: &'static str,
    /// SHA-256 of the body.
    pub fingerprint: [u8; 32],
}

/// What the first request with a key did.
#[derive(Debug, Clone, FromRow)]
pub struct Kept {
    /// Method and route.
    pub operation: String,
    /// SHA-256 of its body.
    pub fingerprint: Vec<u8>,
    /// The job it made.
    pub job_id: JobId,
    /// The body of its answer.
    pub answer: String,
}

/// Reserves a key until the transaction ends; `false` if it was used before. Waits for a transaction that is just using
/// it.
pub async fn reserve(db: impl PgExecutor<'_>, tenant: TenantId, request: &Request, job: JobId) -> Result<bool> {
    let sql = "insert into idempotency (tenant_id, key, operation, fingerprint, job_id, answer) values ($1, $2, $3, $4, $5, '')
        on conflict on constraint idempotency_pkey do nothing";
    let done = sqlx::query(sql)
        .bind(tenant)
        .bind(&request.key)
        .bind(request.operation)
        .bind(request.fingerprint.as_slice())
        .bind(job)
        .execute(db)
        .await;
    match done {
        Ok(done) => Ok(done.rows_affected() == 1),
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
            let detail = "The first request with this Idempotency-Key is still being handled. Repeat it in a second.";
            Err(Error::new(Code::IdempotencyInProgress, detail))
        }
        Err(e) => Err(e.into()),
    }
}

/// Keeps the answer of the request that reserved the key.
pub async fn keep(db: impl PgExecutor<'_>, tenant: TenantId, key: &str, answer: &str) -> Result<()> {
    let sql = "update idempotency set answer = $3 where tenant_id = $1 and key = $2";
    sqlx::query(sql).bind(tenant).bind(key).bind(answer).execute(db).await?;
    Ok(())
}

/// What the first request with this key did.
pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, key: &str) -> Result<Option<Kept>> {
    let sql = "select operation, fingerprint, job_id, answer from idempotency where tenant_id = $1 and key = $2";
    Ok(sqlx::query_as(sql).bind(tenant).bind(key).fetch_optional(db).await?)
}

/// Forgets up to `limit` keys older than `age`. Returns how many.
pub async fn prune(db: impl PgExecutor<'_>, age: Duration, limit: i64) -> Result<u64> {
    let sql = "delete from idempotency where (tenant_id, key) in (
            select tenant_id, key from idempotency where created_at < clock_timestamp() - make_interval(secs => $1)
            order by created_at limit $2)";
    Ok(sqlx::query(sql).bind(age.as_secs_f64()).bind(limit).execute(db).await?.rows_affected())
}
