//! Goes round the streams that are open, whatever the reader is at: who does not take what is sent, who has heard nothing, who
//! has lost the right to listen, whose job is erased. Ends all of them when the process stops.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use shared::access::{Principal, Right, Standing};
use shared::error::Result;
use shared::id::{ApiKeyId, JobId, SessionId, TenantId};
use shared::queue::Bell;
use shared::store::event::Of;
use shared::store::{self, in_time};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::frame::Frame;
use super::reader::Trouble;
use super::{Board, Listener, Manner, Open, Streams};
use crate::App;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// After so long a silence a stream is given a sign of life. A bit less than the 15 s that clients are promised: rounds come
/// once a second.
const SILENCE: Duration = Duration::from_secs(13);
/// How long a connection may keep what it was handed without sending it.
const STUCK: Duration = Duration::from_secs(20);
/// How long a stream that ends politely may take for it.
const FAREWELL: Duration = Duration::from_secs(2);
/// Keys, sessions or jobs asked for in one query.
const BATCH: usize = 1_000;

/// Goes round until the process stops, and then ends every stream.
pub async fn run(app: Arc<App>, bells: Receiver<Bell>) {
    // what needs no database waits for none: who waits for that to come back must not take the connection for dead
    tokio::select! {
        () = app.draining.cancelled() => {}
        () = look_after(&app) => {}
        () = check(&app, bells) => {}
    }
    let hangups = app.streams.end();
    sleep(FAREWELL).await;
    // one whose client does not read would hold up the stop; the others have closed theirs by now, with nothing behind
    hangups.iter().for_each(CancellationToken::cancel);
}

fn ticks() -> Interval {
    let mut tick = interval(ROUND);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

async fn look_after(app: &App) {
    let mut tick = ticks();
    loop {
        tick.tick().await;
        look_round(app);
    }
}

/// Asks who may stay: once a second for all, and at once when what a tenant's keys may do has changed.
async fn check(app: &App, mut bells: Receiver<Bell>) {
    let (mut tick, mut trouble) = (ticks(), Trouble::new("it cannot be seen who may go on listening"));
    loop {
        let of = tokio::select! {
            bell = bells.recv() => match bell {
                Ok(Bell::Access(tenant)) => Some(tenant),
                // those that were missed are made up for by the next round
                Ok(_) | Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => {
                    tick.tick().await;
                    None
                }
            },
            _ = tick.tick() => None,
        };
        let access = check_access(app, of).await;
        let jobs = if of.is_none() { check_jobs(app).await } else { Ok(()) };
        trouble.tell(access.and(jobs));
    }
}

/// Closes what is stuck, and gives a sign of life where it was silent.
fn look_round(app: &App) {
    let (streams, now) = (&app.streams, app.streams.now());
    let mut board = streams.board();
    let pulse = Arc::new(Frame::Pulse(board.place.unwrap_or_default()));
    let mut lost = Vec::new();
    for (number, open) in &mut board.open {
        let stuck = open.stuck_for(now);
        let late = open.closing.is_some_and(|since| since.elapsed() > FAREWELL);
        let mut takes_no_pulse = || open.sent.elapsed() >= SILENCE && !open.send(Arc::clone(&pulse));
        if late || stuck > STUCK || takes_no_pulse() {
            lost.push(*number);
        }
    }
    lost.iter().for_each(|number| board.close(*number, Manner::AtOnce));
    app.metrics.event_streams_dropped.inc_by(lost.len() as u64);
}

/// Ends the streams of those who may not listen any more; of one tenant, or of all.
async fn check_access(app: &App, of: Option<TenantId>) -> Result<()> {
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
    fn listeners(&self, of: Option<TenantId>) -> Vec<(u64, Listener)> {
        let board = self.board();
        let asked = board.open.iter().filter(|(_, open)| of.is_none_or(|of| of == open.listener.tenant));
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

    /// Ends every stream, and lets no other begin. Returns what closes their connections.
    fn end(&self) -> Vec<CancellationToken> {
        let mut board: std::sync::MutexGuard<'_, Board> = self.board();
        board.closed = true;
        board.place = None;
        let numbers: Vec<u64> = board.open.keys().copied().collect();
        numbers.iter().for_each(|number| board.close(*number, Manner::Politely));
        let hangups = board.open.values().map(|open| open.hangup.clone()).collect();
        drop(board);
        self.ready.notify_waiters();
        hangups
    }
}
