//! Tenants as those see them who run the platform, and as a tenant sees itself.

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::id::TenantId;
use shared::store::access::tenant::{Limits, Tenant, Usage};
use utoipa::ToSchema;

/// How much a tenant may have. Null: as the operator's settings say.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"rate_per_minute": 600, "rate_burst": 100, "max_queued": 10_000, "max_running": 4, "max_open_uploads": null, "max_stored_bytes": null}))]
pub struct LimitsView {
    /// Most requests a minute of all its keys together.
    pub rate_per_minute: Option<i32>,
    /// Most requests at once beyond that rate.
    pub rate_burst: Option<i32>,
    /// Most jobs that may wait.
    pub max_queued: Option<i32>,
    /// Most jobs running at once; null: as many as there are slots.
    pub max_running: Option<i32>,
    /// Most unfinished uploads.
    pub max_open_uploads: Option<i32>,
    /// Most bytes of uploads.
    pub max_stored_bytes: Option<i64>,
}

impl From<Limits> for LimitsView {
    fn from(limits: Limits) -> Self {
        Self {
            rate_per_minute: limits.rate_per_minute,
            rate_burst: limits.rate_burst,
            max_queued: limits.max_queued,
            max_running: limits.max_running,
            max_open_uploads: limits.max_open_uploads,
            max_stored_bytes: limits.max_stored_bytes,
        }
    }
}

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantView {
    /// Its id, for calls about it.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Whether its keys open nothing at the moment.
    pub suspended: bool,
    /// Since when.
    pub suspended_at: Option<DateTime<Utc>>,
    /// Media roots its jobs may read; `*` is every root, those of tomorrow too.
    #[schema(example = json!(["archive"]))]
    pub media_roots: Vec<String>,
    /// S3 profiles its jobs may use; `*` is every profile, those of tomorrow too.
    #[schema(example = json!(["*"]))]
    pub s3_profiles: Vec<String>,
    /// How much it may have.
    pub limits: LimitsView,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id,
            name: tenant.name,
            created_at: tenant.created_at,
            suspended: tenant.suspended_at.is_some(),
            suspended_at: tenant.suspended_at,
            media_roots: tenant.media_roots,
            s3_profiles: tenant.s3_profiles,
            limits: tenant.limits.into(),
        }
    }
}

/// A page of tenants.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantPage {
    /// The tenants, the newest first.
    pub data: Vec<TenantView>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// For the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// What a tenant has now. Of each kind at most 100,000 are counted.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageView {
    /// Jobs that wait.
    #[schema(minimum = 0)]
    pub queued: i64,
    /// Jobs that run.
    #[schema(minimum = 0)]
    pub running: i64,
    /// Unfinished uploads.
    #[schema(minimum = 0)]
    pub open_uploads: i64,
    /// Bytes of its uploads, stored or announced.
    #[schema(minimum = 0)]
    pub stored_bytes: i64,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        let Usage { queued, running, open_uploads, stored_bytes } = usage;
        Self { queued, running, open_uploads, stored_bytes }
    }
}

/// The caller's own tenant.
#[derive(Debug, Serialize, ToSchema)]
pub struct CurrentTenantView {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// Media roots its jobs may read; `*` is every root.
    #[schema(example = json!(["archive"]))]
    pub media_roots: Vec<String>,
    /// S3 profiles its jobs may use; `*` is every profile.
    #[schema(example = json!(["*"]))]
    pub s3_profiles: Vec<String>,
    /// How much it may have.
    pub limits: LimitsView,
    /// How much it has.
    pub usage: UsageView,
}
