//! What happens after a failed attempt: another one later, or the end. Pure; the caller brings the dice.

use std::time::Duration;

use super::{Failure, FailureCode};

/// Waits before the second, third, fourth and every later attempt.
const BACKOFF: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];

/// A file that crashes ffprobe is tried this often: once more may help after a one-off, a third time never did.
const CRASH_ATTEMPTS: i16 = 2;

/// The longest wait that the other side of a source may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Queue it again, due after this long.
    RetryAfter(Duration),
    /// It has failed for good.
    GiveUp,
}

/// Decides what follows attempt number `attempt` (from 1) of at most `max_attempts`.
/// `dice` in `0.0..1.0` spreads the wait by ±20 %, so that jobs that failed together do not return together.
pub fn after_failure(failure: &Failure, attempt: i16, max_attempts: i16, dice: f64) -> Next {
    let limit = match failure.code {
        FailureCode::FfprobeCrashed => max_attempts.min(CRASH_ATTEMPTS),
        _ => max_attempts,
    };
    if !failure.retryable || attempt >= limit {
        return Next::GiveUp;
    }
    let step = usize::try_from(attempt - 1).unwrap_or(0).min(BACKOFF.len() - 1);
    let wait = BACKOFF[step].mul_f64(0.8 + 0.4 * dice.clamp(0.0, 1.0));
    let asked = Duration::from_secs(failure.retry_after_seconds.unwrap_or(0).into());
    Next::RetryAfter(wait.max(asked.min(LONGEST_ASKED)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permanent_failures_are_final() {
        let failure = Failure::new(FailureCode::InvalidMedia, "");
        assert_eq!(after_failure(&failure, 1, 5, 0.5), Next::GiveUp);
    }

    #[test]
    fn waits_grow_and_end() {
        let failure = Failure::new(FailureCode::StorageError, "");
        let waits: Vec<Next> = (1..=5).map(|n| after_failure(&failure, n, 5, 0.5)).collect();
        let secs = |s| Next::RetryAfter(Duration::from_secs(s));
        assert_eq!(waits, [secs(5), secs(30), secs(120), secs(600), Next::GiveUp]);
    }

    #[test]
    fn dice_spread_by_a_fifth() {
        let failure = Failure::new(FailureCode::StorageError, "");
        assert_eq!(after_failure(&failure, 1, 5, 0.0), Next::RetryAfter(Duration::from_secs(4)));
        assert_eq!(after_failure(&failure, 1, 5, 1.0), Next::RetryAfter(Duration::from_secs(6)));
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_within_reason() {
        let mut failure = Failure::new(FailureCode::RemoteUnavailable, "");
        for (asked, seconds) in [(1, 5), (17, 17), (1_000_000, 3600)] {
            failure.retry_after_seconds = Some(asked);
            assert_eq!(after_failure(&failure, 1, 5, 0.5), Next::RetryAfter(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn a_crash_is_tried_once_more() {
        let failure = Failure::new(FailureCode::FfprobeCrashed, "");
        assert!(matches!(after_failure(&failure, 1, 5, 0.5), Next::RetryAfter(_)));
        assert_eq!(after_failure(&failure, 2, 5, 0.5), Next::GiveUp);
    }
}
