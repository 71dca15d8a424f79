//! A rate as settings and rows say it: requests a minute, and how many at once beyond that. Read from text by the API's
//! settings. Its bounds keep every product within what a double holds exactly: Redis counts in doubles.

use std::fmt;
use std::str::FromStr;

/// Seconds' worth of requests that may come at once, where nothing else is said.
const BURST_SECONDS: u32 = 5;
/// Requests that may come at once all the same, unless the rate is lower.
const BURST_LEAST: u32 = 10;

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a minute; 1 to [`Rate::MOST`].
    pub per_minute: u32,
    /// Requests at once, beyond which the rate counts; 1 to [`Rate::MOST`].
    pub burst: u32,
}

impl Rate {
    /// Most requests a minute, and most at once. A request is then worth 60 microseconds, so rounding costs less than 1 %.
    pub const MOST: u32 = 1_000_000;

    /// So many a minute, and at once what five seconds bring, or ten if that is less.
    pub fn per_minute(per_minute: u32) -> Self {
        let per_minute = per_minute.clamp(1, Self::MOST);
        Self { per_minute, burst: (per_minute / (60 / BURST_SECONDS)).max(per_minute.min(BURST_LEAST)) }
    }

    /// The same rate with another burst, if one is given.
    #[must_use]
    pub fn with_burst(self, burst: Option<u32>) -> Self {
        Self { burst: burst.map_or(self.burst, |b| b.clamp(1, Self::MOST)), ..self }
    }

    /// So many times as much, as far as a rate goes.
    #[must_use]
    pub fn times(self, factor: u32) -> Self {
        let most = |n: u32| n.saturating_mul(factor).min(Self::MOST);
        Self { per_minute: most(self.per_minute), burst: most(self.burst) }
    }

    /// What a request is worth, in microseconds.
    pub(super) fn step(self) -> u64 {
        let per_minute = u64::from(self.per_minute.clamp(1, Self::MOST));
        (60_000_000 + per_minute / 2) / per_minute
    }
}

/// A text that is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongRate;

impl fmt::Display for WrongRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a rate is PER_MINUTE or PER_MINUTE:BURST, each from 1 to {}", Rate::MOST)
    }
}

impl FromStr for Rate {
    type Err = WrongRate;

    /// `6000:500`, or `6000` alone.
    fn from_str(text: &str) -> Result<Self, WrongRate> {
        let number = |text: &str| {
            let number = text.trim().parse().map_err(|_| WrongRate)?;
            if (1..=Self::MOST).contains(&number) { Ok(number) } else { Err(WrongRate) }
        };
        match text.split_once(':') {
            None => number(text).map(Self::per_minute),
            Some((rate, burst)) => Ok(Self { per_minute: number(rate)?, burst: number(burst)? }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let rate = |text: &str| text.parse::<Rate>().map(|r| (r.per_minute, r.burst));
        assert_eq!(rate("6000"), Ok((6_000, 500)));
        assert_eq!(rate("6000:7"), Ok((6_000, 7)));
        assert_eq!(rate("10"), Ok((10, 10)));
        assert_eq!(rate(" 3 "), Ok((3, 3)));
        assert_eq!(rate("60 : 90"), Ok((60, 90)));
        for bad in ["", "0", "-1", "1000001", "6000:0", "6000:", ":5", "6000:5:5", "6e3", "99999999999"] {
            assert_eq!(rate(bad), Err(WrongRate), "{bad}");
        }
    }

    #[test]
    fn factors_stay_in_bounds() {
        assert_eq!(Rate { per_minute: 6_000, burst: 500 }.times(10), Rate { per_minute: 60_000, burst: 5_000 });
        assert_eq!(Rate { per_minute: Rate::MOST, burst: 1 }.times(10), Rate { per_minute: Rate::MOST, burst: 10 });
        assert_eq!(Rate::per_minute(6_000).with_burst(Some(0)).burst, 1);
    }

    #[test]
    fn a_step_is_near_its_rate() {
        for per_minute in (1..=Rate::MOST).step_by(997) {
            let step = Rate { per_minute, burst: 1 }.step() as f64;
            let wrong = (60e6 / step / f64::from(per_minute) - 1.0).abs();
            assert!(wrong < 0.01, "{per_minute}: {wrong}");
        }
    }
}
