//! How many requests are too many. A bucket fills with every request and drains at the rate of its policy; a request that
//! would make it overflow is refused and leaves it as it is (GCRA, the generic cell rate algorithm of ATM).
//!
//! All that is kept of a bucket is the instant at which it is empty again. Redis keeps it for all API processes, a
//! [`Ledger`] for one process while Redis is away; both count by the formula here. No clock: microseconds come in.

mod ledger;
mod rate;

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

pub use ledger::Ledger;
pub use rate::{Rate, WrongRate};

/// Most buckets that one request is charged to.
pub const BUCKETS: usize = 4;

/// A rate with the name that clients see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// What is limited: `key`, `tenant`, `address`, …
    pub name: &'static str,
    /// How much is allowed.
    pub rate: Rate,
}

impl Policy {
    /// What a request adds to a bucket, in microseconds of draining.
    pub fn step(self) -> u64 {
        self.rate.step()
    }

    /// What a bucket holds, in microseconds of draining.
    pub fn depth(self) -> u64 {
        self.rate.step().saturating_mul(u64::from(self.rate.burst))
    }

    /// Seconds in which a full bucket drains: the window of which `burst` is the quota.
    pub fn window(self) -> u64 {
        self.depth().div_ceil(1_000_000)
    }

    /// How full the bucket is at `now` that is empty at `empty_at`. Never more than it holds: an instant from a clock that was
    /// ahead, or from a time when the policy allowed more, is not waited for.
    pub fn fill(self, empty_at: u64, now: u64) -> u64 {
        empty_at.saturating_sub(now).min(self.depth())
    }

    /// Whether a bucket that is so full takes another request.
    pub fn takes(self, fill: u64) -> bool {
        fill.saturating_add(self.step()) <= self.depth()
    }
}

/// Whose requests are counted by which policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// How much is allowed.
    pub policy: Policy,
    /// Whose it is: the id of a key or tenant, or a network.
    pub of: String,
}

impl Bucket {
    /// Its name among all buckets of the installation.
    pub fn name(&self) -> String {
        format!("{}:{}", self.policy.name, self.of)
    }
}

/// What one policy says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The policy.
    pub policy: Policy,
    /// Whether this policy lets the request through.
    pub allowed: bool,
    /// How many more requests it would let through now.
    pub remaining: u32,
    /// When the whole burst may be had again.
    pub reset: Duration,
    /// When the next request may be had; zero if it may now.
    pub retry_after: Duration,
}

/// What all policies say of a request, given how full their buckets were when it came. It is charged to all of them if all
/// let it through, and to none otherwise.
pub fn judge(buckets: &[Bucket], fills: &[u64]) -> Vec<Verdict> {
    let pairs = || buckets.iter().map(|b| b.policy).zip(fills.iter().copied());
    let charged = pairs().all(|(policy, fill)| policy.takes(fill));
    pairs()
        .map(|(policy, before)| {
            let fill = if charged { before.saturating_add(policy.step()) } else { before };
            let remaining = policy.depth().saturating_sub(fill) / policy.step();
            let wait = fill.saturating_add(policy.step()).saturating_sub(policy.depth());
            Verdict {
                policy,
                allowed: policy.takes(before),
                remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
                reset: Duration::from_micros(fill),
                retry_after: Duration::from_micros(wait),
            }
        })
        .collect()
}

