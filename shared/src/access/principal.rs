//! Who is asking: the outcome of checking credentials. Made by the store from rows, used by every handler; it is cached for
//! a second at most and never changes after it was made.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use ipnet::IpNet;

use super::{Reach, Right, Rights, Role};
use crate::error::{Code, Error};
use crate::id::{ApiKeyId, SessionId, TenantId};

/// Who is asking.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Owner of everything the request may see.
    pub tenant: TenantId,
    /// The key that was used, or that the token was made with.
    pub key: ApiKeyId,
    /// The part of that key that may be shown and logged.
    pub key_public_id: String,
    /// The session of the token that was used; none if it was the key itself.
    pub session: Option<SessionId>,
    /// What it may do at most.
    pub role: Role,
    /// Whether it reaches beyond its tenant: tenants, queues, workers.
    pub platform: bool,
    /// What it may do: its role's rights, as far as its scopes go.
    pub rights: Rights,
    /// When its credentials end: the token, or the key itself; none: never.
    pub expires_at: Option<DateTime<Utc>>,
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
    /// The same, with no right beyond these.
    #[must_use]
    pub fn narrowed(mut self, to: Rights) -> Self {
        self.rights = self.rights.and(to);
        self
    }

    /// Whether its credentials may be used from there.
    pub fn may_come_from(&self, address: IpAddr) -> bool {
        self.networks.is_empty() || self.networks.iter().any(|n| n.contains(&address))
    }

    /// Refuses to hand on, or to hold sway over, more than it has itself: a key with these rights and this reach.
    ///
    /// # Errors
    /// `forbidden`, with the rights that it lacks.
    pub fn check_may_give(&self, rights: Rights, reach: Reach) -> Result<(), Error> {
        if reach == Reach::Platform && !self.platform {
            let detail =
                "A key with platform reach is made and managed only with one. Use an admin key with platform reach.";
            return Err(Error::new(Code::Forbidden, detail));
        }
        let lacking: Vec<&str> = rights.iter().filter(|r| !self.rights.has(*r)).map(Right::as_str).collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let detail = format!(
            "That key has rights that yours lacks: {}. Narrow it by scopes, or use a key that has them.",
            lacking.join(", ")
        );
        Err(Error::new(Code::Forbidden, detail))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gives_what_they_lack() {
        let mut who = Principal {
            tenant: TenantId::new(),
            key: ApiKeyId::new(),
            key_public_id: "x".into(),
            role: Role::Admin,
            platform: false,
            rights: Rights::of_role(Role::Admin, false),
            networks: Vec::new(),
            media_roots: Vec::new(),
            s3_profiles: Vec::new(),
            rate_per_minute: None,
            expires_at: None,
            session: None,
            limits: TenantLimits::default(),
        };
        assert!(who.check_may_give(Rights::of_role(Role::Admin, false), Reach::Tenant).is_ok());
        assert!(who.check_may_give(Rights::default(), Reach::Platform).is_err(), "reach counts by itself");
        who.rights = Rights::of_scopes(["keys:write", "jobs:read"]);
        assert!(who.check_may_give(Rights::of_scopes(["jobs:read"]), Reach::Tenant).is_ok());
        let refused = who.check_may_give(Rights::of_role(Role::Viewer, false), Reach::Tenant).unwrap_err();
        assert_eq!(refused.code(), Code::Forbidden);
        assert!(refused.detail().contains("uploads:read, queues:read."), "{}", refused.detail());
    }
}
