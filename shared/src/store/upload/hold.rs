//! The hold of one request on an upload: a token, a time until which it counts, and the wish of others for it. Every move
//! of the offset carries the token, so whoever lost the hold moves nothing.

use std::time::Duration;

use sqlx::{FromRow, PgExecutor};

use super::{Upload, bigint};
use crate::error::Result;
use crate::id::{LeaseToken, TenantId, UploadId};

/// Who holds an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Held {
    /// The holder's token; null if nobody does, or its time ran out.
    pub token: Option<LeaseToken>,
}

/// Takes the tenant's unfinished upload, if nobody holds it.
pub async fn acquire(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    id: UploadId,
    token: LeaseToken,
    lease: Duration,
) -> Result<Option<Upload>> {
    let sql = concat!(
        "update upload set lock_token = $3, lock_until = clock_timestamp() + make_interval(secs => $4), lock_wanted = false
        where id = $1 and tenant_id = $2 and state = 'receiving'
        and (lock_token is null or lock_until < clock_timestamp()) returning ",
        columns!()
    );
    Ok(sqlx::query_as(sql).bind(id).bind(tenant).bind(token).bind(lease.as_secs_f64()).fetch_optional(db).await?)
}

/// Who holds the tenant's upload; `None` if there is no such upload. Whoever does learns that it is wanted.
pub async fn want(db: impl PgExecutor<'_>, tenant: TenantId, id: UploadId) -> Result<Option<Held>> {
    let sql = "update upload set lock_wanted = (lock_token is not null)
        where id = $1 and tenant_id = $2
        returning case when lock_until >= clock_timestamp() then lock_token end as token";
    Ok(sqlx::query_as(sql).bind(id).bind(tenant).fetch_optional(db).await?)
}

/// Who holds the tenant's upload; `None` if there is no such upload.
pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, id: UploadId) -> Result<Option<Held>> {
    let sql = "select case when lock_until >= clock_timestamp() then lock_token end as token
        from upload where id = $1 and tenant_id = $2";
    Ok(sqlx::query_as(sql).bind(id).bind(tenant).fetch_optional(db).await?)
}

/// Moves the offset to `received` durable bytes, renews the hold and moves the expiry. Tells whether somebody else wants
/// the upload; `None` if the hold is lost, and then nothing was moved. A hold whose time ran out and that nobody took counts. The
/// offset never moves back: a statement that nobody waits for any more may be done late.
pub async fn renew(
    db: impl PgExecutor<'_>,
    id: UploadId,
    token: LeaseToken,
    received: u64,
    lease: Duration,
    expiry: Duration,
) -> Result<Option<bool>> {
    let sql = "update upload set received_bytes = greatest(received_bytes, $3), lock_until = clock_timestamp() + make_interval(secs => $4),
            expires_at = clock_timestamp() + make_interval(secs => $5)
        where id = $1 and lock_token = $2 and state = 'receiving' returning lock_wanted";
    Ok(sqlx::query_scalar(sql)
        .bind(id)
        .bind(token)
        .bind(bigint(received))
        .bind(lease.as_secs_f64())
        .bind(expiry.as_secs_f64())
        .fetch_optional(db)
        .await?)
}

/// Says how long an upload will be that did not say so before. `false` if the hold is lost.
pub async fn set_length(db: impl PgExecutor<'_>, id: UploadId, token: LeaseToken, length: u64) -> Result<bool> {
    let sql = "update upload set length_bytes = $3 where id = $1 and lock_token = $2 and length_bytes is null";
    Ok(sqlx::query(sql).bind(id).bind(token).bind(bigint(length)).execute(db).await?.rows_affected() == 1)
}

/// Lets go.
pub async fn release(db: impl PgExecutor<'_>, id: UploadId, token: LeaseToken) -> Result<()> {
    let sql = "update upload set lock_token = null, lock_until = null, lock_wanted = false
        where id = $1 and lock_token = $2";
    sqlx::query(sql).bind(id).bind(token).execute(db).await?;
    Ok(())
}
