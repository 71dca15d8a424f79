//! The audit trail's words: who did what to what, from where, and how it ended. Made by the API for each request that is
//! audited, kept by `store::audit`. Pure: ids and times come from the caller. Nothing here may carry a secret: no key, no
//! token, no URL and no query, only names of things and a few facts.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::id::{AuditEventId, SessionId, TenantId};

/// Longest id of a target that is kept, in characters.
const MAX_TARGET_CHARS: usize = 64;
/// Actions of these families are security events: they are log lines, too.
const SECURITY: [&str; 9] = ["audit", "auth", "grant", "key", "media_root", "s3_profile", "session", "tenant", "token"];

/// What kind of actor it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[schema(as = AuditActorKind)]
pub enum ActorKind {
    /// Whoever holds an API key.
    Key,
    /// Whoever holds the tokens of a session.
    Session,
    /// Nobody that is known: no credentials, or ones that opened nothing.
    Anonymous,
    /// The service itself, going on with what a request began.
    System,
}

impl ActorKind {
    /// The word used in JSON, SQL and exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Session => "session",
            Self::Anonymous => "anonymous",
            Self::System => "system",
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[schema(as = AuditActor)]
pub struct Actor {
    /// What kind of actor.
    pub kind: ActorKind,
    /// Public id of the key, or id of the session; null for the other kinds.
    pub id: Option<String>,
}

impl Actor {
    /// Nobody that is known.
    pub const ANONYMOUS: Self = Self { kind: ActorKind::Anonymous, id: None };
    /// The service itself.
    pub const SYSTEM: Self = Self { kind: ActorKind::System, id: None };

    /// Whoever holds the key with this public id.
    pub fn key(public_id: impl Into<String>) -> Self {
        Self { kind: ActorKind::Key, id: Some(public_id.into()) }
    }

    /// Whoever holds the tokens of this session.
    pub fn session(id: SessionId) -> Self {
        Self { kind: ActorKind::Session, id: Some(id.to_string()) }
    }
}

/// What it was done to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[schema(as = AuditTarget)]
pub struct Target {
    /// The kind of thing: `job`, `upload`, `key`, …
    #[schema(example = "job")]
    pub kind: String,
    /// Its id; null if it is not one thing, or the request named none that could exist.
    pub id: Option<String>,
}

impl Target {
    /// A thing, by the id that a request named. Words that cannot be an id of ours are left out, since they may be anything.
    pub fn new(kind: &str, id: &str) -> Self {
        let decent = (1..=MAX_TARGET_CHARS).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        Self { kind: kind.to_owned(), id: decent.then(|| id.to_owned()) }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
#[schema(as = AuditOutcome)]
pub enum Outcome {
    /// It was done.
    Success,
    /// The credentials did not allow it.
    Denied,
    /// It was not done for another reason.
    Failed,
    /// It may have been done: the client went away before it was answered, or the answer was a fault of the service.
    Unknown,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Success, Self::Denied, Self::Failed, Self::Unknown];

    /// The word used in JSON, SQL and exports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// Something that was done, or was refused.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its id, made when it happened.
    pub id: AuditEventId,
    /// Whose trail it belongs to; none: nobody's.
    pub tenant: Option<TenantId>,
    /// Who did it.
    pub actor: Actor,
    /// From where.
    pub client: Option<IpAddr>,
    /// In which request.
    pub request_id: Option<String>,
    /// What: stable words joined by dots, such as `job.create`.
    pub action: &'static str,
    /// To what.
    pub target: Option<Target>,
    /// How it ended.
    pub outcome: Outcome,
    /// Status of the answer.
    pub status: Option<u16>,
    /// Code of the problem.
    pub code: Option<&'static str>,
    /// A few facts that are no secrets, at most 4 KiB of JSON.
    pub detail: Map<String, Value>,
}

impl Event {
    /// Something that the service did itself, or its operator at the command line.
    pub fn own(tenant: TenantId, action: &'static str) -> Self {
        Self {
            id: AuditEventId::new(),
            tenant: Some(tenant),
            actor: Actor::SYSTEM,
            client: None,
            request_id: None,
            action,
            target: None,
            outcome: Outcome::Success,
            status: None,
            code: None,
            detail: Map::new(),
        }
    }

    /// The same event, done to this thing.
    #[must_use]
    pub fn on(mut self, kind: &str, id: impl ToString) -> Self {
        self.target = Some(Target::new(kind, &id.to_string()));
        self
    }

    /// Whether it belongs into the log as well: whoever watches the log watches for these.
    pub fn is_security(&self) -> bool {
        self.outcome == Outcome::Denied || SECURITY.contains(&self.action.split('.').next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_id_or_nothing() {
        let id = |text: &str| Target::new("job", text).id;
        assert_eq!(id("0197-ab_C"), Some("0197-ab_C".to_owned()));
        for bad in ["", "a b", "https://u:p@h/x?sig=1", "é", "a\0b", &"x".repeat(65)] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }
}
