//! The publisher: events that were written with a change get their place in the order that clients see, and streams are told
//! to read on. Any number of workers with the role `deliver` may run; they take turns.

use std::sync::Arc;
use std::time::Duration;

use shared::error::Result;
use shared::lifecycle::{self, Published};
use shared::queue::Bell;

use crate::Worker;
use crate::rounds::{Rounds, Words};

/// How often unpublished events are looked for when no bell rings; so late is what is not rung for, such as a start.
const TICK: Duration = Duration::from_millis(200);
const WORDS: Words = Words {
    fails: "events cannot be published; they are once PostgreSQL answers",
    works: "events are published again",
};

/// Publishes until the worker drains.
pub async fn run(worker: Arc<Worker>) {
    let wakes = |bell| matches!(bell, Bell::Wake | Bell::Done(_));
    let mut rounds = Rounds::new(&worker, TICK, wakes, WORDS);
    while rounds.next().await {
        // what has piled up takes many rounds: each is told of by itself, and none takes long
        while rounds.hold(round(&worker)).await == Some(true) && !worker.draining.is_cancelled() {}
    }
}

/// Publishes what there is, up to a bound. Whether there is more.
async fn round(worker: &Worker) -> Result<bool> {
    let Published { count, more } = lifecycle::publish(&worker.db).await?;
    if count > 0 {
        worker.metrics.published.inc_by(u64::try_from(count).unwrap_or(0));
        worker.ring(Bell::Published).await;
    }
    Ok(more)
}
