//! How slow a body may be: not silent for too long, and not slower than a minimum over a minute. Time in which we were the
//! slow ones does not count. Called by `flow` at every tick.

use std::time::Duration;

use shared::{Code, Error};
use tokio::time::Instant;

/// Over how long the minimum speed must hold.
const WINDOW: Duration = Duration::from_secs(60);

/// The pace of one body.
pub(super) struct Pace {
    stall: Duration,
    bytes_per_second: u64,
    last_byte: Instant,
    last_look: Instant,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(stall: Duration, bytes_per_second: u64, now: Instant) -> Self {
        Self { stall, bytes_per_second, last_byte: now, last_look: now, waited: Duration::ZERO, bytes: 0 }
    }

    pub(super) fn came(&mut self, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.last_byte = now;
            self.bytes += bytes as u64;
        }
    }

    /// Looks at the clock; `willing` tells whether we were waiting for the client.
    pub(super) fn check(&mut self, willing: bool, now: Instant) -> Result<(), Error> {
        if willing {
            self.waited += now - self.last_look;
        } else {
            self.last_byte = now;
        }
        self.last_look = now;
        if now - self.last_byte > self.stall {
            let detail = format!(
                "No bytes came for {} seconds. Go on from where the upload stands, over a steadier connection.",
                self.stall.as_secs()
            );
            return Err(Error::new(Code::RequestTimeout, detail));
        }
        if self.waited >= WINDOW {
            if self.bytes < self.bytes_per_second.saturating_mul(WINDOW.as_secs()) {
                let detail = format!(
                    "Fewer than {} bytes a second came for a minute. Go on from where the upload stands, over a faster connection.",
                    self.bytes_per_second
                );
                return Err(Error::new(Code::RequestTimeout, detail));
            }
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_slowness_end_a_body() {
        let (second, begun) = (Duration::from_secs(1), Instant::now());
        let end = |rate, bytes, willing| {
            let mut pace = Pace::new(10 * second, rate, begun);
            (1..=200).find(|at| {
                let now = begun + *at * second;
                pace.came(bytes, now);
                pace.check(willing, now).is_err()
            })
        };
        assert_eq!(end(0, 0, true), Some(11), "silent");
        assert_eq!(end(100, 99, true), Some(60), "slow");
        assert_eq!(end(100, 101, true), None, "steady");
        assert_eq!((end(100, 99, false), end(0, 0, false)), (None, None), "held up by us");
    }
}
