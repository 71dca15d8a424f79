//! What is sealed of webhooks, for sealing it anew when the operator rotates `ENCRYPTION_KEYS`. Called by `delivery` only. The
//! tables are small: they are read as a whole.

use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use crate::error::Result;
use crate::id::TenantId;

/// Something that was sealed under another key than the one that seals now.
#[derive(Debug, FromRow)]
pub struct Stale {
    /// The webhook, if it is its URL.
    pub webhook: Option<Uuid>,
    /// The secret, if it is one.
    pub secret: Option<i64>,
    /// The owner.
    pub tenant: TenantId,
    /// As it is stored.
    pub sealed: Vec<u8>,
}

/// Up to `limit` URLs and secrets whose seal does not begin with `head`.
pub async fn list_stale(db: impl PgExecutor<'_>, head: &[u8], limit: i64) -> Result<Vec<Stale>> {
    let sql = "select id as webhook, null::bigint as secret, tenant_id as tenant, sealed from webhook
            where sealed is not null and substring(sealed from 1 for length($1)) <> $1
        union all
        select null, number, tenant_id, sealed from webhook_secret where substring(sealed from 1 for length($1)) <> $1
        limit $2";
    Ok(sqlx::query_as(sql).bind(head).bind(limit).fetch_all(db).await?)
}

/// Stores it under its new seal, unless somebody has changed it.
pub async fn replace(db: impl PgExecutor<'_>, stale: &Stale, sealed: &[u8]) -> Result<()> {
    let sql = "with url as (update webhook set sealed = $4 where id = $1 and sealed = $3)
        update webhook_secret set sealed = $4 where number = $2 and sealed = $3";
    sqlx::query(sql).bind(stale.webhook).bind(stale.secret).bind(&stale.sealed).bind(sealed).execute(db).await?;
    Ok(())
}
