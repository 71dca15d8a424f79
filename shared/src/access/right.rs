//! Roles and rights. A handler names the one right it needs; a role carries rights, a key's scopes (words of the same list)
//! may narrow them. The effective rights are the role's that are also in the scopes, never more than either.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a key may do inside its tenant; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Role {
    /// Reads jobs and results.
    Viewer,
    /// Also uploads and submits.
    Submitter,
    /// Also manages the tenant.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Submitter, Self::Admin];

    /// The word used in JSON, SQL and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::Admin => "admin",
        }
    }
}

/// How far a key reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Its tenant only.
    Tenant,
    /// The whole installation: tenants, queues, workers.
    Platform,
}

/// Who carries a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Keys with this role, or a higher one.
    Role(Role),
    /// Admin keys with platform reach.
    Platform,
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident = $word:tt $need:expr,)*) => {
        /// What a call needs. The words are the scopes of keys, and stand in the OpenAPI document at each call.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        pub enum Right { $($(#[$doc])* #[serde(rename = $word)] $name,)* }

        impl Right {
            /// Every right.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word used in JSON, SQL and messages.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Who carries it.
            pub fn need(self) -> Need {
                match self { $(Self::$name => $need,)* }
            }
        }
    };
}

rights! {
    /// Reads jobs, attempts, results and series.
    JobsRead = "jobs:read" Need::Role(Role::Viewer),
    /// Submits, cancels, repeats and deletes jobs.
    JobsWrite = "jobs:write" Need::Role(Role::Submitter),
    /// Reads what is known of uploads.
    UploadsRead = "uploads:read" Need::Role(Role::Viewer),
    /// Sends and deletes uploads.
    UploadsWrite = "uploads:write" Need::Role(Role::Submitter),
    /// Sees queues and workers.
    QueuesRead = "queues:read" Need::Role(Role::Viewer),
    /// Lists the tenant's API keys and sessions.
    KeysRead = "keys:read" Need::Role(Role::Admin),
    /// Makes, changes, rotates and revokes the tenant's API keys, and ends its sessions.
    KeysWrite = "keys:write" Need::Role(Role::Admin),
    /// Sees the tenant's webhooks and what was sent to them.
    WebhooksRead = "webhooks:read" Need::Role(Role::Admin),
    /// Makes, changes and erases the tenant's webhooks, and sends again.
    WebhooksWrite = "webhooks:write" Need::Role(Role::Admin),
    /// Reads the audit log of the tenant; with platform reach, of all.
    AuditRead = "audit:read" Need::Role(Role::Admin),
    /// Pauses and resumes queues.
    QueuesWrite = "queues:write" Need::Platform,
    /// Lists tenants.
    TenantsRead = "tenants:read" Need::Platform,
    /// Makes and changes tenants, their limits and what they are granted.
    TenantsWrite = "tenants:write" Need::Platform,
}

impl std::str::FromStr for Right {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|r| r.as_str() == text).ok_or(())
    }
}

/// A set of rights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights(u32);

impl Rights {
    /// What a role carries; `platform` is whether the key reaches beyond its tenant.
    pub fn of_role(role: Role, platform: bool) -> Self {
        let carried = |right: Right| match right.need() {
            Need::Role(least) => role >= least,
            Need::Platform => platform && role == Role::Admin,
        };
        Right::ALL.iter().copied().filter(|r| carried(*r)).collect()
    }

    /// What scopes name. A word that this build does not know gives nothing.
    pub fn of_scopes<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        scopes.into_iter().filter_map(|s| s.parse::<Right>().ok()).collect()
    }

    /// What is in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether every right of the other is in it.
    pub fn includes(self, other: Self) -> bool {
        self.and(other) == other
    }

    /// Whether a right is in it.
    pub fn has(self, right: Right) -> bool {
        self.0 & bit(right) != 0
    }

    /// Its rights, in the order of the list.
    pub fn iter(self) -> impl Iterator<Item = Right> {
        Right::ALL.iter().copied().filter(move |r| self.has(*r))
    }
}

fn bit(right: Right) -> u32 {
    1 << right as u32
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |set, right| set | bit(right)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_has_a_bit_and_a_word_of_its_own() {
        assert!(Right::ALL.len() <= 32);
        for right in Right::ALL {
            assert_eq!(right.as_str().parse(), Ok(*right));
            assert_eq!([*right].into_iter().collect::<Rights>().iter().collect::<Vec<_>>(), [*right]);
        }
    }

    #[test]
    fn each_role_includes_those_before_it() {
        for platform in [false, true] {
            let sets = Role::ALL.map(|role| Rights::of_role(role, platform));
            assert!(sets.windows(2).all(|w| w[0].and(w[1]) == w[0] && w[0] != w[1]));
        }
        let (plain, all) = (Rights::of_role(Role::Admin, false), Rights::of_role(Role::Admin, true));
        assert!(!plain.has(Right::TenantsWrite) && all.has(Right::TenantsWrite));
        assert_eq!(all.iter().count(), Right::ALL.len());
        assert_eq!(Rights::of_role(Role::Submitter, true), Rights::of_role(Role::Submitter, false));
    }

    #[test]
    fn scopes_only_narrow() {
        let scopes = Rights::of_scopes(["jobs:read", "keys:write", "moon:read"]);
        let effective = Rights::of_role(Role::Viewer, false).and(scopes);
        assert_eq!(effective.iter().collect::<Vec<_>>(), [Right::JobsRead]);
        let admin = Rights::of_role(Role::Admin, false);
        assert!(admin.includes(effective) && admin.includes(admin) && !effective.includes(admin));
    }
}
