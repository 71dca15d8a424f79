//! Buckets that all API processes share, kept in Redis by Redis' own clock. One round trip looks at all buckets of a request
//! and charges all of them or none; the formula is that of [`crate::limit`]. A bucket is forgotten when it is empty, so what
//! is kept are those in use. Redis being away is the caller's to bear: it is told so soon.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::line::within;
use super::{Queue, away};
use crate::error::{Error, Result};
use crate::limit::Bucket;

/// How long a request waits to be counted. Counting takes Redis a fraction of a millisecond.
const PATIENCE: Duration = Duration::from_millis(100);

/// Keys: buckets. Arguments: for each its step and its depth, in microseconds. Answers how full each was before.
static CHARGE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"local time = redis.call('time')
        local now = time[1] * 1000000 + time[2]
        local fills, charged = {}, true
        for i, bucket in ipairs(KEYS) do
            local empty_at = tonumber(redis.call('get', bucket)) or now
            local step, depth = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
            fills[i] = math.min(math.max(empty_at - now, 0), depth)
            charged = charged and fills[i] + step <= depth
        end
        if charged then
            for i, bucket in ipairs(KEYS) do
                local fill = fills[i] + ARGV[2 * i - 1]
                redis.call('set', bucket, string.format('%.0f', now + fill), 'px', string.format('%.0f', math.ceil(fill / 1000)))
            end
        end
        return fills",
    )
});

impl Queue {
    /// Charges a request to all buckets, or to none if one of them does not take it. Returns how full each was before, in
    /// microseconds of draining.
    ///
    /// # Errors
    /// If Redis does not answer within a tenth of a second.
    pub async fn charge(&self, buckets: &[Bucket]) -> Result<Vec<u64>> {
        let mut call = CHARGE.prepare_invoke();
        for bucket in buckets {
            call.key(format!("{}:{}", self.buckets, bucket.name()));
            call.arg(bucket.policy.step()).arg(bucket.policy.depth());
        }
        let fills: Vec<u64> = within(PATIENCE, call.invoke_async(&mut self.line.clone())).await.map_err(away)?;
        // a proxy in between that answers something else must not let everybody in
        if fills.len() != buckets.len() {
            return Err(Error::unavailable("Redis", "it answered for other buckets than were asked for"));
        }
        Ok(fills)
    }
}
