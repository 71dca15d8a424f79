//! The roll of keys: which there are, for addresses whose refused credentials were too many. A key from there is looked up only
//! if it is on the roll, so a flood of made-up keys costs no look-ups, and good keys go on opening. Asked by the layer that
//! looks at credentials; it opens nothing by itself.
//!
//! It is read when it is first needed, and then at most once a second what was added, for all requests of a process together.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::access::{ApiKey, Pepper};
use shared::error::Result;
use shared::id::ApiKeyId;
use shared::store::Pool;
use shared::store::access::key::{Listed, list_after};
use tokio::sync::Mutex;

/// How long a look at what was added is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// Most keys on the roll, each about 150 bytes. Where there are more, every key is looked up.
const MOST: usize = 100_000;
/// How much the clocks of those who make keys may differ, and how long they may take to store one.
const OVERLAP: Duration = Duration::from_secs(600);

/// Which keys there are.
#[derive(Default)]
pub struct Roll(Mutex<Listing>);

#[derive(Default)]
struct Listing {
    digests: HashMap<String, [u8; 32]>,
    newest: Option<ApiKeyId>,
    looked_at: Option<Instant>,
    /// There are more keys than fit.
    is_full: bool,
}

impl Roll {
    /// Whether a look-up of this key would be in vain: there is no such key, or its secret is another.
    ///
    /// # Errors
    /// If the database does not tell.
    pub async fn rules_out(&self, key: &ApiKey, pepper: &Pepper, db: &Pool) -> Result<bool> {
        // whoever comes while one looks waits for what that one finds
        let mut listing = self.0.lock().await;
        if listing.is_due(Instant::now()) {
            listing.looked_at = Some(Instant::now());
            // one more than fits tells that there are too many
            let added = list_after(db, listing.newest, OVERLAP, MOST as i64 + 1).await?;
            listing.add(added);
        }
        let digest = listing.digests.get(key.public_id()).copied();
        let is_whole = !listing.is_full && listing.newest.is_some();
        drop(listing);
        Ok(is_whole && digest.is_none_or(|digest| !key.matches(&digest, pepper)))
    }

    /// Forgets a key that is not there any more.
    pub async fn strike(&self, key: &ApiKey) {
        self.0.lock().await.digests.remove(key.public_id());
    }
}

impl Listing {
    fn is_due(&self, now: Instant) -> bool {
        !self.is_full && self.looked_at.is_none_or(|at| now.duration_since(at) >= BELIEVED)
    }

    fn add(&mut self, added: Vec<Listed>) {
        for key in added {
            self.newest = self.newest.max(Some(key.id));
            if let Ok(digest) = key.digest.try_into() {
                self.digests.insert(key.public_id, digest);
            }
        }
        if self.digests.len() > MOST {
            (self.digests, self.is_full) = (HashMap::new(), true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(n: usize) -> Listed {
        Listed { id: ApiKeyId::new(), public_id: n.to_string(), digest: vec![0; 32] }
    }

    #[test]
    fn it_is_read_once_a_second() {
        let (mut listing, now) = (Listing::default(), Instant::now());
        assert!(listing.is_due(now));
        listing.looked_at = Some(now);
        assert!(!listing.is_due(now + Duration::from_millis(999)) && listing.is_due(now + BELIEVED));
    }

    #[test]
    fn it_is_bounded_and_then_rules_nothing_out() {
        let mut listing = Listing::default();
        listing.add((0..MOST).map(listed).collect());
        assert!(!listing.is_full && listing.digests.len() == MOST);
        listing.add(vec![listed(MOST)]);
        assert!(listing.is_full && listing.digests.is_empty() && !listing.is_due(Instant::now()));
    }
}
