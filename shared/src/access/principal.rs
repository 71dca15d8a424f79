//! Who is asking: the outcome of checking credentials. Made by the store from rows, used by every handler; it is cached for
//! a second at most and never changes after it was made.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Rights, Role};
use crate::id::{ApiKeyId, TenantId};

/// Who is asking.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Owner of everything the request may see.
    pub tenant: TenantId,
    /// The key that was used, or that the token was made with.
    pub key: ApiKeyId,
    /// The part of that key that may be shown and logged.
    pub key_public_id: String,
    /// What it may do at most.
    pub role: Role,
    /// Whether it reaches beyond its tenant: tenants, queues, workers.
    pub platform: bool,
    /// What it may do: its role's rights, as far as its scopes go.
    pub rights: Rights,
    /// Address ranges it may be used from; all if empty.
    pub networks: Vec<IpNet>,
    /// Names of media roots granted to the tenant; `*` is every root.
    pub media_roots: Vec<String>,
    /// Names of S3 profiles granted to the tenant; `*` is every profile.
    pub s3_profiles: Vec<String>,
    /// Most requests a minute of this key alone; none: as the settings say.
    pub rate_per_minute: Option<u32>,
    /// How much the tenant may have, where its own row says so.
    pub limits: TenantLimits,
}

impl Principal {
    /// Whether its credentials may be used from there.
    pub fn may_come_from(&self, address: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|n| n.contains(&address))
    }
}

/// What a tenant's own row says instead of the settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Most requests a minute of all its keys together.
    pub rate_per_minute: Option<u32>,
    /// Most requests at once beyond that rate.
    pub rate_burst: Option<u32>,
    /// Most jobs that may wait.
    pub max_queued: Option<u32>,
}

/// Whether a key that is known may be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Standing {
    /// It may.
    Good,
    /// Somebody revoked it.
    Revoked,
    /// Its time is over.
    Expired,
    /// Its tenant is suspended.
    Suspended,
}
