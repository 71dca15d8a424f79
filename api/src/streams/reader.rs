//! The one reader of a process: while any stream is open, it reads events behind its place and hands them out; while none
//! is, it does nothing. Woken by [`Bell::Published`]. Once a second it looks by itself, publishes what nobody else does, and
//! goes round: who has lost the right to listen, whose job is erased, who does not take what is sent, who has heard nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use shared::access::{Principal, Right, Standing};
use shared::error::Result;
use shared::id::{ApiKeyId, JobId, SessionId, TenantId};
use shared::lifecycle::{self, Published};
use shared::queue::Bell;
use shared::store::event::Of;
use shared::store::{self, in_time};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::frame::Frame;
use super::{Board, Listener, Manner, Open, Streams};
use crate::App;

/// How late an event may come whose bell was lost.
const LOOK: Duration = Duration::from_secs(1);
/// Events read at once.
const PAGE: i64 = 200;
/// Rest after a full page: clients take what they were handed before more comes.
const REST: Duration = Duration::from_millis(20);
/// Longest silence of a stream: proxies close what is silent for a minute.
const SILENCE: Duration = Duration::from_secs(15);
/// How long a connection may keep what it was handed without sending it.
const STUCK: Duration = Duration::from_secs(20);
/// How long a stream that ends politely may take for it.
const FAREWELL: Duration = Duration::from_secs(2);
/// Keys, sessions or jobs asked for in one query.
const BATCH: usize = 1_000;

/// What woke the reader.
#[derive(Debug, Default)]
struct Heard {
    /// There may be events.
    news: bool,
    /// What these tenants' keys may do has changed.
    access: HashSet<TenantId>,
}

impl Heard {
    fn note(&mut self, bell: Bell) {
        match bell {
            Bell::Published | Bell::Missed => self.news = true,
            Bell::Access(tenant) => drop(self.access.insert(tenant)),
            Bell::Wake | Bell::Done(_) | Bell::Cancel(_) | Bell::Release(_) => {}
        }
    }

