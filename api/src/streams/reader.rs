//! The one reader of a process: while any stream is open, it reads events behind its place and hands them out; while none
//! is, it does nothing. Woken by [`Bell::Published`]; once a second it looks by itself, and publishes what nobody else does.
//! What else open streams need is done by [`super::rounds`].

use std::sync::Arc;
use std::time::Duration;

use shared::error::Result;
use shared::lifecycle::{self, Published};
use shared::queue::Bell;
use shared::store::event::Of;
use shared::store::{self, in_time};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::Streams;
use crate::App;

/// How late an event may come whose bell was lost.
const LOOK: Duration = Duration::from_secs(1);
/// Events read at once.
const PAGE: i64 = 200;
/// Rest after a full page: clients take what they were handed before more comes.
const REST: Duration = Duration::from_millis(20);

/// Reads until the process stops.
pub async fn run(app: Arc<App>, mut bells: Receiver<Bell>) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trouble = Trouble::new("events cannot be read");
    let work = async {
        loop {
            if app.streams.sleeps() {
                app.streams.opened.notified().await;
            }
            turn(&app, &mut bells, &mut tick, &mut trouble).await;
        }
    };
    tokio::select! {
        () = app.draining.cancelled() => {}
        () = work => {}
    }
}

/// Waits for a reason and acts on it.
async fn turn(app: &Arc<App>, bells: &mut Receiver<Bell>, tick: &mut Interval, trouble: &mut Trouble) {
    if !app.streams.has_place() {
        trouble.tell(begin(app).await);
        if !app.streams.has_place() {
            tick.tick().await;
        }
        return;
    }
    let mut news = tokio::select! {
        bell = bells.recv() => match bell {
            Ok(bell) => is_news(bell),
            Err(RecvError::Lagged(_)) => true,
            Err(RecvError::Closed) => {
                tick.tick().await;
                true
            }
        },
        _ = tick.tick() => {
            let published = publish(app).await;
            // whatever became of that
            trouble.tell(read(app).await.and(published));
            return;
        }
    };
    // everything that has rung by now: one look answers many bells
    loop {
        match bells.try_recv() {
            Ok(bell) => news |= is_news(bell),
            Err(TryRecvError::Lagged(_)) => news = true,
            Err(TryRecvError::Empty | TryRecvError::Closed) => break,
        }
    }
    if news {
        trouble.tell(read(app).await);
    }
}

/// Whether there may be events.
fn is_news(bell: Bell) -> bool {
    match bell {
        Bell::Published | Bell::Missed => true,
        Bell::Access(_) | Bell::Wake | Bell::Done(_) | Bell::Cancel(_) | Bell::Release(_) => false,
    }
}

/// Tells of trouble with the database once, and of its end.
pub(super) struct Trouble {
    what: &'static str,
    is_told: bool,
}

impl Trouble {
    /// None yet; `what` says what it would be.
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, is_told: false }
    }

    pub(super) fn tell(&mut self, outcome: Result<()>) {
        match outcome {
            Err(error) if !self.is_told => {
                tracing::warn!(%error, "{}; streams go on once PostgreSQL answers", self.what);
                self.is_told = true;
            }
            Ok(()) if self.is_told => {
                tracing::info!("no longer true: {}", self.what);
                self.is_told = false;
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
            let dropped = app.streams.board().hand_out(event)?;
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
}
