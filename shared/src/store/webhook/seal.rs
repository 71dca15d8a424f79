//! What is sealed of webhooks, for sealing it anew when the operator rotates `ENCRYPTION_KEYS`. Called by `delivery` only.

use sqlx::{FromRow, PgExecutor};

use crate::error::Result;
use crate::id::TenantId;

/// What is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealed {
    /// The URLs of endpoints.
    Urls,
    /// Secrets.
    Secrets,
}

/// Something that was sealed under another key than the one that seals now.
#[derive(Debug, FromRow)]
pub struct Stale {
    /// Which one it is.
    pub place: String,
    /// The owner.
    pub tenant: TenantId,
    /// As it is stored.
    pub sealed: Vec<u8>,
}

/// Up to `limit` whose seal does not begin with `head`, those after the place `after`, in the order of their places.
pub async fn list_stale(
    db: impl PgExecutor<'_>,
    what: Sealed,
    head: &[u8],
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Stale>> {
    let sql = match what {
        Sealed::Urls => {
            "select id::text as place, tenant_id as tenant, sealed from webhook
                where sealed is not null and substring(sealed from 1 for length($1)) <> $1
                    and ($2::text is null or id > $2::text::uuid) order by id limit $3"
        }
        Sealed::Secrets => {
            "select number::text as place, tenant_id as tenant, sealed from webhook_secret
                where substring(sealed from 1 for length($1)) <> $1
                    and ($2::text is null or number > $2::text::bigint) order by number limit $3"
        }
    };
    Ok(sqlx::query_as(sql).bind(head).bind(after).bind(limit).fetch_all(db).await?)
}

/// Stores them under their new seals, except those that somebody has changed. Returns how many.
pub async fn replace(db: impl PgExecutor<'_>, what: Sealed, renewed: &[(Stale, Vec<u8>)]) -> Result<u64> {
    let places: Vec<_> = renewed.iter().map(|(stale, _)| stale.place.as_str()).collect();
    let old: Vec<_> = renewed.iter().map(|(stale, _)| stale.sealed.as_slice()).collect();
    let new: Vec<_> = renewed.iter().map(|(_, sealed)| sealed.as_slice()).collect();
    let sql = match what {
        Sealed::Urls => {
            "update webhook w set sealed = r.new from unnest($1::text[], $2::bytea[], $3::bytea[]) r (place, old, new)
                where w.id = r.place::uuid and w.sealed = r.old"
        }
        Sealed::Secrets => {
            "update webhook_secret s set sealed = r.new
                from unnest($1::text[], $2::bytea[], $3::bytea[]) r (place, old, new)
                where s.number = r.place::bigint and s.sealed = r.old"
        }
    };
    Ok(sqlx::query(sql).bind(places).bind(old).bind(new).execute(db).await?.rows_affected())
}