/// Whom an address stands for: itself, or the /64 it lies in. Whoever has one IPv6 address has all of its /64.
pub fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn bucket(name: &'static str, per_minute: u32, burst: u32) -> Bucket {
        Bucket { policy: Policy { name, rate: Rate { per_minute, burst } }, of: "x".into() }
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (mut ledger, one) = (Ledger::new(10), [bucket("key", 60, 3)]);
        let mut ask = |now| judge(&one, &ledger.charge(&one, now))[0];
        assert_eq!((ask(0).remaining, ask(0).remaining, ask(0).remaining), (2, 1, 0));
        let refused = ask(0);
        assert!(!refused.allowed);
        assert_eq!((refused.retry_after, refused.reset), (Duration::from_secs(1), Duration::from_secs(3)));
        assert!(!ask(SECOND - 1).allowed);
        assert_eq!(ask(SECOND - 1).retry_after, Duration::from_micros(1));
        assert!(ask(SECOND).allowed && !ask(SECOND).allowed, "one a second");
        assert_eq!(ask(100 * SECOND).remaining, 2, "rest fills up to the burst and no further");
        assert_eq!(one[0].policy.window(), 3);
    }

    #[test]
    fn all_or_none() {
        let mut ledger = Ledger::new(10);
        let (tight, wide) = (bucket("key", 60, 1), bucket("address", 60, 100));
        let both = [tight, wide.clone()];
        let allowed = |v: Vec<Verdict>| v.iter().map(|v| (v.allowed, v.remaining)).collect::<Vec<_>>();
        assert_eq!(allowed(judge(&both, &ledger.charge(&both, 0))), [(true, 0), (true, 99)]);
        assert_eq!(allowed(judge(&both, &ledger.charge(&both, 0))), [(false, 0), (true, 99)], "nothing was charged");
        let alone = [wide];
        assert_eq!(judge(&alone, &ledger.charge(&alone, 0))[0].remaining, 98);
    }

    #[test]
    fn the_network_of_an_address() {
        let of = |a: &str| network(a.parse().unwrap());
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }

    proptest! {
        /// Whoever asks as often as he likes gets the burst and what the rate adds, to within one request.
        #[test]
        fn never_more_than_burst_and_rate(
            per_minute in 1..=Rate::MOST, burst in 1u32..500, gaps in prop::collection::vec(0u64..50_000, 1..2_000),
        ) {
            let (mut ledger, one) = (Ledger::new(10), [bucket("key", per_minute, burst)]);
            let policy = one[0].policy;
            let (mut now, mut accepted) = (0, 0u64);
            for gap in gaps {
                now += gap;
                let fill = ledger.charge(&one, now)[0];
                prop_assert!(fill <= policy.depth());
                let verdict = judge(&one, &[fill])[0];
                prop_assert!(verdict.remaining < burst || !verdict.allowed);
                prop_assert_eq!(verdict.allowed, policy.takes(fill));
                if !verdict.allowed {
                    prop_assert!(verdict.retry_after > Duration::ZERO && verdict.retry_after <= verdict.reset);
                }
                accepted += u64::from(verdict.allowed);
                let most = u64::from(burst) + now / policy.step();
                prop_assert!(accepted <= most, "{} of at most {}", accepted, most);
            }
        }

        /// Waiting for exactly as long as one is told is enough, and not a microsecond less is.
        #[test]
        fn the_wait_is_true(per_minute in 1..=Rate::MOST, burst in 1u32..50, tries in 1usize..200) {
            let (mut ledger, one) = (Ledger::new(10), [bucket("key", per_minute, burst)]);
            let mut last = None;
            for _ in 0..tries + 50 {
                last = Some(judge(&one, &ledger.charge(&one, 7))[0]);
            }
            let wait = u64::try_from(last.unwrap().retry_after.as_micros()).unwrap();
            prop_assert!(!judge(&one, &ledger.charge(&one, 7 + wait - 1))[0].allowed);
            prop_assert!(judge(&one, &ledger.charge(&one, 7 + wait))[0].allowed);
        }

        /// Nothing overflows, whatever the clocks say.
        #[test]
        fn hostile_clocks(per_minute in 1..=Rate::MOST, burst in 1..=Rate::MOST, empty_at: u64, now: u64) {
            let one = [bucket("key", per_minute, burst)];
            let fill = one[0].policy.fill(empty_at, now);
            let verdict = judge(&one, &[fill])[0];
            prop_assert!(verdict.remaining <= burst && verdict.retry_after.as_micros() <= u128::from(one[0].policy.step()));
            judge(&one, &[u64::MAX]);
        }
    }
}
