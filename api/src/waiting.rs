//! Requests that wait for the end of a job. However many wait, one task looks for all of them: it hears the bells, gathers
//! the jobs that somebody wants to know of, and reads them in one query; as its safety net it asks once a second which have
//! ended. A waiter holds no database connection and asks nothing itself. Called by the routes of jobs.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::Error;
use shared::access::Principal;
use shared::error::Result;
use shared::id::JobId;
use shared::job::Job;
use shared::queue::Bell;
use shared::store;
use shared::store::Pool;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use crate::App;

/// How late a waiter may learn of an end whose bell was lost.
const SAFETY_NET: Duration = Duration::from_secs(1);
/// Most jobs asked for in one query.
const BATCH: usize = 1_000;
/// How long the last look of a waiter may take before it looks by itself.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// All requests of this process that wait.
#[derive(Default)]
pub struct Waiters {
    board: Mutex<Board>,
    /// Somebody wants to know of a job.
    asked: Notify,
}

#[derive(Default)]
struct Board {
    jobs: HashMap<JobId, Awaited>,
    /// Jobs to be looked at.
    wanted: HashSet<JobId>,
    /// Counts looks: what one of them sees is no older than its beginning.
    look: u64,
}

/// A job that somebody waits for.
struct Awaited {
    seen: watch::Sender<(u64, Seen)>,
    waiters: usize,
}

/// What a look saw of a job.
#[derive(Clone)]
enum Seen {
    Job(Arc<Job>),
    /// There is none.
    Nothing,
    /// The database did not answer, or nothing that can be read.
    Failure,
}

/// One request's place among the waiters; leaving is dropping it.
struct Waiter<'a> {
    all: &'a Waiters,
    job: JobId,
    seen: watch::Receiver<(u64, Seen)>,
    /// Looks that began before do not count.
    since: u64,
}

/// The job once it has ended, or as it stands after `wait`. Holds no database connection meanwhile.
pub async fn wait_for(app: &App, who: &Principal, id: JobId, wait: Duration) -> Result<Job> {
    let look = async || {
        let found = store::in_time(store::job::find(&app.db, who.tenant, id)).await?;
        found.ok_or_else(|| Error::not_found("job"))
    };
    if wait.is_zero() || app.draining.is_cancelled() {
        return look().await;
    }
    let deadline = Instant::now() + wait;
    let mut waiter = app.waiters.join(id);
    let mut is_known = false;
    loop {
        let seen = tokio::select! {
            seen = timeout_at(deadline, waiter.next()) => seen,
            () = app.draining.cancelled() => break,
        };
        match seen {
            Ok(Seen::Job(job)) if job.tenant != who.tenant => return Err(Error::not_found("job")),
            Ok(Seen::Job(job)) if job.state.is_terminal() => return Ok(Arc::unwrap_or_clone(job)),
            Ok(Seen::Job(_)) => is_known = true,
            Ok(Seen::Nothing) => return Err(Error::not_found("job")),
            // who knows that the job is there waits on; the database may come back in time
            Ok(Seen::Failure) if is_known => {}
            Ok(Seen::Failure) => return look().await,
            Err(_) => break,
        }
    }
    waiter.ask();
    match timeout(LAST_LOOK, waiter.next()).await {
        Ok(Seen::Job(job)) if job.tenant == who.tenant => Ok(Arc::unwrap_or_clone(job)),
        _ => look().await,
    }
}

