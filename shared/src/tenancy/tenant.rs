//! The life of a tenant: create and change, suspend and resume among that. Called by the routes of tenants, for those who run
//! the platform. No tenant is erased here: its jobs and uploads would be, too.

use sqlx::PgPool;

use super::{Beside, Made, Stewardship};
use crate::access::Principal;
use crate::audit::Event;
use crate::error::{Code, Error, Result};
use crate::id::TenantId;
use crate::store;
use crate::store::access::Grants;
use crate::store::access::tenant::{Limits, Service, Tenant, Terms};
use crate::store::idempotency::Request;

/// Most tenants of an installation: turns are taken among all of them.
pub const MOST_TENANTS: i64 = 10_000;

/// Makes a tenant, and what `beside` makes of it.
///
/// # Errors
/// `tenant_name_taken`, `too_many_tenants`.
pub async fn create(
    db: &PgPool,
    who: &Principal,
    terms: &Terms,
    request: Option<&Request>,
    beside: impl FnOnce(&Tenant) -> Result<Beside>,
) -> Result<Made<Tenant>> {
    let (id, mut tx) = (TenantId::new(), db.begin().await?);
    if let Some(request) = request
        && let Some(kept) = store::idempotency::begin(&mut tx, who.tenant, request, id.0).await?
    {
        return Ok(Made::Repeated(kept));
    }
    // two at once may both take the last place, which does no harm here
    if store::access::tenant::count(&mut *tx).await? >= MOST_TENANTS {
        let detail = format!("There are {MOST_TENANTS} tenants, which is the most. Rename one that is not needed.");
        return Err(Error::new(Code::TooManyTenants, detail));
    }
    store::access::tenant::insert(&mut *tx, id, &terms.name).await?;
    let tenant = store::access::tenant::update(&mut *tx, id, terms).await?;
    let beside = beside(&tenant)?;
    store::audit::insert(&mut *tx, &beside.event).await?;
    if let Some(request) = request {
        store::idempotency::keep(&mut *tx, who.tenant, &request.key, &beside.answer).await?;
    }
    tx.commit().await?;
    Ok(Made::New(tenant))
}

/// What changes of a tenant; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Its name.
    pub name: Option<String>,
    /// Whether its keys open anything.
    pub service: Option<Service>,
    /// Media roots it is granted.
    pub media_roots: Option<Vec<String>>,
    /// S3 profiles it is granted.
    pub s3_profiles: Option<Vec<String>>,
    /// How much it may have.
    pub limits: LimitsChange,
}

/// What changes of a tenant's limits; `Some(None)` is as the settings say.
#[derive(Debug, Clone, Copy, Default)]
pub struct LimitsChange {
    /// Most requests a minute of all its keys together.
    pub rate_per_minute: Option<Option<i32>>,
    /// Most requests at once beyond that rate.
    pub rate_burst: Option<Option<i32>>,
    /// Most jobs that may wait.
    pub max_queued: Option<Option<i32>>,
    /// Most jobs running at once.
    pub max_running: Option<Option<i32>>,
    /// Most unfinished uploads.
    pub max_open_uploads: Option<Option<i32>>,
    /// Most bytes of uploads.
    pub max_stored_bytes: Option<Option<i64>>,
}

impl LimitsChange {
    /// The limits after it.
    pub fn apply(self, old: Limits) -> Limits {
        Limits {
            rate_per_minute: self.rate_per_minute.unwrap_or(old.rate_per_minute),
            rate_burst: self.rate_burst.unwrap_or(old.rate_burst),
            max_queued: self.max_queued.unwrap_or(old.max_queued),
            max_running: self.max_running.unwrap_or(old.max_running),
            max_open_uploads: self.max_open_uploads.unwrap_or(old.max_open_uploads),
            max_stored_bytes: self.max_stored_bytes.unwrap_or(old.max_stored_bytes),
        }
    }
}

/// Changes a tenant; `event` tells of it. While it is suspended its keys open nothing; its jobs that wait or run go on.
///
/// # Errors
/// `not_found`; `tenant_name_taken`; `last_admin_key` if the last key that manages the platform would be suspended with it.
pub async fn change(db: &PgPool, id: TenantId, change: Change, event: &Event) -> Result<Tenant> {
    let mut tx = db.begin().await?;
    let old = store::access::tenant::find_for_update(&mut *tx, id).await?;
    let old = old.ok_or_else(|| Error::not_found("tenant"))?;
    let same = if old.suspended_at.is_some() { Service::Suspended } else { Service::Served };
    let service = change.service.unwrap_or(same);
    let terms = Terms {
        name: change.name.unwrap_or(old.name),
        service,
        grants: Grants {
            media_roots: change.media_roots.unwrap_or(old.media_roots),
            s3_profiles: change.s3_profiles.unwrap_or(old.s3_profiles),
        },
        limits: change.limits.apply(old.limits),
    };
    let watch = match service {
        Service::Suspended => Some(Stewardship::watch(&mut tx, None).await?),
        Service::Served => None,
    };
    let tenant = store::access::tenant::update(&mut *tx, id, &terms).await?;
    if let Some(watch) = watch {
        watch.check(&mut tx).await?;
    }
    store::audit::insert(&mut *tx, event).await?;
    tx.commit().await?;
    Ok(tenant)
}
