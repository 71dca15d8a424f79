//! Events on their way to the database: gathered, and written in batches within half a second. Filled by the audit layer,
//! emptied by one task and, at a stop, by `serve`. Memory is bounded: events that find no room are counted as lost, and the
//! log says so. A batch that is not written is tried again until it is; a row the database refuses never holds up the others.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::audit::{Actor, Event, Outcome};
use shared::error::Result;
use shared::store::Pool;
use shared::{Code, store};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::App;
use crate::metrics::Metrics;

/// How long an event waits for others.
const GATHER: Duration = Duration::from_millis(400);
/// Events written at once.
const BATCH: usize = 500;
/// Events that may wait.
const WAITING: usize = 8_192;
/// Refusals of different kinds that may wait; one kind is one row, with a count.
const REFUSALS: usize = 1_024;
/// Wait before a batch that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long the last events may take when the process stops.
const LAST: Duration = Duration::from_secs(5);

/// Events that are not written yet.
#[derive(Default)]
pub struct Recorder {
    waiting: Mutex<Waiting>,
    /// A whole batch waits.
    full: Notify,
    /// One writes at a time, so that a stop waits for the batch on its way.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<(Instant, Event)>,
    /// The same refusal again and again within a batch: a guesser cannot fill the trail faster than this.
    refusals: HashMap<Refused, (Instant, Event, u64)>,
    lost: u64,
}

/// What makes refusals the same.
#[derive(PartialEq, Eq, Hash)]
struct Refused {
    action: &'static str,
    actor: Actor,
    client: Option<IpAddr>,
    code: Option<&'static str>,
    /// The route, and the key that was tried.
    detail: String,
}

impl Recorder {
    /// Takes an event to be written soon.
    pub fn push(&self, event: Event) {
        super::log(&event);
        self.push_again(event);
    }

    /// Takes an event that the log knows already.
    pub fn push_again(&self, event: Event) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if event.outcome == Outcome::Denied {
            waiting.refuse(event);
        } else if waiting.events.len() < WAITING {
            waiting.events.push_back((Instant::now(), event));
        } else {
            waiting.lost += 1;
        }
        if waiting.events.len() >= BATCH {
            self.full.notify_one();
        }
    }

    /// Writes what comes, for as long as the process lives.
    pub async fn run(app: Arc<App>) {
        let this = &app.audit;
        loop {
            tokio::select! {
                () = sleep(GATHER) => {}
                () = this.full.notified() => {}
            }
            if let Err(error) = this.flush(&app.db, &app.metrics).await {
                tracing::warn!(target: "audit", %error, "events are not written yet; they are tried again");
                sleep(AGAIN).await;
            }
        }
    }

    /// Writes what is left when no more requests come.
    pub async fn finish(&self, db: &Pool, metrics: &Metrics) {
        let last = async {
            while let Err(error) = self.flush(db, metrics).await {
                tracing::debug!(%error, "the last events are tried again");
                sleep(AGAIN).await;
            }
        };
        if timeout(LAST, last).await.is_err() {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let left = waiting.events.len() + waiting.refusals.len();
            metrics.audit_lost.inc_by(left as u64);
            waiting.events.clear();
            waiting.refusals.clear();
            tracing::error!(target: "audit", events = left, "events are lost: the database did not take them before the stop");
        }
    }

    /// Writes everything that waits, batch by batch.
    async fn flush(&self, db: &Pool, metrics: &Metrics) -> Result<()> {
        let _turn = self.writing.lock().await;
        loop {
            let (batch, lost) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            if lost > 0 {
                metrics.audit_lost.inc_by(lost);
                tracing::error!(target: "audit", events = lost, "events are lost: more came than could be written");
            }
            if batch.is_empty() {
                return Ok(());
            }
            // back into the queue if this future is dropped on the way
            let mut batch = Batch { recorder: self, events: batch };
            match write(db, &batch.events).await {
                Ok(()) => {
                    metrics.audit_written.inc_by(batch.take().len() as u64);
                }
                Err(error) if error.code() == Code::Unavailable => return Err(error),
                Err(_) => one_by_one(db, metrics, &mut batch).await?,
            }
        }
    }
}

async fn write(db: &Pool, batch: &[(Instant, Event)]) -> Result<()> {
    let aged: Vec<(Duration, &Event)> = batch.iter().map(|(since, event)| (since.elapsed(), event)).collect();
    store::in_time(store::audit::insert_late(db, &aged)).await
}

