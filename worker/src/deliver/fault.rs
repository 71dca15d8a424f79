//! What keeps the service itself from sending. It is said in the log once in a while, however many deliveries it holds up.
//! Used by the sender.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::Error;
use shared::store::delivery::turn::Claimed;
use tokio::time::Instant;

/// How long nothing more is said.
const QUIET: Duration = Duration::from_secs(60);

/// When it was said last, and how many deliveries were held up since.
#[derive(Default)]
pub(super) struct Faults(Mutex<(Option<Instant>, u64)>);

impl Faults {
    /// A delivery was held up.
    pub(super) fn tell(&self, claimed: &Claimed, error: &Error) {
        let held_up = {
            let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.1 += 1;
            if told.0.is_some_and(|at| at.elapsed() < QUIET) {
                return;
            }
            told.0 = Some(Instant::now());
            std::mem::take(&mut told.1)
        };
        tracing::error!(%error, webhook.id = %claimed.webhook, deliveries = held_up,
            "the service cannot send to webhooks; what is held up is sent once it can");
    }
}
