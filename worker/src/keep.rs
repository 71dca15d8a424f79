//! Keeping a lease while a job runs: beats, and the order to stop. The worker judges its own lease by monotonic time
//! from before a beat was sent, so that neither a slow network nor a wrong clock makes it believe in a lease that
//! others may already have taken.

use std::time::Duration;

use shared::job::{Claim, Progress};
use shared::lifecycle::{self, Beat, LEASE};
use shared::queue::Bell;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::Worker;

/// How often the lease is renewed.
const BEAT: Duration = Duration::from_secs(5);
/// A beat that takes longer is given up; the next one follows soon.
const BEAT_PATIENCE: Duration = Duration::from_secs(3);
/// Without an answer for this long the worker stops by itself, before others may start the job.
const SELF_FENCE: Duration = Duration::from_secs(LEASE.as_secs() * 4 / 5);

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
    let mut good_until = claimed_from + SELF_FENCE;
    let mut tick = interval_at(Instant::now() + BEAT, BEAT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = tokio::select! {
            () = worker.kill.cancelled() => return Stop::Released,
            () = tokio::time::sleep_until(good_until) => {
                tracing::warn!("PostgreSQL gave no answer for most of the lease; stopping before somebody else starts");
                return Stop::Lost;
            }
            _ = tick.tick() => Instant::now(),
            bell = bells.recv() => match bell {
                Ok(Bell::Cancel(id)) if id == claim.job.id => Instant::now(),
                Ok(Bell::Missed) | Err(RecvError::Lagged(_)) => Instant::now(),
                Ok(_) => continue,
                // the listener is gone for good; beats remain
                Err(RecvError::Closed) => { tick.tick().await; Instant::now() }
            },
        };
        let now = progress();
        match timeout(BEAT_PATIENCE, lifecycle::beat(&worker.db, claim, now.as_ref())).await {
            Ok(Ok(Beat::Renewed)) => good_until = asked + SELF_FENCE,
            Ok(Ok(Beat::CancelRequested)) => return Stop::Canceled,
            Ok(Ok(Beat::Lost)) => return Stop::Lost,
            Ok(Err(error)) => {
                tracing::warn!(%error, "beat failed");
                tick.reset_after(Duration::from_secs(1));
            }
            Err(_) => tick.reset_after(Duration::from_secs(1)),
        }
    }
}
