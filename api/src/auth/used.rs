//! When and from where keys were last used. Noted in memory for every request, written some seconds later with one statement
//! for all keys, and at most once a minute for each: a write for every request would cost more than the request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::id::ApiKeyId;
use shared::store::access::key::{Use, note_uses};
use shared::store::{Pool, in_time};

/// Between two writes; a key that was long unused shows its use within this time.
const ROUND: Duration = Duration::from_secs(5);
/// Between two writes of one key.
const PAUSE: Duration = Duration::from_secs(60);
/// Between two writes of one key by different processes. A little less than that: rounds do not come on the second.
const APART: Duration = Duration::from_secs(50);
/// Most keys that are noted; what is used beyond them within a minute is not.
const MOST: usize = 10_000;
/// Longest wait for the last write.
const PATIENCE: Duration = Duration::from_secs(2);

/// The latest use of a key, and when one of it was written.
#[derive(Debug, Clone, Copy)]
struct Noted {
    at: Instant,
    from: IpAddr,
    written: Option<Instant>,
}

impl Noted {
    /// Whether there is something to write. The first use of a minute is written soon, the last one at its end.
    fn is_due(&self, now: Instant) -> bool {
        self.written.is_none_or(|w| self.at > w && now.duration_since(w) >= PAUSE)
    }
}

/// The keys that this process saw within the last minute or so.
#[derive(Default)]
pub struct Used(Mutex<HashMap<ApiKeyId, Noted>>);

impl Used {
    /// Notes a use.
    pub fn note(&self, key: ApiKeyId, from: IpAddr, at: Instant) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = keys.len() >= MOST;
        match keys.entry(key) {
            Entry::Occupied(mut noted) => {
                let noted = noted.get_mut();
                (noted.at, noted.from) = (at, from);
            }
            Entry::Vacant(place) if !full => _ = place.insert(Noted { at, from, written: None }),
            Entry::Vacant(_) => {}
        }
    }

    /// What is to be written now; keys that were not used for a minute after they were written are forgotten.
    fn due(&self, now: Instant) -> Vec<Use> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|_, noted| noted.is_due(now) || noted.written.is_some_and(|w| now.duration_since(w) < PAUSE));
        keys.iter_mut()
            .filter(|(_, noted)| noted.is_due(now))
            .map(|(key, noted)| {
                noted.written = Some(now);
                Use { key: *key, age: now.duration_since(noted.at), from: noted.from }
            })
            .collect()
    }

    async fn write(&self, db: &Pool) {
        let due = self.due(Instant::now());
        if due.is_empty() {
            return;
        }
        // lost for this minute; the next use is noted again
        if let Err(error) = in_time(note_uses(db, &due, APART)).await {
            tracing::warn!(%error, keys = due.len(), "the last use of some keys was not noted");
        }
    }

    /// Writes what was noted, for ever. Runs as a task of its own.
    pub async fn run(&self, db: &Pool) {
        loop {
            tokio::time::sleep(ROUND).await;
            self.write(db).await;
        }
    }

    /// Writes what is left when the process ends.
    pub async fn finish(&self, db: &Pool) {
        if tokio::time::timeout(PATIENCE, self.write(db)).await.is_err() {
            tracing::warn!("the last use of some keys was not noted: the database takes too long");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_busy_key_is_written_once_a_minute() {
        let (used, key, begun) = (Used::default(), ApiKeyId::new(), Instant::now());
        let mut written = Vec::new();
        for second in 0..180 {
            let now = begun + Duration::from_secs(second);
            used.note(key, HERE, now);
            if second % 5 == 4 {
                written.extend(used.due(now).into_iter().map(|u| (second, u.age)));
            }
        }
        assert_eq!(written, [4, 64, 124].map(|second| (second, Duration::ZERO)));
    }

    #[test]
    fn a_use_is_written_once_and_forgotten() {
        let (used, begun) = (Used::default(), Instant::now());
        used.note(ApiKeyId::new(), HERE, begun);
        let later = begun + Duration::from_secs(3);
        assert_eq!(used.due(later).iter().map(|u| u.age.as_secs()).collect::<Vec<_>>(), [3]);
        assert!(used.due(later + PAUSE / 2).is_empty());
        assert!(used.due(later + PAUSE).is_empty());
        assert!(used.0.lock().unwrap().is_empty());
    }

    #[test]
    fn memory_is_bounded() {
        let (used, begun) = (Used::default(), Instant::now());
        let first = ApiKeyId::new();
        used.note(first, HERE, begun);
        for _ in 0..MOST {
            used.note(ApiKeyId::new(), HERE, begun);
        }
        used.note(first, HERE, begun + Duration::from_secs(1));
        assert_eq!(used.0.lock().unwrap().len(), MOST);
        assert_eq!(used.due(begun + Duration::from_secs(1)).iter().filter(|u| u.age.is_zero()).count(), 1);
    }
}
