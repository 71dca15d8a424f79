//! What keys and tokens open, and why a key opens nothing, remembered for a second: a busy client costs one look-up a second and
//! process instead of one a request. A change rings [`Bell::Access`] and is forgotten at once; if the bell is lost, the second
//! is what revocation takes.
//!
//! Those that do not exist are not remembered: a key works as soon as it is made, and guesses fill no memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::access::Principal;
use shared::id::TenantId;
use shared::queue::Bell;
use tokio::sync::broadcast;

use super::Refusal;

/// How long a look-up is believed, counted from before it was made.
const BELIEVED: Duration = Duration::from_secs(1);
/// Most keys remembered; with more in use at once, all are looked up again.
const MOST: usize = 10_000;

/// A key that was looked up.
#[derive(Clone)]
pub struct Known {
    /// HMAC of the whole key.
    pub digest: [u8; 32],
    /// The owner.
    pub tenant: TenantId,
    /// Who its bearer is, or why it opens nothing.
    pub opens: Result<Arc<Principal>, Refusal>,
}

/// Something that a tenant's bell makes forgotten.
pub trait OfTenant: Clone {
    /// The tenant.
    fn tenant(&self) -> TenantId;
}

impl OfTenant for Known {
    fn tenant(&self) -> TenantId {
        self.tenant
    }
}

/// Whoever bears the tokens of a session.
impl OfTenant for Arc<Principal> {
    fn tenant(&self) -> TenantId {
        self.tenant
    }
}

/// What this process looked up within the last second, by public id or by id.
pub struct Remembered<T>(Mutex<HashMap<String, (Instant, T)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: OfTenant> Remembered<T> {
    /// What is remembered under an id, if that is young enough.
    pub fn get(&self, id: &str, now: Instant) -> Option<T> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, known) = keys.get(id)?;
        (now.duration_since(*at) < BELIEVED).then(|| known.clone())
    }

    /// Remembers what was looked up at `asked`, the instant before the question.
    pub fn put(&self, id: &str, known: T, asked: Instant) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MOST {
            keys.retain(|_, (at, _)| asked.duration_since(*at) < BELIEVED);
        }
        if keys.len() >= MOST {
            keys.clear();
        }
        keys.insert(id.to_owned(), (asked, known));
    }

    /// Forgets what is a tenant's.
    pub fn forget(&self, tenant: TenantId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (_, known)| known.tenant() != tenant);
    }

    fn forget_all(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Forgets by the bell. Runs for ever as a task of its own.
    pub async fn run(&self, mut bells: broadcast::Receiver<Bell>) {
        loop {
            match bells.recv().await {
                Ok(Bell::Access(tenant)) => self.forget(tenant),
                Ok(Bell::Missed) | Err(broadcast::error::RecvError::Lagged(_)) => self.forget_all(),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::somebody;
    use super::*;

    fn known(tenant: TenantId) -> Known {
        Known { digest: [0; 32], tenant, opens: Ok(Arc::new(somebody())) }
    }

    #[test]
    fn a_key_is_remembered_for_a_second_or_until_its_tenant_changes() {
        let (remembered, asked, tenant) = (Remembered::default(), Instant::now(), TenantId::new());
        remembered.put("a", known(tenant), asked);
        remembered.put("b", known(TenantId::new()), asked);
        assert!(remembered.get("a", asked + Duration::from_millis(999)).is_some());
        assert!(remembered.get("a", asked + BELIEVED).is_none());
        remembered.forget(tenant);
        assert!(remembered.get("a", asked).is_none() && remembered.get("b", asked).is_some());
    }

    #[test]
    fn memory_is_bounded() {
        let (remembered, asked) = (Remembered::default(), Instant::now());
        for n in 0..=MOST {
            remembered.put(&n.to_string(), known(TenantId::new()), asked);
        }
        assert!(remembered.0.lock().unwrap().len() <= MOST);
        assert!(remembered.get(&MOST.to_string(), asked).is_some());
    }
}