impl Waiters {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait for `job`, and asks for a look at it.
    fn join(&self, job: JobId) -> Waiter<'_> {
        let mut board = self.board();
        let awaited =
            board.jobs.entry(job).or_insert_with(|| Awaited { seen: watch::channel((0, Seen::Nothing)).0, waiters: 0 });
        awaited.waiters += 1;
        let seen = awaited.seen.subscribe();
        let mut waiter = Waiter { all: self, job, seen, since: 0 };
        drop(board);
        waiter.ask();
        waiter
    }

    /// Looks for everybody, for ever, as a task of its own.
    pub async fn run(&self, db: Pool, mut bells: broadcast::Receiver<Bell>) {
        let mut tick = interval(SAFETY_NET);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut is_late = tokio::select! {
                bell = bells.recv() => match bell {
                    Ok(bell) => self.hear(bell),
                    Err(RecvError::Lagged(_)) => true,
                    Err(RecvError::Closed) => return,
                },
                () = self.asked.notified() => false,
                _ = tick.tick() => true,
            };
            // everything that has rung by now: one look answers many bells
            loop {
                match bells.try_recv() {
                    Ok(bell) => is_late |= self.hear(bell),
                    Err(TryRecvError::Lagged(_)) => is_late = true,
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            if is_late {
                self.ask_for_ends(&db).await;
            }
            self.look(&db).await;
        }
    }

    /// Marks a job that has ended. `true`: bells were missed, so that others may have, too.
    fn hear(&self, bell: Bell) -> bool {
        match bell {
            Bell::Done(job) => self.want([job]),
            Bell::Missed => return true,
            Bell::Wake | Bell::Cancel(_) | Bell::Release(_) | Bell::Access(_) | Bell::Published => {}
        }
        false
    }

    /// Marks those of these jobs that somebody waits for.
    fn want(&self, jobs: impl IntoIterator<Item = JobId>) {
        let mut board = self.board();
        let Board { jobs: awaited, wanted, .. } = &mut *board;
        wanted.extend(jobs.into_iter().filter(|job| awaited.contains_key(job)));
    }

    /// Marks what has ended, whatever bells have rung.
    async fn ask_for_ends(&self, db: &Pool) {
        let awaited: Vec<JobId> = self.board().jobs.keys().copied().collect();
        for batch in awaited.chunks(BATCH) {
            match store::in_time(store::job::list_ended(db, batch)).await {
                Ok(ended) => self.want(ended),
                Err(error) => {
                    tracing::warn!(%error, "cannot see which jobs have ended; asking again in a second");
                    return;
                }
            }
        }
    }

    /// Looks at jobs that are wanted, as many as fit into a query; the next look is at the others.
    async fn look(&self, db: &Pool) {
        let (look, jobs) = {
            let mut board = self.board();
            let jobs: Vec<JobId> = board.wanted.iter().take(BATCH).copied().collect();
            for job in &jobs {
                board.wanted.remove(job);
            }
            if !board.wanted.is_empty() {
                self.asked.notify_one();
            }
            board.look += 1;
            (board.look, jobs)
        };
        if jobs.is_empty() {
            return;
        }
        let found = store::in_time(store::job::list_by_id(db, &jobs)).await;
        let board = self.board();
        let tell = |job: JobId, seen: Seen| board.jobs.get(&job).map(|awaited| awaited.seen.send_replace((look, seen)));
        match found {
            Ok(mut found) => {
                for id in jobs {
                    let seen = match found.remove(&id) {
                        Some(Ok(job)) => Seen::Job(Arc::new(job)),
                        Some(Err(error)) => {
                            tracing::warn!(%error, job.id = %id, "a job that is waited for cannot be read");
                            Seen::Failure
                        }
                        None => Seen::Nothing,
                    };
                    tell(id, seen);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot see what became of jobs that are waited for");
                jobs.into_iter().for_each(|job| drop(tell(job, Seen::Failure)));
            }
        }
    }
}

impl Waiter<'_> {
    /// Asks for a look at the job that begins after this.
    fn ask(&mut self) {
        let mut board = self.all.board();
        board.wanted.insert(self.job);
        self.since = board.look + 1;
        drop(board);
        self.all.asked.notify_one();
    }

    /// What the next look at the job sees.
    async fn next(&mut self) -> Seen {
        let since = self.since;
        match self.seen.wait_for(|(look, _)| *look >= since).await {
            Ok(seen) => {
                self.since = seen.0 + 1;
                seen.1.clone()
            }
            // the sender lives as long as somebody waits
            Err(_) => Seen::Failure,
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut board = self.all.board();
        if let Entry::Occupied(mut entry) = board.jobs.entry(self.job) {
            entry.get_mut().waiters -= 1;
            if entry.get().waiters == 0 {
                entry.remove();
                board.wanted.remove(&self.job);
            }
        }
    }
}