    /// Everything that has rung by now: one look answers many bells.
    fn rest(&mut self, bells: &mut Receiver<Bell>) {
        loop {
            match bells.try_recv() {
                Ok(bell) => self.note(bell),
                Err(TryRecvError::Lagged(_)) => self.news = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }
}

/// Reads until the process stops, and then ends every stream.
pub async fn run(app: Arc<App>, mut bells: Receiver<Bell>) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::default();
    loop {
        let work = async {
            if app.streams.sleeps() {
                app.streams.opened.notified().await;
            }
            turn(&app, &mut bells, &mut tick, &mut trouble).await
        };
        let goes_on = tokio::select! {
            () = app.draining.cancelled() => false,
            goes_on = work => goes_on,
        };
        if !goes_on {
            app.streams.end();
            return;
        }
    }
}

/// Waits for a reason and acts on it. `false`: no bell will ever ring again.
async fn turn(app: &Arc<App>, bells: &mut Receiver<Bell>, tick: &mut Interval, trouble: &mut Trouble) -> bool {
    let mut heard = Heard::default();
    if app.streams.has_place() {
        tokio::select! {
            bell = bells.recv() => match bell {
                Ok(bell) => heard.note(bell),
                Err(RecvError::Lagged(_)) => heard.news = true,
                Err(RecvError::Closed) => return false,
            },
            _ = tick.tick() => {
                trouble.tell(second(app).await);
                return true;
            }
        }
        heard.rest(bells);
    } else {
        trouble.tell(begin(app).await);
        if !app.streams.has_place() {
            tick.tick().await;
        }
    }
    if !heard.access.is_empty() {
        trouble.tell(check_access(app, Some(&heard.access)).await);
    }
    if heard.news {
        trouble.tell(read(app).await);
    }
    true
}

/// Tells of trouble with the database once, and of its end.
#[derive(Default)]
struct Trouble(bool);

impl Trouble {
    fn tell(&mut self, outcome: Result<()>) {
        match outcome {
            Err(error) if !self.0 => {
                tracing::warn!(%error, "events cannot be read; streams go on once PostgreSQL answers");
                self.0 = true;
            }
            Ok(()) if self.0 => {
                tracing::info!("events are read again");
                self.0 = false;
            }
            _ => {}
        }
    }
}

async fn begin(app: &App) -> Result<()> {
    let place = in_time(store::event::last_sequence(&app.db)).await?;
    app.streams.board().place = Some(place);
    app.streams.ready.notify_waiters();
    Ok(())
}

/// What is done once a second.
async fn second(app: &Arc<App>) -> Result<()> {
    // first, since it needs no database: who waits for that to come back must not take the connection for dead
    look_after(app);
    let published = publish(app).await;
    // whatever becomes of one, the others are done
    let (read, access) = (read(app).await, check_access(app, None).await);
    let jobs = check_jobs(app).await;
    published.and(read).and(access).and(jobs)
}

/// Publishes everything that waits for it, in case that no worker does.
pub async fn publish(app: &App) -> Result<()> {
    loop {
        let Published { count, more } = in_time(lifecycle::publish(&app.db)).await?;
        if count > 0 {
            app.ring(Bell::Published).await;
        }
        if !more {
            return Ok(());
        }
    }
}

/// Hands out everything behind the reader's place.
async fn read(app: &App) -> Result<()> {
    while let Some(place) = app.streams.place() {
        let page = in_time(async {
            let mut db = app.db.acquire().await?;
            store::event::list_after(&mut db, Of::All, &[], place, PAGE).await
        })
        .await?;
        for event in &page.events {
            // not the whole page under the lock: others come and go
            let dropped = app.streams.board().hand_out(event, &app.streams.scale)?;
            app.metrics.event_streams_dropped.inc_by(dropped as u64);
        }
        app.streams.board().place = Some(page.to);
        if !page.is_full {
            break;
        }
        sleep(REST).await;
    }
    Ok(())
}

/// Closes what is stuck, and gives a sign of life where it was silent.
fn look_after(app: &App) {
    let (streams, now) = (&app.streams, app.streams.now());
    let mut board = streams.board();
    let pulse = Arc::new(Frame::Pulse(board.place.unwrap_or_default()));
    let mut lost = Vec::new();
    for (number, open) in &mut board.open {
        let late = open.closing.is_some_and(|since| since.elapsed() > FAREWELL);
        if late || open.stuck_for(now) > STUCK {
            lost.push(*number);
        } else if open.sent.elapsed() >= SILENCE && !open.send(Arc::clone(&pulse), &streams.scale) {
            lost.push(*number);
        }
    }
    lost.iter().for_each(|number| board.close(*number, Manner::AtOnce));
    app.metrics.event_streams_dropped.inc_by(lost.len() as u64);
}

/// Ends the streams of those who may not listen any more; of some tenants, or of all.
async fn check_access(app: &App, of: Option<&HashSet<TenantId>>) -> Result<()> {
    let listeners = app.streams.listeners(of);
    let now = Utc::now();
    let keys: HashSet<ApiKeyId> = listeners.iter().map(|(_, listener)| listener.key).collect();
    let sessions: HashSet<SessionId> = listeners.iter().filter_map(|(_, listener)| listener.session).collect();
    let (keys, sessions) = (Vec::from_iter(keys), Vec::from_iter(sessions));
    let mut good: HashMap<ApiKeyId, Principal> = HashMap::new();
    for batch in keys.chunks(BATCH) {
        for stored in in_time(store::access::list_keys(&app.db, batch)).await? {
            match stored.principal() {
                Ok(principal) if stored.standing == Standing::Good && principal.rights.has(Right::JobsRead) => {
                    good.insert(principal.key, principal);
                }
                Ok(_) => {}
                // its streams end, and nobody else's
                Err(error) => tracing::warn!(%error, "a key with open event streams cannot be read"),
            }
        }
    }
    let mut live: HashSet<SessionId> = HashSet::new();
    for batch in sessions.chunks(BATCH) {
        live.extend(in_time(store::session::list_live(&app.db, batch)).await?);
    }
    let may = |listener: &Listener| {
        good.get(&listener.key).is_some_and(|key| key.may_come_from(listener.address))
            && listener.session.is_none_or(|session| live.contains(&session))
            && listener.until.is_none_or(|until| now < until)
    };
    let out = listeners.iter().filter(|(_, listener)| !may(listener)).map(|(number, _)| *number);
    app.streams.close_all(out);
    Ok(())
}

/// Ends the streams of jobs that were erased: no event will ever come of them.
async fn check_jobs(app: &App) -> Result<()> {
    let followed = app.streams.followed();
    let jobs = Vec::from_iter(followed.iter().map(|(_, job)| *job).collect::<HashSet<JobId>>());
    let mut gone: HashSet<JobId> = HashSet::new();
    for batch in jobs.chunks(BATCH) {
        gone.extend(in_time(store::job::list_gone(&app.db, batch)).await?);
    }
    app.streams.close_all(followed.iter().filter(|(_, job)| gone.contains(job)).map(|(number, _)| *number));
    Ok(())
}

impl Streams {
    /// Whether nobody listens; then nobody reads either.
    fn sleeps(&self) -> bool {
        let mut board = self.board();
        if board.open.is_empty() {
            board.place = None;
        }
        board.open.is_empty()
    }

    fn place(&self) -> Option<i64> {
        self.board().place
    }

    fn has_place(&self) -> bool {
        self.place().is_some()
    }

    fn listeners(&self, of: Option<&HashSet<TenantId>>) -> Vec<(u64, Listener)> {
        let board = self.board();
        let asked = board.open.iter().filter(|(_, open)| of.is_none_or(|of| of.contains(&open.listener.tenant)));
        asked.map(|(number, open)| (*number, open.listener)).collect()
    }

    fn followed(&self) -> Vec<(u64, JobId)> {
        let job = |open: &Open| match open.of {
            Of::Job(job) => Some(job),
            Of::Tenant(_) | Of::All => None,
        };
        self.board().open.iter().filter_map(|(number, open)| Some((*number, job(open)?))).collect()
    }

    fn close_all(&self, numbers: impl Iterator<Item = u64>) {
        let mut board = self.board();
        numbers.for_each(|number| board.close(number, Manner::Politely));
    }

    /// Ends every stream, and lets no other begin.
    fn end(&self) {
        let mut board: std::sync::MutexGuard<'_, Board> = self.board();
        board.closed = true;
        board.place = None;
        let numbers: Vec<u64> = board.open.keys().copied().collect();
        numbers.iter().for_each(|number| board.close(*number, Manner::Politely));
        drop(board);
        self.ready.notify_waiters();
    }
}
