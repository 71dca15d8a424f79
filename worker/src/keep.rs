//! Keeping a lease while a job runs: beats, and the order to stop. The worker judges its own lease by monotonic time
//! from before a beat was sent, so that neither a slow network nor a wrong clock makes it believe in a lease that
//! others may already have taken.

use std::time::Duration;

use shared::job::{Claim, Lane, Progress};
use shared::lifecycle::{self, Beat};
use shared::queue::Bell;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::Worker;

/// Longest time between beats while Redis is away, when only they tell that somebody wants the job canceled.
const BEAT_DEAF: Duration = Duration::from_secs(1);

/// Longest time between beats of a scan, which carry how far it is: a person may be watching. Each is one update of one
/// row by its key, so ten scans at once cost PostgreSQL five updates a second.
const BEAT_WATCHED: Duration = Duration::from_secs(2);

/// The times of a lease, each a part of it: a short lease is kept as safely as a long one.
struct Rhythm {
    /// How often the lease is renewed.
    beat: Duration,
    /// How often while Redis is away, and after a beat that failed.
    beat_deaf: Duration,
    /// A beat that takes longer is given up; the next one follows soon.
    patience: Duration,
    /// Without an answer for this long the worker stops by itself, before others may start the job.
    self_fence: Duration,
}

impl Rhythm {
    fn of(lease: Duration, lane: Lane) -> Self {
        let longest = if lane == Lane::Scan { BEAT_WATCHED } else { Duration::MAX };
        let beat = (lease / 4).min(longest);
        Self { beat, beat_deaf: beat.min(BEAT_DEAF), patience: lease * 3 / 20, self_fence: lease * 4 / 5 }
    }

    /// How long until the next beat, deaf or not.
    fn until_beat(&self, hearing: &mut watch::Receiver<bool>) -> Duration {
        if *hearing.borrow_and_update() { self.beat } else { self.beat_deaf }
    }
}

/// Why a running job must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The lease has gone to somebody else, or may have.
    Lost,
    /// Somebody wants the job canceled.
    Canceled,
    /// The worker is stopping and the grace is over.
    Released,
}

/// Keeps the lease until the job must stop. Dropped when the job ends first. `claimed_from` is an instant before the
/// claim was sent.
pub async fn keep(
    worker: &Worker,
    claim: &Claim,
    claimed_from: Instant,
    progress: impl Fn() -> Option<Progress>,
) -> Stop {
    let mut bells = worker.bells.subscribe();
    let rhythm = Rhythm::of(claim.lease, claim.job.lane);
    let mut good_until = claimed_from + rhythm.self_fence;
    let mut hearing = worker.hearing.subscribe();
    let mut next = Instant::now() + rhythm.until_beat(&mut hearing);
    loop {
        let asked = tokio::select! {
            // to stop comes before to beat: a beat may take its time, and the lease would be over
            biased;
            () = worker.kill.cancelled() => return Stop::Released,
            () = sleep_until(good_until) => {
                tracing::warn!("PostgreSQL gave no answer for most of the lease; stopping before somebody else starts");
                return Stop::Lost;
            }
            () = sleep_until(next) => Instant::now(),
            // deaf from now on, or no longer: the next beat comes sooner, or bells may have been missed
            Ok(()) = hearing.changed() => Instant::now(),
            bell = bells.recv() => match bell {
                Ok(Bell::Cancel(id)) if id == claim.job.id => Instant::now(),
                Ok(Bell::Missed) | Err(RecvError::Lagged(_)) => Instant::now(),
                Ok(_) => continue,
                // the listener is gone for good; beats remain
                Err(RecvError::Closed) => {
                    sleep_until(next).await;
                    Instant::now()
                }
            },
        };
        let now = progress();
        next = asked + rhythm.until_beat(&mut hearing);
        match timeout(rhythm.patience, lifecycle::beat(&worker.db, claim, now.as_ref())).await {
            Ok(Ok(Beat::Renewed)) => good_until = asked + rhythm.self_fence,
            Ok(Ok(Beat::CancelRequested)) => return Stop::Canceled,
            Ok(Ok(Beat::Lost)) => return Stop::Lost,
            Ok(Err(error)) => {
                tracing::warn!(%error, "beat failed");
                next = Instant::now() + rhythm.beat_deaf;
            }
            Err(_) => next = Instant::now() + rhythm.beat_deaf,
        }
    }
}
