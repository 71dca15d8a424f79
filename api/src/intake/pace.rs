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
    pub(super) fn new(stall: Duration, bytes_per_second: u64) -> Self {
        let now = Instant::now();
        Self { stall, bytes_per_second, last_byte: now, last_look: now, waited: Duration::ZERO, bytes: 0 }
    }

    pub(super) fn came(&mut self, bytes: usize) {
        if bytes > 0 {
            self.last_byte = Instant::now();
            self.bytes += bytes as u64;
        }
    }

    /// Looks at the clock; `willing` tells whether we were waiting for the client.
    pub(super) fn check(&mut self, willing: bool) -> Result<(), Error> {
        let now = Instant::now();
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

    #[tokio::test(start_paused = true)]
    async fn silence_and_slowness_end_a_body() {
        let second = Duration::from_secs(1);
        let mut silent = Pace::new(10 * second, 0);
        let mut slow = Pace::new(10 * second, 100);
        let mut held_up = Pace::new(10 * second, 100);
        let mut ends = [None; 3];
        for at in 1..=200 {
            tokio::time::advance(second).await;
            slow.came(99);
            for (end, pace, willing) in
                [(0, &mut silent, true), (1, &mut slow, true), (2, &mut held_up, false)].map(|(i, p, w)| (i, p, w))
            {
                if ends[end].is_none() && pace.check(willing).is_err() {
                    ends[end] = Some(at);
                }
            }
        }
        assert_eq!(ends, [Some(11), Some(60), None]);
        let mut steady = Pace::new(10 * second, 100);
        for _ in 0..200 {
            tokio::time::advance(second).await;
            steady.came(101);
            steady.check(true).unwrap();
        }
    }
}
