//! How long to go on trying, and how long to wait before the next try. Asked after each failure; knows nothing of HTTP but the
//! form of `Retry-After`.

use std::time::{Duration, Instant};

/// First wait; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(250);
/// Longest wait that we choose ourselves.
const LONGEST: Duration = Duration::from_secs(30);

/// Counts failures since the last success.
pub(crate) struct Patience {
    limit: Duration,
    since: Instant,
    failures: u32,
}

impl Patience {
    /// Gives up when nothing has gone well for `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, since: Instant::now(), failures: 0 }
    }

    /// Something went well: the count begins anew.
    pub(crate) fn renew(&mut self) {
        self.since = Instant::now();
        self.failures = 0;
    }

    /// How long to wait after one more failure, at least as long as the service asked for; `None` to give up.
    pub(crate) fn next(&mut self, asked: Option<Duration>) -> Option<Duration> {
        let own = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let wait = asked.map_or(own, |asked| asked.max(FIRST));
        (self.since.elapsed() + wait <= self.limit).then_some(wait)
    }
}

/// The whole seconds of a `Retry-After`. The form with a date is not used by this service.
pub(crate) fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_end() {
        let mut patience = Patience::new(Duration::from_secs(20));
        let waits: Vec<_> = std::iter::from_fn(|| patience.next(None)).take(50).collect();
        assert_eq!(waits[..3], [FIRST, 2 * FIRST, 4 * FIRST]);
        assert!(waits.iter().all(|wait| *wait <= LONGEST) && waits.len() < 10, "{waits:?}");
        patience.renew();
        assert_eq!(patience.next(None), Some(FIRST));
        assert_eq!(patience.next(Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(patience.next(Some(Duration::from_secs(21))), None, "longer than there is patience");
        let mut endless = Patience::new(Duration::from_secs(1 << 30));
        assert!((0..100).all(|_| endless.next(None).is_some_and(|wait| wait <= LONGEST)));
    }

    #[test]
    fn retry_after_is_whole_seconds() {
        assert_eq!(retry_after("3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(retry_after("-1"), None);
    }
}
