//! Event streams of this process: who has one open, and what goes to whom. [`reader`] reads events for all of them from one
//! place on; a [`feed`] is the body of one answer: it catches up from the database, joins here, and takes what the reader
//! brings. Whoever does not keep up is dropped and comes back with its last event id. Nothing here decides who may listen;
//! that is done by `routes::events` when a stream opens, and again by [`rounds`] as long as it is open.

pub mod feed;
pub mod frame;
pub mod reader;
pub mod rounds;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use shared::access::Principal;
use shared::event::{About, Event, EventType};
use shared::id::{ApiKeyId, JobId, SessionId, TenantId};
use shared::job::Profile;
use shared::store::event::Of;
use shared::{Code, Error};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use self::frame::{Frame, Scale};

/// Events that may wait for one client. Each place takes a few bytes: what waits is shared.
const QUEUE: usize = 512;
/// Events that may wait for a client when there is no memory for more.
const QUEUE_WHEN_FULL: usize = 16;
/// Looks at the database for single streams at a time.
const LOOKS: usize = 4;

/// How many streams there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// In this process.
    pub all: usize,
    /// Of a tenant, in this process.
    pub of_tenant: usize,
}

/// Which events a stream shows. Fields that are `None` or empty let all pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of one of these types.
    pub types: Vec<EventType>,
    /// About jobs with this external id.
    pub external_id: Option<String>,
    /// About jobs with this profile.
    pub profile: Option<Profile>,
}

impl Wanted {
    /// Whether the event is one of them.
    pub fn takes(&self, event: &Event) -> bool {
        let job = match &event.data {
            About::Job { job } => Some(job),
            About::Other(_) => None,
        };
        (self.types.is_empty() || self.types.contains(&event.kind))
            && self.external_id.as_ref().is_none_or(|id| job.is_some_and(|job| job.external_id.as_ref() == Some(id)))
            && self.profile.is_none_or(|profile| job.is_some_and(|job| job.profile == profile))
    }
}

/// Who listens, for asking again whether they may.
#[derive(Debug, Clone, Copy)]
struct Listener {
    tenant: TenantId,
    key: ApiKeyId,
    session: Option<SessionId>,
    address: IpAddr,
    /// When the credentials end.
    until: Option<DateTime<Utc>>,
}

/// A stream that somebody has open.
struct Open {
    of: Of,
    wanted: Arc<Wanted>,
    listener: Listener,
    /// Its tenant's.
    scale: Scale,
    /// None while it catches up.
    sender: Option<mpsc::Sender<Arc<Frame>>>,
    signs: Arc<Signs>,
    hangup: CancellationToken,
    /// When something was last sent to it.
    sent: Instant,
    /// Since when it is being closed.
    closing: Option<Instant>,
}

/// What a stream and its feed say to each other.
#[derive(Debug, Default)]
struct Signs {
    /// The feed ends when it is looked at next.
    closed: AtomicBool,
    /// When the connection took something that it has not sent yet, in milliseconds since the hub began; 0: it has sent all.
    taken: AtomicU64,
}

/// All streams of this process.
pub struct Streams {
    board: Mutex<Board>,
    /// Somebody came.
    opened: Notify,
    /// The reader has found its place.
    ready: Notify,
    scale: Scale,
    looks: Semaphore,
    begun: Instant,
}

#[derive(Default)]
struct Board {
    /// Everything up to here was handed to those who have joined; none while nobody reads.
    place: Option<i64>,
    /// The process stops.
    closed: bool,
    last: u64,
    open: HashMap<u64, Open>,
    joined: HashMap<Audience, HashSet<u64>>,
    of_tenant: HashMap<TenantId, Tenant>,
}

/// What a tenant has open here.
struct Tenant {
    streams: usize,
    scale: Scale,
}

/// Whom an event goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Audience {
    Tenant(TenantId),
    Job(JobId),
}

/// How a stream is ended from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Its body ends; the connection is closed only if it does not come to that.
    Politely,
    /// The connection is closed: what is on its way would fill memory.
    AtOnce,
}

/// A stream that is about to open.
pub struct NewStream<'a> {
    /// What it is about.
    pub of: Of,
    /// Which of that.
    pub wanted: Arc<Wanted>,
    /// Who asks.
    pub who: &'a Principal,
    /// From where.
    pub address: IpAddr,
    /// Closes the connection.
    pub hangup: CancellationToken,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            board: Mutex::default(),
            opened: Notify::new(),
            ready: Notify::new(),
            scale: Scale::default(),
            looks: Semaphore::new(LOOKS),
            begun: Instant::now(),
        }
    }
}

