//! Every change of keys and tenants after the first: each verb is one transaction that checks, changes, writes the audit event
//! and, for a request that may be repeated, keeps the answer. Called by the API's routes, which ring `Bell::Access` afterwards.
//!
//! Three rules hold for all of them: nobody gives or takes what they do not have, somebody can always manage the platform, and
//! nothing changes without its row in the audit trail.

pub mod key;
pub mod tenant;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::audit::Event;
use crate::error::{Code, Error, Result};
use crate::store;
use crate::store::idempotency::Kept;

/// For so long at least somebody must be able to manage the platform after a change: time to make the next key.
const STEWARDSHIP: Duration = Duration::from_secs(7 * 24 * 3600);

/// What became of a wish for something new.
#[derive(Debug)]
pub enum Made<T> {
    /// It was made.
    New(T),
    /// The same request was answered before, with this.
    Repeated(Kept),
}

/// What is stored beside something new, in the transaction that makes it.
#[derive(Debug)]
pub struct Beside {
    /// Tells of it.
    pub event: Event,
    /// The body that repeated requests are given. It must not hold a secret.
    pub answer: String,
}

/// Watches over the last admin key with platform reach during one transaction.
struct Stewardship {
    until: Option<DateTime<Utc>>,
    before: bool,
}

impl Stewardship {
    /// Before the change. `until` is when the key that changes expires, if it does: no other need outlive it.
    async fn watch(tx: &mut PgConnection, until: Option<DateTime<Utc>>) -> Result<Self> {
        store::access::key::lock_stewards(&mut *tx).await?;
        let before = store::access::key::steward_remains(tx, until, STEWARDSHIP).await?;
        Ok(Self { until, before })
    }

    /// After the change: an error, and so no change, if it took away what there was before.
    async fn check(self, tx: &mut PgConnection) -> Result<()> {
        if !self.before || store::access::key::steward_remains(tx, self.until, STEWARDSHIP).await? {
            return Ok(());
        }
        let detail = "Without this key, nobody could manage the platform a week from now. First make another admin key \
                      with platform reach, without scopes, that does not expire before that; then repeat this.";
        Err(Error::new(Code::LastAdminKey, detail))
    }
}
