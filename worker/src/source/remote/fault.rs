//! What can go wrong between the worker and an origin, and whether asking again at once can help. Made by the origins,
//! judged by `fetch`, and in the end a [`Failure`] on the job. A message never holds a URL's query or a credential.

use std::time::Duration;

use shared::job::{Failure, FailureCode};

/// Whether the same request, repeated within this attempt, may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// No: it ends the read.
    Never,
    /// Yes, after a back-off.
    Soon,
    /// Yes, after the time the origin asks for.
    After(Duration),
}

/// Why a request to an origin failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable reason.
    pub code: FailureCode,
    /// What was seen, in one line.
    pub message: String,
    /// Whether to ask again.
    pub again: Again,
}

impl Fault {
    /// A fault that asking again does not mend.
    pub fn last(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), again: Again::Never }
    }

    /// A fault that may be gone in a moment.
    pub fn passing(code: FailureCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), again: Again::Soon }
    }

    /// The origin cannot answer now, and perhaps said for how long.
    pub fn unavailable(message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        let again = retry_after.map_or(Again::Soon, Again::After);
        Self { code: FailureCode::RemoteUnavailable, message: message.into(), again }
    }

    /// The connection ended before all bytes had come.
    pub fn lost(message: impl Into<String>) -> Self {
        Self::passing(FailureCode::ConnectionLost, message)
    }

    /// It is another version than the one that was opened.
    pub fn changed(message: impl Into<String>) -> Self {
        Self::last(FailureCode::SourceChanged, message)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let mut failure = Self::new(fault.code, fault.message);
        if let Again::After(wait) = fault.again {
            // a wait of less than a second is one too
            let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
            failure.retry_after_seconds = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_an_origin_asks_for_reaches_the_job() {
        let asked = |wait| Failure::from(Fault::unavailable("x", wait)).retry_after_seconds;
        assert_eq!(asked(None), None);
        assert_eq!(asked(Some(Duration::from_secs(60))), Some(60));
        assert_eq!(asked(Some(Duration::from_millis(100))), Some(1));
        assert_eq!(asked(Some(Duration::MAX)), Some(u32::MAX));
        assert!(Failure::from(Fault::lost("x")).retryable);
    }
}
