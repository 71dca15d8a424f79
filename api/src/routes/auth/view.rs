//! What `/api/v1/auth` answers: tokens, who one is, sessions. Tokens stand in one of them and are never printed.

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::access::{Principal, Right, Role};
use shared::id::{SessionId, TenantId};
use shared::store::session::ListedSession;
use utoipa::ToSchema;

/// Tokens (RFC 6749 §5.1).
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "access_token": "eyJ0eXAiOiJhdCtqd3QiLCJhbGciOiJIUzI1NiIsImtpZCI6Ij…", "token_type": "Bearer", "expires_in": 900,
    "refresh_token": "ffr_2kX…", "refresh_expires_in": 604_800, "scope": "jobs:read jobs:write"
}))]
pub struct TokenAnswer {
    /// For `Authorization: Bearer`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// Seconds that the access token lasts.
    pub expires_in: i64,
    /// For the next refresh, and for that one only.
    pub refresh_token: String,
    /// Seconds that the refresh token lasts if it is not used.
    pub refresh_expires_in: i64,
    /// What the access token may do now: rights joined by spaces. It never exceeds what its key may do.
    pub scope: String,
}

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "tenant_id": "019a3c2f-5f0e-7d35-8a55-0b6f2f3a9c11", "key": "4yWq9ZkTb2Lm", "role": "submitter", "platform": false,
    "rights": ["jobs:read", "jobs:write"], "expires_at": "2030-01-01T06:00:00Z",
    "session_id": "019a3c30-11aa-7c3e-9d0e-3f1c52aa7b02"
}))]
pub struct Me {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Public id of the API key, or of the one that the session was begun with.
    pub key: String,
    /// The key's role.
    pub role: Role,
    /// Whether it reaches beyond its tenant.
    pub platform: bool,
    /// What these credentials may do: the role's rights, as far as the scopes of key, session and token go.
    pub rights: Vec<Right>,
    /// When the credentials end: the access token, or the key itself; null: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// The session; null if the key itself was sent.
    pub session_id: Option<SessionId>,
}

impl From<&Principal> for Me {
    fn from(who: &Principal) -> Self {
        Self {
            tenant_id: who.tenant,
            key: who.key_public_id.clone(),
            role: who.role,
            platform: who.platform,
            rights: who.rights.iter().collect(),
            expires_at: who.expires_at,
            session_id: who.session,
        }
    }
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionView {
    /// Its id.
    pub id: SessionId,
    /// Public id of the key that it was begun with.
    pub key: String,
    /// Whether it is the one that this request belongs to.
    pub current: bool,
    /// Rights that it is narrowed to; null: all that its key has.
    pub scopes: Option<Vec<String>>,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it was last refreshed; its beginning, if it never was.
    pub last_used_at: DateTime<Utc>,
    /// From where that was.
    pub last_used_from: String,
    /// When it ends, however often it is refreshed.
    pub expires_at: DateTime<Utc>,
}

impl SessionView {
    /// A session as `who` sees it.
    pub fn new(session: ListedSession, who: &Principal) -> Self {
        Self {
            current: who.session == Some(session.id),
            id: session.id,
            key: session.key_public_id,
            scopes: session.scopes,
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            last_used_from: session.last_used_from,
            expires_at: session.expires_at,
        }
    }
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub struct SessionPage {
    /// The sessions, newest first.
    pub data: Vec<SessionView>,
    /// Whether there are more.
    pub has_more: bool,
    /// For the next page; null on the last.
    pub next_cursor: Option<String>,
}
