//! Tenants and API keys: what a request's credentials open, and the first ones of an installation. What is done to keys and
//! tenants later lies in `key` and `tenant`.

pub mod key;
pub mod tenant;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use super::unreadable;
use crate::access::{Principal, Reach, Rights, Role, Standing, TenantLimits};
use crate::error::Result;
use crate::id::{ApiKeyId, TenantId};

/// A stored key with what it opens.
#[derive(Debug, FromRow)]
pub struct StoredKey {
    id: ApiKeyId,
    tenant_id: TenantId,
    public_id: String,
    /// HMAC of the key.
    pub digest: Vec<u8>,
    /// Whether it may be used now, by PostgreSQL's clock.
    pub standing: Standing,
    role: Role,
    platform: bool,
    scopes: Option<Vec<String>>,
    networks: Vec<String>,
    expires_at: Option<DateTime<Utc>>,
    rate_per_minute: Option<i32>,
    media_roots: Vec<String>,
    s3_profiles: Vec<String>,
    tenant_rate_per_minute: Option<i32>,
    tenant_rate_burst: Option<i32>,
    max_queued: Option<i32>,
}

impl StoredKey {
    /// The owner.
    pub fn tenant(&self) -> TenantId {
        self.tenant_id
    }

    /// The part that may be shown.
    pub fn public_id(&self) -> &str {
        &self.public_id
    }

    /// Who its bearer is, once the digest was compared.
    ///
    /// # Errors
    /// If an address range cannot be read: left out, it would open the key to everybody.
    pub fn principal(&self) -> Result<Principal> {
        let networks = self.networks.iter().map(|n| n.parse()).collect::<Result<Vec<IpNet>, _>>();
        let count = |n: Option<i32>| n.and_then(|n| u32::try_from(n).ok());
        let role = Rights::of_role(self.role, self.platform);
        Ok(Principal {
            tenant: self.tenant_id,
            key: self.id,
            key_public_id: self.public_id.clone(),
            session: None,
            role: self.role,
            platform: self.platform,
            rights: match &self.scopes {
                Some(scopes) => role.and(Rights::of_scopes(scopes.iter().map(String::as_str))),
                None => role,
            },
            expires_at: self.expires_at,
            networks: networks.map_err(|e| unreadable("API key", e))?,
            media_roots: self.media_roots.clone(),
            s3_profiles: self.s3_profiles.clone(),
            rate_per_minute: count(self.rate_per_minute),
            limits: TenantLimits {
                rate_per_minute: count(self.tenant_rate_per_minute),
                rate_burst: count(self.tenant_rate_burst),
                max_queued: count(self.max_queued),
            },
        })
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

/// What is read of a key `k` and its tenant `t`, for [`StoredKey`].
macro_rules! key_columns {
    () => {
        "k.id, k.tenant_id, k.public_id, k.digest, k.role, k.platform, k.scopes, k.networks,
            k.expires_at, k.rate_per_minute, t.media_roots, t.s3_profiles, t.rate_per_minute as tenant_rate_per_minute,
            t.rate_burst as tenant_rate_burst, t.max_queued,
            case when k.revoked_at is not null then 'revoked'
                when k.expires_at <= clock_timestamp() then 'expired'
                when t.suspended_at is not null then 'suspended'
                else 'good' end as standing"
    };
}
pub(super) use key_columns;

/// The key with this public id, whatever its standing.
pub async fn find_key(db: impl PgExecutor<'_>, public_id: &str) -> Result<Option<StoredKey>> {
    let sql = concat!(
        "select ",
        key_columns!(),
        " from api_key k join tenant t on t.id = k.tenant_id where k.public_id = $1"
    );
    Ok(sqlx::query_as(sql).bind(public_id).fetch_optional(db).await?)
}

/// Those of `keys` that exist, whatever their standing: whether somebody who was let in may stay.
pub async fn list_keys(db: impl PgExecutor<'_>, keys: &[ApiKeyId]) -> Result<Vec<StoredKey>> {
    let ids: Vec<Uuid> = keys.iter().map(|k| k.0).collect();
    let sql =
        concat!("select ", key_columns!(), " from api_key k join tenant t on t.id = k.tenant_id where k.id = any($1)");
    Ok(sqlx::query_as(sql).bind(ids).fetch_all(db).await?)
}

/// Whether any admin key with platform reach is in force: without one nobody can make another.
pub async fn any_admin_key(db: impl PgExecutor<'_>) -> Result<bool> {
    let sql = "select exists (select from api_key where role = 'admin' and platform and revoked_at is null
            and (expires_at is null or expires_at > clock_timestamp()))";
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
    insert_key_as(db, ApiKeyId::new(), key).await
}

/// Stores a key whose id was chosen before.
pub async fn insert_key_as(db: impl PgExecutor<'_>, id: ApiKeyId, key: &NewKey<'_>) -> Result<ApiKeyId> {
    let sql = "insert into api_key (id, tenant_id, public_id, digest, name, role, platform)
        values ($1, $2, $3, $4, $5, $6, $7) returning id";
    Ok(sqlx::query_scalar(sql)
        .bind(id)
        .bind(key.tenant)
        .bind(key.public_id)
        .bind(key.digest.as_slice())
        .bind(key.name)
        .bind(key.role)
        .bind(key.reach == Reach::Platform)
        .fetch_one(db)
        .await?)
}
