//! Tenants and API keys.

use sqlx::{FromRow, PgExecutor};

use crate::access::{Principal, Role};
use crate::error::Result;
use crate::id::{ApiKeyId, TenantId};

/// A stored key with what it opens.
#[derive(Debug, FromRow)]
pub struct StoredKey {
    id: ApiKeyId,
    tenant_id: TenantId,
    /// HMAC of the key.
    pub digest: Vec<u8>,
    role: Role,
    platform: bool,
    media_roots: Vec<String>,
    s3_profiles: Vec<String>,
}

impl StoredKey {
    /// Who its bearer is, once the digest was compared.
    pub fn into_principal(self) -> Principal {
        Principal {
            tenant: self.tenant_id,
            key: self.id,
            role: self.role,
            platform: self.platform,
            media_roots: self.media_roots,
            s3_profiles: self.s3_profiles,
        }
    }
}

/// A key about to be stored.
#[derive(Debug)]
pub struct NewKey<'a> {
    /// The owner.
    pub tenant: TenantId,
    /// The part that may be shown.
    pub public_id: &'a str,
    /// HMAC of the whole key.
    pub digest: [u8; 32],
    /// A name for people.
    pub name: &'a str,
    /// What it may do in the tenant.
    pub role: Role,
    /// How far it reaches beyond the tenant.
    pub reach: Reach,
}

/// How far a key reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Its tenant only.
    Tenant,
    /// The whole installation: tenants, queues, workers.
    Platform,
}

/// The key with this public id, unless it was revoked.
pub async fn find_key(db: impl PgExecutor<'_>, public_id: &str) -> Result<Option<StoredKey>> {
    let sql = "select k.id, k.tenant_id, k.digest, k.role, k.platform, t.media_roots, t.s3_profiles
        from api_key k join tenant t on t.id = k.tenant_id
        where k.public_id = $1 and k.revoked_at is null";
    Ok(sqlx::query_as(sql).bind(public_id).fetch_optional(db).await?)
}

/// Whether any admin key is in force.
pub async fn any_admin_key(db: impl PgExecutor<'_>) -> Result<bool> {
    let sql = "select exists (select from api_key where role = 'admin' and revoked_at is null)";
    Ok(sqlx::query_scalar(sql).fetch_one(db).await?)
}

/// Serialises everybody who wants to create the first key, until the transaction ends.
pub async fn lock_bootstrap(db: impl PgExecutor<'_>) -> Result<()> {
    sqlx::query("lock table api_key in share row exclusive mode").execute(db).await?;
    Ok(())
}

/// What a tenant may read besides its own uploads.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Names of media roots; `*` for all.
    pub media_roots: Vec<String>,
    /// Names of S3 profiles; `*` for all.
    pub s3_profiles: Vec<String>,
}

/// The tenant of this name; created with these grants, if it is missing.
pub async fn ensure_tenant(db: impl PgExecutor<'_>, name: &str, grants: &Grants) -> Result<TenantId> {
    let sql = "insert into tenant (id, name, media_roots, s3_profiles) values ($1, $2, $3, $4)
        on conflict on constraint tenant_name_unique do update set name = excluded.name returning id";
    Ok(sqlx::query_scalar(sql)
        .bind(TenantId::new())
        .bind(name)
        .bind(&grants.media_roots)
        .bind(&grants.s3_profiles)
        .fetch_one(db)
        .await?)
}

/// Stores a key.
pub async fn insert_key(db: impl PgExecutor<'_>, key: &NewKey<'_>) -> Result<ApiKeyId> {
    let sql = "insert into api_key (id, tenant_id, public_id, digest, name, role, platform)
        values ($1, $2, $3, $4, $5, $6, $7) returning id";
    Ok(sqlx::query_scalar(sql)
        .bind(ApiKeyId::new())
        .bind(key.tenant)
        .bind(key.public_id)
        .bind(key.digest.as_slice())
        .bind(key.name)
        .bind(key.role)
        .bind(key.reach == Reach::Platform)
        .fetch_one(db)
        .await?)
}
