//! The first tenant and the first admin key of an installation, made at most once. Called by `probectl up`,
//! `probectl bootstrap` and, with a key the operator chose, by the API at its start.

use sqlx::PgPool;

use crate::access::{ApiKey, Pepper, Reach, Role};
use crate::error::Result;
use crate::store::access::{self, Grants, NewKey};

/// Name of the first tenant.
pub const FIRST_TENANT: &str = "default";

/// Grants a tenant everything of a kind, what is added later too.
const EVERYTHING: &str = "*";

/// Every media root and S3 profile: what the first tenant is granted.
pub fn everything() -> Grants {
    let all = || vec![EVERYTHING.to_owned()];
    Grants { media_roots: all(), s3_profiles: all() }
}

/// A new random key.
pub fn mint() -> ApiKey {
    ApiKey::from_random(rand::random(), rand::random())
}

/// What became of a first key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootstrap {
    /// The key is in force.
    Done,
    /// There was an admin key with platform reach already, or this very key; it was not stored.
    NotNeeded,
}

/// Stores `key` as an admin key with platform reach, unless one is in force or this one was stored before: what was revoked
/// or has expired does not come back by a restart. The tenant is granted every media
/// root and S3 profile when it is created; a tenant that exists keeps its grants.
pub async fn first_admin(db: &PgPool, pepper: &Pepper, key: &ApiKey) -> Result<Bootstrap> {
    let mut tx = db.begin().await?;
    access::lock_bootstrap(&mut *tx).await?;
    if access::any_admin_key(&mut *tx).await? || access::find_key(&mut *tx, key.public_id()).await?.is_some() {
        return Ok(Bootstrap::NotNeeded);
    }
    let tenant = access::ensure_tenant(&mut *tx, FIRST_TENANT, &everything()).await?;
    let new = NewKey {
        tenant,
        public_id: key.public_id(),
        digest: key.digest(pepper),
        name: "first admin key",
        role: Role::Admin,
        reach: Reach::Platform,
    };
    access::insert_key(&mut *tx, &new).await?;
    tx.commit().await?;
    Ok(Bootstrap::Done)
}
