//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11): lists of strings with parameters. A policy is
//! told as its burst (`q`) and the seconds in which that comes back (`w`), because that is what a bucket promises; of a
//! bucket, what it still takes (`r`) and the seconds until it is as if nobody had asked (`t`). Written by the layer of limits.

use std::fmt::Write;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use shared::limit::Verdict;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Whole seconds, rounded up.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Puts both fields on an answer; neither, if nothing was counted.
pub(super) fn write(headers: &mut HeaderMap, verdicts: &[Verdict]) {
    let (mut policies, mut limits) = (String::new(), String::new());
    for verdict in verdicts {
        let between = if policies.is_empty() { "" } else { ", " };
        let policy = verdict.policy;
        // of one that is used up: when there is more. Retry-After must not be earlier than `t`
        let until = if verdict.allowed { verdict.reset } else { verdict.retry_after };
        // writing into a String does not fail
        let _ = write!(policies, "{between}\"{}\";q={};w={}", policy.name, policy.rate.burst, policy.window());
        let _ = write!(limits, "{between}\"{}\";r={};t={}", policy.name, verdict.remaining, seconds(until));
    }
    for (name, value) in [(POLICY, policies), (LIMIT, limits)] {
        if let Some(value) = HeaderValue::try_from(value).ok().filter(|v| !v.is_empty()) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::limit::{Bucket, Policy, judge};

    use super::*;

    fn fields(fills: [u64; 2]) -> (String, String) {
        let bucket =
            |name, rate: &str| Bucket { policy: Policy { name, rate: rate.parse().unwrap() }, of: String::new() };
        let mut headers = HeaderMap::new();
        write(&mut headers, &judge(&[bucket("key", "6000:500"), bucket("tenant", "60:2")], &fills));
        let text = |name: &HeaderName| headers[name].to_str().unwrap().to_owned();
        (text(&POLICY), text(&LIMIT))
    }

    #[test]
    fn as_the_draft_writes_them() {
        let (policy, limit) = fields([0, 0]);
        assert_eq!(policy, r#""key";q=500;w=5, "tenant";q=2;w=2"#);
        assert_eq!(limit, r#""key";r=499;t=1, "tenant";r=1;t=1"#);
        let (_, limit) = fields([1_000_000, 1_500_000]);
        assert_eq!(limit, r#""key";r=400;t=1, "tenant";r=0;t=1"#, "nothing was charged");
        let mut none = HeaderMap::new();
        write(&mut none, &[]);
        assert!(none.is_empty());
    }
}
