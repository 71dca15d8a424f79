//! The buckets of one process, for while Redis is away. Bounded: two generations of buckets, and when the younger is full
//! the older is forgotten. A bucket that is asked for stays, even if it refuses; one that nobody asked for since then begins
//! anew, empty.

use std::collections::HashMap;

use super::Bucket;

/// Instants at which buckets are empty, by their names.
#[derive(Debug, Default)]
pub struct Ledger {
    young: HashMap<String, u64>,
    old: HashMap<String, u64>,
    most: usize,
}

impl Ledger {
    /// One that knows at most about twice `most` buckets.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Charges a request at `now` (microseconds of any clock that only goes forward) to all buckets, or to none if one of
    /// them does not take it. Returns how full each was before.
    pub fn charge(&mut self, buckets: &[Bucket], now: u64) -> Vec<u64> {
        let names: Vec<String> = buckets.iter().map(Bucket::name).collect();
        let empty_at = |name: &String| self.young.get(name).or_else(|| self.old.get(name)).copied().unwrap_or(0);
        let fills: Vec<u64> = buckets.iter().zip(&names).map(|(b, n)| b.policy.fill(empty_at(n), now)).collect();
        let charged = buckets.iter().zip(&fills).all(|(b, fill)| b.policy.takes(*fill));
        for ((bucket, name), fill) in buckets.iter().zip(names).zip(&fills) {
            let added = if charged { bucket.policy.step() } else { 0 };
            // written even if nothing is added: whoever is refused must not be forgotten for it
            if fill + added > 0 {
                self.keep(name, now.saturating_add(fill + added));
            }
        }
        fills
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        (self.young, self.old) = Default::default();
    }

    fn keep(&mut self, name: String, empty_at: u64) {
        if self.young.len() >= self.most && !self.young.contains_key(&name) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, empty_at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Policy, Rate};
    use super::*;

    fn bucket(of: usize) -> [Bucket; 1] {
        let rate = Rate { per_minute: 1, burst: 1 };
        [Bucket { policy: Policy { name: "address", rate }, of: of.to_string() }]
    }

    #[test]
    fn it_stays_small_and_remembers_who_keeps_asking() {
        let mut ledger = Ledger::new(100);
        let mut let_in = 0;
        for n in 0..10_000 {
            ledger.charge(&bucket(n), 0);
            let fill = ledger.charge(&bucket(100_000), 0)[0];
            let_in += usize::from(bucket(0)[0].policy.takes(fill));
            assert!(ledger.young.len() + ledger.old.len() <= 200);
        }
        assert_eq!(let_in, 1);
        ledger.clear();
        assert_eq!(ledger.charge(&bucket(100_000), 0), [0]);
    }
}
