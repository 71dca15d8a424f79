//! When an apalis worker looks for the next ticket. apalis' own interval forgets to set its timer when one look takes
//! longer than the interval, and the worker then sleeps until its next heartbeat; this one always leaves a waker.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use apalis_core::backend::ext::poll_strategy::{PollSnapshot, PollStrategy};
use tokio::time::{Instant, Sleep, sleep};

/// Looks every so often, for ever.
pub struct Ticker {
    every: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Ticker {
    /// Looks every `every`.
    pub fn new(every: Duration) -> Self {
        Self { every, sleep: Box::pin(sleep(every)) }
    }
}

impl PollStrategy for Ticker {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        let mut fired = false;
        while self.sleep.as_mut().poll(cx).is_ready() {
            fired = true;
            let next = Instant::now() + self.every;
            self.sleep.as_mut().reset(next);
        }
        if fired { Poll::Ready(Some(())) } else { Poll::Pending }
    }
}
