//! Counts what was read of a remote object, readable while it runs: for progress, for provenance, and to say why nothing
//! moves. Written by `fetch` only.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde::Serialize;

/// What reading the object cost, for provenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Account {
    /// Bytes of the object that came from the origin, those read twice counted twice.
    pub bytes: u64,
    /// Requests sent to it, the first and the last check included. Redirects are not counted.
    pub requests: u32,
    /// How many of them repeated one that failed.
    pub retries: u32,
    /// Bytes that were read by ffprobe and header readers, or on their way to them.
    pub served_bytes: u64,
    /// Whether the object was the same at the end.
    pub end_check: EndCheck,
}

/// Outcome of the check at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCheck {
    /// Not made: the bytes came in one quick answer, or reading did not end well.
    #[default]
    NotMade,
    /// The same version is still there.
    Same,
    /// It is another one, or gone.
    Changed,
    /// The origin did not say.
    Unknown,
}

/// Why nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stalled {
    /// A request was sent and no answer came yet.
    WaitingForAnswer,
    /// The answer began and its bytes stopped coming.
    WaitingForBytes,
    /// The origin failed and is asked again in a moment.
    WaitingToRetry,
}

/// How far reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Bytes read from the origin so far.
    pub bytes: u64,
    /// Bytes the object has.
    pub total_bytes: u64,
    /// Why nothing has come for a while.
    pub stalled: Option<Stalled>,
}

/// The counters of one object.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<Counters>);

#[derive(Debug, Default)]
struct Counters {
    account: Account,
    waiting: Option<(Stalled, Instant)>,
}

impl Meter {
    pub(super) fn account(&self) -> Account {
        self.with(|c| c.account)
    }

    pub(super) fn add(&self, change: impl FnOnce(&mut Account)) {
        self.with(|c| change(&mut c.account));
    }

    /// What has been waited for longer than `patience`.
    pub(super) fn stalled(&self, patience: Duration) -> Option<Stalled> {
        self.with(|c| c.waiting).filter(|(_, since)| since.elapsed() >= patience).map(|(what, _)| what)
    }

    /// Says what is waited for until the guard is dropped. A wait that follows another without a byte in between goes on.
    pub(super) fn wait(&self, what: Stalled) -> Waiting<'_> {
        self.with(|c| {
            let since = c.waiting.map_or_else(Instant::now, |(_, since)| since);
            c.waiting = Some((what, since));
        });
        Waiting(self)
    }

    /// Bytes came: whatever was waited for is over.
    pub(super) fn moved(&self) {
        self.with(|c| c.waiting = None);
    }

    fn with<T>(&self, f: impl FnOnce(&mut Counters) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Ends the wait if whoever waited gives up.
pub(super) struct Waiting<'a>(&'a Meter);

impl Waiting<'_> {
    /// The wait ended, and another one may follow.
    pub(super) fn goes_on(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.moved();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_stall_until_bytes_come_or_nobody_waits() {
        let meter = Meter::default();
        assert_eq!(meter.stalled(Duration::ZERO), None);
        let waiting = meter.wait(Stalled::WaitingForAnswer);
        assert_eq!(meter.stalled(Duration::ZERO), Some(Stalled::WaitingForAnswer));
        assert_eq!(meter.stalled(Duration::from_secs(60)), None);
        waiting.goes_on();
        let waiting = meter.wait(Stalled::WaitingToRetry);
        assert_eq!(meter.stalled(Duration::ZERO), Some(Stalled::WaitingToRetry));
        drop(waiting);
        assert_eq!(meter.stalled(Duration::ZERO), None);
    }
}
