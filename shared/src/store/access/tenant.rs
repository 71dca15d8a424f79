//! Tenants as they are managed: listed, changed, suspended, and what they use. Called by `tenancy`, which decides, and by the
//! API for lists. Nothing here reads keys.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgExecutor};

use super::Grants;
use super::key::After;
use crate::error::{Code, Error, Result};
use crate::id::TenantId;
use crate::store::violates;

/// The columns of a [`Tenant`].
macro_rules! columns {
    () => {
        "id, name, created_at, suspended_at, media_roots, s3_profiles, rate_per_minute, rate_burst, max_queued, max_running,
         max_open_uploads, max_stored_bytes"
    };
}

/// A tenant as stored.
#[derive(Debug, Clone, FromRow)]
pub struct Tenant {
    /// The tenant.
    pub id: TenantId,
    /// Its name, unique in the installation.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when its keys open nothing.
    pub suspended_at: Option<DateTime<Utc>>,
    /// Names of media roots its jobs may read; `*` is every root.
    pub media_roots: Vec<String>,
    /// Names of S3 profiles its jobs may use; `*` is every profile.
    pub s3_profiles: Vec<String>,
    /// How much it may have.
    #[sqlx(flatten)]
    pub limits: Limits,
}

/// How much a tenant may have; none: as the settings say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
pub struct Limits {
    /// Most requests a minute of all its keys together.
    pub rate_per_minute: Option<i32>,
    /// Most requests at once beyond that rate.
    pub rate_burst: Option<i32>,
    /// Most jobs that may wait.
    pub max_queued: Option<i32>,
    /// Most jobs running at once; none: as many as there are slots.
    pub max_running: Option<i32>,
    /// Most unfinished uploads.
    pub max_open_uploads: Option<i32>,
    /// Most bytes of uploads.
    pub max_stored_bytes: Option<i64>,
}

/// Whether the keys of a tenant open anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// They do.
    Served,
    /// They do not.
    Suspended,
}

/// Everything of a tenant that may be changed.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Its name.
    pub name: String,
    /// Whether its keys open anything.
    pub service: Service,
    /// What it may read besides its own uploads.
    pub grants: Grants,
    /// How much it may have.
    pub limits: Limits,
}

/// The tenant with this id.
pub async fn find(db: impl PgExecutor<'_>, id: TenantId) -> Result<Option<Tenant>> {
    let sql = concat!("select ", columns!(), " from tenant where id = $1");
    Ok(sqlx::query_as(sql).bind(id).fetch_optional(db).await?)
}

/// The same, and nobody else changes it or makes keys of it until the transaction ends.
pub async fn find_for_update(db: impl PgExecutor<'_>, id: TenantId) -> Result<Option<Tenant>> {
    let sql = concat!("select ", columns!(), " from tenant where id = $1 for no key update");
    Ok(sqlx::query_as(sql).bind(id).fetch_optional(db).await?)
}

/// The tenants from there on, the newest first.
pub async fn list(db: impl PgExecutor<'_>, after: Option<After>, limit: i64) -> Result<Vec<Tenant>> {
    let sql = concat!(
        "select ",
        columns!(),
        " from tenant where $1::timestamptz is null or (created_at, id) < ($1, $2)
            order by created_at desc, id desc limit $3"
    );
    let (at, id) = (after.map(|a| a.created_at), after.map(|a| a.id));
    Ok(sqlx::query_as(sql).bind(at).bind(id).bind(limit).fetch_all(db).await?)
}

/// How many tenants there are.
pub async fn count(db: impl PgExecutor<'_>) -> Result<i64> {
    Ok(sqlx::query_scalar("select count(*) from tenant").fetch_one(db).await?)
}

/// Stores a tenant of which nothing is said yet but its name.
///
/// # Errors
/// `tenant_name_taken`, pointing at `/name`.
pub async fn insert(db: impl PgExecutor<'_>, id: TenantId, name: &str) -> Result<()> {
    let done = sqlx::query("insert into tenant (id, name) values ($1, $2)").bind(id).bind(name).execute(db).await;
    done.map(drop).map_err(taken)
}

/// Sets everything that may be changed. One that is suspended already keeps the time.
///
/// # Errors
/// `tenant_name_taken`, pointing at `/name`.
pub async fn update(db: impl PgExecutor<'_>, id: TenantId, terms: &Terms) -> Result<Tenant> {
    let sql = concat!(
        "update tenant set name = $2, suspended_at = case when $3 then coalesce(suspended_at, clock_timestamp()) end,
            media_roots = $4, s3_profiles = $5, rate_per_minute = $6, rate_burst = $7, max_queued = $8, max_running = $9,
            max_open_uploads = $10, max_stored_bytes = $11
            where id = $1 returning ",
        columns!()
    );
    let limits = &terms.limits;
    let updated = sqlx::query_as(sql)
        .bind(id)
        .bind(&terms.name)
        .bind(terms.service == Service::Suspended)
        .bind(&terms.grants.media_roots)
        .bind(&terms.grants.s3_profiles)
        .bind(limits.rate_per_minute)
        .bind(limits.rate_burst)
        .bind(limits.max_queued)
        .bind(limits.max_running)
        .bind(limits.max_open_uploads)
        .bind(limits.max_stored_bytes)
        .fetch_one(db)
        .await;
    updated.map_err(taken)
}

fn taken(error: sqlx::Error) -> Error {
    if violates(&error, "tenant_name_unique") {
        return Error::new(Code::TenantNameTaken, "Another tenant has this name. Choose another.").at("/name");
    }
    error.into()
}

/// What a tenant has now.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Usage {
    /// Jobs that wait.
    pub queued: i64,
    /// Jobs that run.
    pub running: i64,
    /// Unfinished uploads.
    pub open_uploads: i64,
    /// Bytes of its uploads, stored or announced.
    pub stored_bytes: i64,
}

/// What the tenant has now. Of each kind at most `most` are looked at, so that the answer costs little however many there
/// are.
pub async fn usage(db: impl PgExecutor<'_>, id: TenantId, most: i64) -> Result<Usage> {
    let sql = "select
            (select count(*) from (select from job where tenant_id = $1 and state = 'queued' limit $2) j) as queued,
            (select count(*) from (select from job where tenant_id = $1 and state = 'running' limit $2) j) as running,
            count(*) filter (where u.state = 'receiving') as open_uploads,
            coalesce(sum(coalesce(u.size_bytes, greatest(u.received_bytes, u.length_bytes))), 0)::bigint as stored_bytes
        from (select state, size_bytes, received_bytes, length_bytes from upload
            where tenant_id = $1 and state in ('receiving', 'complete') limit $2) u";
    Ok(sqlx::query_as(sql).bind(id).bind(most).fetch_one(db).await?)
}
