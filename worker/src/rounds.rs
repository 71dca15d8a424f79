//! The beat of a part that looks at PostgreSQL again and again: at intervals, and sooner when a bell rings for it. Used by the
//! relay, the publisher and the deliverer. It says once that something is wrong and once that it is over, never in between.

use std::time::Duration;

use shared::error::Result;
use shared::queue::Bell;
use shared::store::in_time;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::Worker;

/// How long bells are gathered before they are acted upon: several at once are one reason to look.
const GATHER: Duration = Duration::from_millis(20);
/// Pause after a round that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// What a part says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// When rounds begin to fail.
    pub fails: &'static str,
    /// When they are well again.
    pub works: &'static str,
}

/// The rounds of one part.
pub struct Rounds {
    bells: Receiver<Bell>,
    tick: Interval,
    wakes: fn(Bell) -> bool,
    words: Words,
    draining: CancellationToken,
    troubled: bool,
}

impl Rounds {
    /// Rounds at least every `every`, and when a bell rings that `wakes` says yes to.
    pub fn new(worker: &Worker, every: Duration, wakes: fn(Bell) -> bool, words: Words) -> Self {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (bells, draining) = (worker.bells.subscribe(), worker.draining.clone());
        Self { bells, tick, wakes, words, draining, troubled: false }
    }

    /// Waits for the next round. `false`: the worker drains, so there is none.
    pub async fn next(&mut self) -> bool {
        loop {
            tokio::select! {
                () = self.draining.cancelled() => return false,
                _ = self.tick.tick() => return true,
                bell = self.bells.recv() => match bell {
                    Ok(bell) if bell != Bell::Missed && !(self.wakes)(bell) => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        sleep(GATHER).await;
                        while self.bells.try_recv().is_ok() {}
                        return true;
                    }
                    // the ticks go on
                    Err(RecvError::Closed) => {
                        self.tick.tick().await;
                        return true;
                    }
                },
            }
        }
    }

    /// Does one round. One that waits for a PostgreSQL that is gone without a word is given up. After one that failed it pauses;
    /// `None` says so.
    pub async fn hold<T>(&mut self, round: impl Future<Output = Result<T>>) -> Option<T> {
        match in_time(round).await {
            Ok(done) => {
                if self.troubled {
                    tracing::info!("{}", self.words.works);
                }
                self.troubled = false;
                Some(done)
            }
            Err(error) => {
                if !self.troubled {
                    tracing::warn!(%error, "{}", self.words.fails);
                }
                self.troubled = true;
                tokio::select! {
                    () = self.draining.cancelled() => {}
                    () = sleep(PAUSE) => {}
                }
                None
            }
        }
    }
}
