//! Requests that wait for the end of a job. Any number of them share one doorbell subscription and, as its safety net,
//! one query a second; a waiter holds no database connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::id::JobId;
use shared::queue::Bell;
use shared::store;
use shared::store::Pool;
use tokio::sync::{Notify, broadcast};
use tokio::time::{MissedTickBehavior, interval};

/// How late a waiter may learn of an end whose bell was lost.
const SAFETY_NET: Duration = Duration::from_secs(1);
/// Most jobs asked for in one query.
const BATCH: usize = 1_000;

/// All requests of this process that wait.
#[derive(Default)]
pub struct Waiters {
    jobs: Mutex<HashMap<JobId, (Arc<Notify>, usize)>>,
}

/// One request's place among the waiters; leaving is dropping it.
pub struct Waiter<'a> {
    all: &'a Waiters,
    job: JobId,
    notify: Arc<Notify>,
}

impl Waiters {
    /// Begins to wait for `job`. Look at the database after this call, not before, or the bell may be missed.
    pub fn join(&self, job: JobId) -> Waiter<'_> {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let (notify, count) = jobs.entry(job).or_default();
        *count += 1;
        Waiter { all: self, job, notify: Arc::clone(notify) }
    }

    fn wake(&self, job: JobId) {
        if let Some((notify, _)) = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).get(&job) {
            notify.notify_waiters();
        }
    }

    fn waited_for(&self) -> Vec<JobId> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    /// Wakes waiters by the bell and, once a second, by asking the database. Runs for ever as a task of its own.
    pub async fn run(&self, db: Pool, mut bells: broadcast::Receiver<Bell>) {
        let mut tick = interval(SAFETY_NET);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                bell = bells.recv() => match bell {
                    Ok(Bell::Done(job)) => self.wake(job),
                    Ok(Bell::Missed) | Err(broadcast::error::RecvError::Lagged(_)) => self.look(&db).await,
                    Ok(Bell::Wake | Bell::Cancel(_) | Bell::Release(_) | Bell::Access(_) | Bell::Published) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = tick.tick() => self.look(&db).await,
            }
        }
    }

    async fn look(&self, db: &Pool) {
        for batch in self.waited_for().chunks(BATCH) {
            match store::job::list_ended(db, batch).await {
                Ok(ended) => ended.into_iter().for_each(|job| self.wake(job)),
                Err(error) => {
                    tracing::warn!(%error, "cannot see which jobs have ended; asking again in a second");
                    return;
                }
            }
        }
    }
}

impl Waiter<'_> {
    /// A future for the next sign that the job may have ended. Make it before looking at the database.
    pub fn sign(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut jobs = self.all.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = jobs.entry(self.job) {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
            }
        }
    }
}
