//! Answers kept for repeated requests.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::error::{Code, Error, Result};
use crate::id::TenantId;

/// SQLSTATE of a lock that was waited for too long.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A request that may be repeated.
#[derive(Debug, Clone)]
pub struct Request {
    /// The client's word for it.
    pub key: String,
    /// Method and route, with the id of what it is done to.
    pub operation: String,
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
    /// What it made: a job, a key, a tenant.
    pub made: Uuid,
    /// The body of its answer.
    pub answer: String,
}

/// Begins a request that is done once and makes `made`: reserves its key until the transaction ends. Something comes back if
/// the same request was done before: what it did then. Waits for a transaction that is just doing it.
///
/// # Errors
/// If the key was used for another request, or the wait takes too long.
pub async fn begin(tx: &mut PgConnection, tenant: TenantId, request: &Request, made: Uuid) -> Result<Option<Kept>> {
    if reserve(&mut *tx, tenant, request, made).await? {
        return Ok(None);
    }
    // forgotten between the two looks: as if it were still in progress
    let kept = find(&mut *tx, tenant, &request.key).await?.ok_or_else(|| {
        Error::new(Code::IdempotencyInProgress, "The Idempotency-Key was just released. Repeat the request.")
    })?;
    if kept.operation != request.operation || kept.fingerprint != request.fingerprint {
        let detail = "This Idempotency-Key was used for another request. Send the same body as then, or a new key.";
        return Err(Error::new(Code::IdempotencyMismatch, detail));
    }
    Ok(Some(kept))
}

async fn reserve(db: impl PgExecutor<'_>, tenant: TenantId, request: &Request, made: Uuid) -> Result<bool> {
    let sql = "insert into idempotency (tenant_id, key, operation, fingerprint, job_id, answer) values ($1, $2, $3, $4, $5, '')
        on conflict on constraint idempotency_pkey do nothing";
    let done = sqlx::query(sql)
        .bind(tenant)
        .bind(&request.key)
        .bind(&request.operation)
        .bind(request.fingerprint.as_slice())
        .bind(made)
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

/// What the first request with a key did.
pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, key: &str) -> Result<Option<Kept>> {
    let sql =
        "select operation, fingerprint, job_id as made, answer from idempotency where tenant_id = $1 and key = $2";
    Ok(sqlx::query_as(sql).bind(tenant).bind(key).fetch_optional(db).await?)
}

/// Forgets up to `limit` keys older than `age`. Returns how many.
pub async fn prune(db: impl PgExecutor<'_>, age: Duration, limit: i64) -> Result<u64> {
    let sql = "delete from idempotency where (tenant_id, key) in (
            select tenant_id, key from idempotency where created_at < clock_timestamp() - make_interval(secs => $1)
            order by created_at limit $2)";
    Ok(sqlx::query(sql).bind(age.as_secs_f64()).bind(limit).execute(db).await?.rows_affected())
}