impl Streams {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since the hub began, never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    /// A turn to look at the database for a single stream. All come back at once when another process has stopped; the rest
    /// of the pool is for requests.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        self.looks.acquire().await.map_err(Error::internal)
    }

    /// Takes a place for a stream, if there is one. It is given back with [`Streams::leave`].
    fn open(&self, new: NewStream<'_>, bounds: Bounds) -> Result<(u64, Arc<Signs>, Scale), Error> {
        let mut board = self.board();
        if board.closed {
            return Err(Error::unavailable("The service", "it stops"));
        }
        let tenant = new.who.tenant;
        if board.of_tenant.get(&tenant).is_some_and(|of| of.streams >= bounds.of_tenant) {
            let detail = format!(
                "The tenant has {} event streams open here, which is all it may. Close some, or follow all jobs with one stream.",
                bounds.of_tenant
            );
            return Err(Error::new(Code::TooManyEventStreams, detail));
        }
        if board.open.len() >= bounds.all {
            let detail =
                "As many event streams are open here as may be. Try again in some seconds, or ask with ?wait=.";
            return Err(Error::new(Code::EventStreamsFull, detail));
        }
        let fresh = || Tenant { streams: 0, scale: self.scale.another() };
        let of = board.of_tenant.entry(tenant).or_insert_with(fresh);
        of.streams += 1;
        let scale = of.scale.clone();
        board.last += 1;
        let (number, signs) = (board.last, Arc::new(Signs::default()));
        let listener = Listener {
            tenant,
            key: new.who.key,
            session: new.who.session,
            address: new.address,
            until: new.who.expires_at,
        };
        let open = Open {
            of: new.of,
            wanted: new.wanted,
            listener,
            scale: scale.clone(),
            sender: None,
            signs: Arc::clone(&signs),
            hangup: new.hangup,
            sent: Instant::now(),
            closing: None,
        };
        board.open.insert(number, open);
        drop(board);
        self.opened.notify_one();
        Ok((number, signs, scale))
    }

    /// From the place that is returned on, the stream gets every event. `None`: it is to end.
    async fn join(&self, number: u64) -> Option<(mpsc::Receiver<Arc<Frame>>, i64)> {
        loop {
            let mut ready = std::pin::pin!(self.ready.notified());
            // before looking, or a sign between the two would be missed
            ready.as_mut().enable();
            {
                let mut board = self.board();
                if board.closed {
                    return None;
                }
                if let Some(place) = board.place {
                    return Some((board.join(number)?, place));
                }
            }
            ready.await;
        }
    }

    /// Forgets a stream.
    fn leave(&self, number: u64) {
        let mut board = self.board();
        let Some(open) = board.open.remove(&number) else { return };
        board.part(number, open.of);
        let tenant = open.listener.tenant;
        if let Some(of) = board.of_tenant.get_mut(&tenant) {
            of.streams -= 1;
            if of.streams == 0 {
                board.of_tenant.remove(&tenant);
            }
        }
    }
}

impl Board {
    fn join(&mut self, number: u64) -> Option<mpsc::Receiver<Arc<Frame>>> {
        let open = self.open.get_mut(&number).filter(|open| open.closing.is_none())?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        open.sender = Some(sender);
        self.joined.entry(audience(open.of)?).or_default().insert(number);
        Some(receiver)
    }

    fn part(&mut self, number: u64, of: Of) {
        let Some(audience) = audience(of) else { return };
        if let Some(numbers) = self.joined.get_mut(&audience) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.joined.remove(&audience);
            }
        }
    }

    /// Hands an event to everybody it is for, and returns how many were dropped because they do not keep up.
    fn hand_out(&mut self, event: &Event) -> Result<usize, Error> {
        // an event that cannot be written must not keep back those behind it
        self.place = Some(event.sequence);
        let audiences = [Some(Audience::Tenant(event.tenant)), event.job().map(Audience::Job)];
        let numbers = audiences.iter().flatten().filter_map(|audience| self.joined.get(audience)).flatten();
        let (mut frame, mut behind) = (None, Vec::new());
        for number in numbers {
            let Some(open) = self.open.get_mut(number).filter(|open| open.wanted.takes(event)) else { continue };
            let frame = match &frame {
                Some(frame) => frame,
                None => frame.insert(Arc::new(Frame::of(event, &open.scale)?)),
            };
            if !open.send(Arc::clone(frame)) {
                behind.push(*number);
            }
        }
        behind.iter().for_each(|number| self.close(*number, Manner::AtOnce));
        Ok(behind.len())
    }

    /// Ends a stream. Its feed gives the place back.
    fn close(&mut self, number: u64, manner: Manner) {
        let Some(open) = self.open.get_mut(&number) else { return };
        open.signs.closed.store(true, Ordering::Relaxed);
        // wakes the feed
        open.sender = None;
        open.closing.get_or_insert_with(Instant::now);
        if manner == Manner::AtOnce {
            open.hangup.cancel();
        }
        let of = open.of;
        self.part(number, of);
    }
}

impl Open {
    /// Puts a frame into the stream's queue. `false`: there is no room for it.
    fn send(&mut self, frame: Arc<Frame>) -> bool {
        let Some(sender) = &self.sender else { return true };
        let waiting = QUEUE - sender.capacity();
        if waiting > QUEUE_WHEN_FULL && self.scale.is_full() {
            return false;
        }
        match sender.try_send(frame) {
            Err(mpsc::error::TrySendError::Full(_)) => return false,
            // the feed has gone; it gives its place back by itself
            Err(mpsc::error::TrySendError::Closed(_)) | Ok(()) => {}
        }
        self.sent = Instant::now();
        true
    }

    /// Since when the connection has not sent what it took.
    fn stuck_for(&self, now: u64) -> Duration {
        match self.signs.taken.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            taken => Duration::from_millis(now.saturating_sub(taken)),
        }
    }
}

fn audience(of: Of) -> Option<Audience> {
    match of {
        Of::Tenant(tenant) => Some(Audience::Tenant(tenant)),
        Of::Job(job) => Some(Audience::Job(job)),
        // nobody is shown everybody's events
        Of::All => None,
    }
}
