//! API keys as clients see them. The whole key is in the answer that made it, and in no other.

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::access::{Right, Role, Standing};
use shared::id::ApiKeyId;
use shared::store::access::key::KeyRecord;
use utoipa::ToSchema;

/// Whether a key is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It is.
    Active,
    /// Its time is over.
    Expired,
    /// Somebody revoked it.
    Revoked,
}

/// An API key.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "0199a3c2-5f0e-7d35-8a55-0b6f2f3a9c11", "public_id": "0Ahk2Xw9Zr1Q", "name": "ingest", "role": "submitter",
    "platform": false, "scopes": ["jobs:write", "jobs:read"], "rights": ["jobs:read", "jobs:write"],
    "networks": ["192.0.2.0/24"], "rate_per_minute": null, "state": "active", "created_at": "2026-01-01T00:00:00Z",
    "created_by": "0199a3c2-5f0e-7d35-8a55-0b6f2f3a9c10", "expires_at": "2027-01-01T00:00:00Z", "revoked_at": null,
    "replaced_by": null, "last_used_at": "2026-01-02T00:00:00Z", "last_used_from": "192.0.2.7"
}))]
pub struct KeyView {
    /// Its id, for calls about it.
    pub id: ApiKeyId,
    /// The part of the key between its underscores; it may be shown and logged.
    pub public_id: String,
    /// The whole key. It is in the answer that made it and never again, not even if that request is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub key: Option<String>,
    /// A name for people.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// Whether it reaches beyond its tenant: tenants and queues.
    pub platform: bool,
    /// Rights it is narrowed to; null: everything its role carries.
    pub scopes: Option<Vec<String>>,
    /// What it may do: the rights of its role that its scopes leave.
    pub rights: Vec<Right>,
    /// Address ranges it may be used from; all if empty.
    pub networks: Vec<String>,
    /// Most requests a minute of this key alone; null: as the operator's settings say.
    pub rate_per_minute: Option<i32>,
    /// Whether it is in force.
    pub state: KeyState,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The key that made it; null: the operator's command line, or one that is forgotten.
    pub created_by: Option<ApiKeyId>,
    /// When it opens nothing any more; null: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The key that takes over, after a rotation.
    pub replaced_by: Option<ApiKeyId>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// From where it was used then.
    pub last_used_from: Option<String>,
}

impl From<KeyRecord> for KeyView {
    fn from(key: KeyRecord) -> Self {
        Self {
            rights: key.rights().iter().collect(),
            id: key.id,
            public_id: key.public_id,
            key: None,
            name: key.name,
            role: key.role,
            platform: key.platform,
            scopes: key.scopes,
            networks: key.networks,
            rate_per_minute: key.rate_per_minute,
            state: match key.standing {
                Standing::Good | Standing::Suspended => KeyState::Active,
                Standing::Expired => KeyState::Expired,
                Standing::Revoked => KeyState::Revoked,
            },
            created_at: key.created_at,
            created_by: key.created_by,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
            replaced_by: key.replaced_by,
            last_used_at: key.last_used_at,
            last_used_from: key.last_used_from,
        }
    }
}

/// A page of API keys.
#[derive(Serialize, ToSchema)]
pub struct KeyPage {
    /// The keys, the newest first.
    pub data: Vec<KeyView>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// For the next page; null on the last.
    pub next_cursor: Option<String>,
}