/// Finds the rows that the database refuses for what they are; those are lost, and the log has them.
async fn one_by_one(db: &Pool, metrics: &Metrics, batch: &mut Batch<'_>) -> Result<()> {
    while let Some(next) = batch.events.last() {
        match write(db, std::slice::from_ref(next)).await {
            Ok(()) => {
                metrics.audit_written.inc();
            }
            Err(error) if error.code() == Code::Unavailable => return Err(error),
            Err(error) => {
                metrics.audit_lost.inc();
                tracing::error!(target: "audit", %error, event = ?next.1, "an event is lost: the database refuses it");
            }
        }
        batch.events.pop();
    }
    Ok(())
}

/// Events being written; those that were not go back to where they came from.
struct Batch<'a> {
    recorder: &'a Recorder,
    events: Vec<(Instant, Event)>,
}

impl Batch<'_> {
    fn take(&mut self) -> Vec<(Instant, Event)> {
        mem::take(&mut self.events)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let events = self.take();
        let mut waiting = self.recorder.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events.into_iter().rev() {
            waiting.events.push_front(event);
        }
        // refusals come back as events, so that an outage could pile them up
        let room = waiting.events.len().min(WAITING);
        waiting.lost += (waiting.events.len() - room) as u64;
        waiting.events.truncate(room);
    }
}

impl Waiting {
    fn refuse(&mut self, event: Event) {
        let kind = Refused {
            action: event.action,
            actor: event.actor.clone(),
            client: event.client,
            code: event.code,
            detail: serde_json::Value::Object(event.detail.clone()).to_string(),
        };
        let room = self.refusals.len() < REFUSALS;
        match self.refusals.entry(kind) {
            Entry::Occupied(mut entry) => entry.get_mut().2 += 1,
            Entry::Vacant(entry) if room => drop(entry.insert((Instant::now(), event, 1))),
            Entry::Vacant(_) => self.lost += 1,
        }
    }

    /// A batch, oldest first, and how many were lost since the last one.
    fn take(&mut self) -> (Vec<(Instant, Event)>, u64) {
        let mut batch: Vec<(Instant, Event)> = self.events.drain(..self.events.len().min(BATCH)).collect();
        for (since, mut event, count) in mem::take(&mut self.refusals).into_values() {
            if count > 1 {
                event.detail.insert("count".to_owned(), count.into());
            }
            batch.push((since, event));
        }
        (batch, mem::take(&mut self.lost))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use shared::id::AuditEventId;

    use super::*;

    fn event(action: &'static str, outcome: Outcome, client: u8) -> Event {
        Event {
            id: AuditEventId::new(),
            tenant: None,
            actor: Actor::ANONYMOUS,
            client: Some(IpAddr::from([192, 0, 2, client])),
            request_id: None,
            action,
            target: None,
            outcome,
            status: None,
            code: None,
            detail: Map::new(),
        }
    }

    #[test]
    fn the_same_refusal_is_one_row_with_a_count() {
        let recorder = Recorder::default();
        for client in [1, 1, 1, 2] {
            recorder.push(event("auth.failed", Outcome::Denied, client));
        }
        let (batch, lost) = recorder.waiting.lock().unwrap().take();
        let mut counts: Vec<_> = batch.iter().map(|(_, e)| e.detail.get("count").and_then(|c| c.as_u64())).collect();
        counts.sort();
        assert_eq!((counts, lost), (vec![None, Some(3)], 0));
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_lost_is_counted() {
        let recorder = Recorder::default();
        for _ in 0..WAITING + 3 {
            recorder.push(event("job.list", Outcome::Success, 1));
        }
        for client in 0..=u8::MAX {
            for action in ["a.a", "b.b", "c.c", "d.d", "e.e"] {
                recorder.push(event(action, Outcome::Denied, client));
            }
        }
        let mut waiting = recorder.waiting.lock().unwrap();
        assert_eq!((waiting.events.len(), waiting.refusals.len()), (WAITING, REFUSALS));
        let (batch, lost) = waiting.take();
        assert_eq!((batch.len(), lost), (BATCH + REFUSALS, 3 + 5 * 256 - REFUSALS as u64));
        assert_eq!(waiting.take().1, 0);
    }

    #[test]
    fn what_was_not_written_waits_again_in_its_order() {
        let recorder = Recorder::default();
        for action in ["a.a", "b.b", "c.c"] {
            recorder.push(event(action, Outcome::Success, 1));
        }
        let (events, _) = recorder.waiting.lock().unwrap().take();
        drop(Batch { recorder: &recorder, events });
        let actions: Vec<_> = recorder.waiting.lock().unwrap().events.iter().map(|(_, e)| e.action).collect();
        assert_eq!(actions, ["a.a", "b.b", "c.c"]);
    }
}
