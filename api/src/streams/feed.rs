//! The body of one event stream. It first catches up: page after page from the database, until a page is the last; then it
//! joins the others and reads up to the place where it joined; from there on it takes what the reader brings. What it was
//! sent before is left out by the sequence, so no event comes twice or is missing at the seam. Made by `routes::events`;
//! it holds no database connection while its client takes its time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use futures::Stream;
use shared::Error;
use shared::event::Event;
use shared::store;
use shared::store::event::Of;
use tokio::sync::mpsc;

use super::frame::{self, Frame, Scale};
use super::{NewStream, Signs, Wanted};
use crate::App;

/// Events read at once while a stream catches up.
const PAGE: i64 = 50;

/// A stream that reads through what is not for it says how far it is as often as this: the client must neither take it for
/// dead nor, coming back, begin from the same place again.
const QUIET: Duration = Duration::from_secs(5);

/// Events of others after which a silent client is told how far it is, so that it comes back to a place that is known.
const FAR: i64 = 1_000;

/// Where a stream begins.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// Everything up to here is known to the client.
    pub after: i64,
    /// What is written before the first event.
    pub opening: Opening,
    /// Whether its job has ended, and every event of it was published.
    pub over: bool,
    /// An end of its job up to here was not the last word: somebody had it run again.
    pub lives_to: i64,
    /// Whether nothing was published behind it just now, so that there is nothing to catch up with.
    pub near: bool,
}

/// What is written before the first event.
#[derive(Debug, Clone, Copy)]
pub enum Opening {
    /// Nothing but how to come back.
    Plain,
    /// Also the place, so that a client that is cut off before the first event misses nothing.
    Place,
    /// Also that events are missing.
    Reset,
}

/// One stream.
pub struct Feed {
    app: Arc<App>,
    number: u64,
    signs: Arc<Signs>,
    /// The tenant's.
    scale: Scale,
    of: Of,
    wanted: Arc<Wanted>,
    place: Place,
    /// Whether it begins where the others are.
    near: bool,
    /// When something was last sent.
    spoke: Instant,
    /// Whether it has sent events that it caught up with.
    has_told: bool,
    stage: Stage,
}

/// How far a stream is.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The last event that was looked at.
    at: i64,
    /// Whether the job has ended with it.
    over: bool,
    /// Up to here the job's ends were not the last word.
    lives_to: i64,
}

enum Stage {
    Opening(Bytes),
    /// With the queue and the place where it begins, once it has joined.
    Behind(Option<Joined>),
    Looking(Pin<Box<dyn Future<Output = Result<Look, Error>> + Send>>),
    Live(mpsc::Receiver<Arc<Frame>>),
    Over,
}

type Joined = (mpsc::Receiver<Arc<Frame>>, i64);

/// What a look at the database came to.
struct Look {
    text: String,
    at: i64,
    over: bool,
    then: Stage,
}

impl Feed {
    /// Takes a place and begins.
    ///
    /// # Errors
    /// `too_many_event_streams`, `event_streams_full`, or `unavailable` while the process stops.
    pub fn open(app: &Arc<App>, new: NewStream<'_>, start: Start) -> Result<Self, Error> {
        let (of, wanted) = (new.of, Arc::clone(&new.wanted));
        let (number, signs, scale) = app.streams.open(new, app.limits.streams)?;
        app.metrics.event_streams.inc();
        let opening = match start.opening {
            Opening::Plain => frame::begin(None),
            Opening::Place => frame::begin(Some(start.after)),
            Opening::Reset => frame::begin(None) + &frame::reset(start.after),
        };
        let stage = Stage::Opening(Bytes::from(opening));
        let Start { after: at, over, lives_to, near, .. } = start;
        let (app, place, spoke) = (Arc::clone(app), Place { at, over, lives_to }, Instant::now());
        Ok(Self { app, number, signs, scale, of, wanted, place, near, spoke, has_told: false, stage })
    }

    /// The next page, and what follows it.
    async fn look(
        app: Arc<App>,
        number: u64,
        of: Of,
        wanted: Arc<Wanted>,
        Place { at, over, lives_to }: Place,
        joined: Option<Joined>,
        full: impl Fn() -> bool,
    ) -> Result<Look, Error> {
        let page = {
            let _turn = app.streams.turn().await?;
            // what was not taken yet fills memory; the client comes back and goes on from here, with a page at least
            if full() {
                return Ok(Look { text: String::new(), at, over, then: Stage::Over });
            }
            let read = async {
                let mut db = app.db.acquire().await?;
                store::event::list_after(&mut db, of, &wanted.types, at, PAGE).await
            };
            // nothing else bounds a body, and few may look at a time
            store::in_time(read).await?
        };
        let ends = |last: &Event| last.kind.ends_a_job() && last.sequence > lives_to;
        let (over, is_empty) = (page.events.last().map_or(over, ends), page.to == at);
        let at = page.to;
        let mut text = String::new();
        for event in page.events.iter().filter(|event| wanted.takes(event)) {
            frame::write(event, &mut text)?;
        }
        let then = match joined {
            // what is left out there was erased, or is others'
            Some((queue, _)) if is_empty => arrive(of, queue, at, over, &mut text),
            Some(joined) => go_on(of, joined, at, over, &mut text),
            None if page.is_full => Stage::Behind(None),
            None => match app.streams.join(number).await {
                Some(joined) => go_on(of, joined, at, over, &mut text),
                None => Stage::Over,
            },
        };
        Ok(Look { text, at, over, then })
    }

    /// Joins the others at once.
    async fn join(app: Arc<App>, number: u64, of: Of, Place { at, over, .. }: Place) -> Result<Look, Error> {
        let mut text = String::new();
        let then = match app.streams.join(number).await {
            Some(joined) => go_on(of, joined, at, over, &mut text),
            None => Stage::Over,
        };
        Ok(Look { text, at, over, then })
    }

    /// The next piece; `None` at the end.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if self.signs.closed.load(Ordering::Relaxed) {
                return Poll::Ready(None);
            }
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Opening(bytes) => {
                    self.stage = if self.near {
                        let app = Arc::clone(&self.app);
                        Stage::Looking(Box::pin(Self::join(app, self.number, self.of, self.place)))
                    } else {
                        Stage::Behind(None)
                    };
                    return Poll::Ready(Some(bytes));
                }
                Stage::Behind(joined) => {
                    let (app, wanted) = (Arc::clone(&self.app), Arc::clone(&self.wanted));
                    let (has_told, scale) = (self.has_told, self.scale.clone());
                    let full = move || has_told && scale.is_full();
                    let look = Self::look(app, self.number, self.of, wanted, self.place, joined, full);
                    self.stage = Stage::Looking(Box::pin(look));
                }
                Stage::Looking(mut look) => {
                    let Poll::Ready(outcome) = look.as_mut().poll(context) else {
                        self.stage = Stage::Looking(look);
                        return Poll::Pending;
                    };
                    if let Some(text) = self.take_in(outcome).filter(|text| !text.is_empty()) {
                        return Poll::Ready(Some(text));
                    }
                    if matches!(self.stage, Stage::Behind(_)) && self.spoke.elapsed() >= QUIET {
                        return Poll::Ready(Some(frame::place(self.place.at).into()));
                    }
                }
                Stage::Live(mut queue) => {
                    let next = queue.poll_recv(context);
                    self.stage = Stage::Live(queue);
                    let Some(frame) = ready!(next) else { return Poll::Ready(None) };
                    let bytes = self.place.pass(self.of, &frame);
                    if matches!(self.of, Of::Job(_)) && self.place.over {
                        self.stage = Stage::Over;
                    }
                    if let Some(bytes) = bytes {
                        return Poll::Ready(Some(bytes));
                    }
                }
                Stage::Over => return Poll::Ready(None),
            }
        }
    }

    fn take_in(&mut self, outcome: Result<Look, Error>) -> Option<Bytes> {
        match outcome {
            Ok(look) => {
                (self.place.at, self.place.over, self.stage) = (look.at, look.over, look.then);
                self.has_told |= !look.text.is_empty();
                Some(self.scale.weigh(look.text))
            }
            Err(error) => {
                // the stage is the end: the client comes back
                tracing::warn!(%error, "an event stream cannot be read on, and ends");
                None
            }
        }
    }
}

impl Place {
    /// What of a frame is sent: nothing if the client has it. A place behind its own would make a client that comes back
    /// see events twice.
    fn pass(&mut self, of: Of, frame: &Frame) -> Option<Bytes> {
        match (frame, of) {
            (Frame::Event { sequence, .. }, _) if *sequence <= self.at => None,
            (Frame::Event { sequence, bytes, ends_a_job }, of) => {
                self.at = *sequence;
                self.over = *ends_a_job && *sequence > self.lives_to;
                match of {
                    Of::Job(job) if self.over => Some([bytes, frame::end(job, *sequence).as_bytes()].concat().into()),
                    _ => Some(bytes.clone()),
                }
            }
            (Frame::Pulse(place), Of::Tenant(_)) if place - self.at > FAR => {
                self.at = *place;
                Some(frame::place(*place).into())
            }
            (Frame::Pulse(_), _) => Some(Bytes::from_static(frame::SIGN_OF_LIFE)),
        }
    }
}

impl Stream for Feed {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // to be asked for more means that the connection has room again
        self.signs.taken.store(0, Ordering::Relaxed);
        let piece = ready!(self.poll_piece(context));
        if piece.is_some() {
            self.spoke = Instant::now();
            self.signs.taken.store(self.app.streams.now(), Ordering::Relaxed);
        }
        Poll::Ready(piece.map(Ok))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.app.streams.leave(self.number);
        self.app.metrics.event_streams.dec();
    }
}

/// What follows once a stream has joined: it reads on up to the place where its queue begins.
fn go_on(of: Of, joined: Joined, at: i64, over: bool, text: &mut String) -> Stage {
    let (queue, place) = joined;
    if at < place { Stage::Behind(Some((queue, place))) } else { arrive(of, queue, at, over, text) }
}

/// What follows once nothing is missing before the queue: it is read, unless the job has ended with what came before.
fn arrive(of: Of, queue: mpsc::Receiver<Arc<Frame>>, at: i64, over: bool, text: &mut String) -> Stage {
    match of {
        Of::Job(job) if over => {
            *text += &frame::end(job, at);
            Stage::Over
        }
        _ => Stage::Live(queue),
    }
}

#[cfg(test)]
mod tests {
    use shared::id::{JobId, TenantId};

    use super::*;

    fn event(sequence: i64) -> Frame {
        Frame::Event { sequence, bytes: Bytes::from_static(b"event"), ends_a_job: true }
    }

    fn place(at: i64, lives_to: i64) -> Place {
        Place { at, over: false, lives_to }
    }

    #[test]
    fn a_sign_of_life_moves_a_client_forward_or_not_at_all() {
        let all = Of::Tenant(TenantId::new());
        // read to there from the database, while the reader was behind
        let mut place = place(5_000, 0);
        for (pulse, sent, at) in [
            (10, ":\n", 5_000),
            (5_000 + FAR, ":\n", 5_000),
            (5_001 + FAR, ":\nid: 6001\n\n", 5_001 + FAR),
            (5_001 + FAR, ":\n", 5_001 + FAR),
        ] {
            let bytes = place.pass(all, &Frame::Pulse(pulse)).expect("a sign of life, wherever it is");
            assert_eq!((&bytes[..], place.at), (sent.as_bytes(), at), "{pulse}");
        }
        let bytes = place.pass(Of::Job(JobId::new()), &Frame::Pulse(100_000)).expect("a sign of life");
        assert_eq!((&bytes[..], place.at), (&b":\n"[..], 6_001));
    }

    #[test]
    fn an_event_passes_once_and_the_last_of_a_job_ends_its_stream() {
        let (job, mut place) = (Of::Job(JobId::new()), place(3, 5));
        assert_eq!(place.pass(job, &event(3)), None);
        assert_eq!(place.pass(job, &event(5)).as_deref(), Some(&b"event"[..]));
        assert!(!place.over, "the job was run again");
        let end = place.pass(job, &event(6)).expect("the end");
        assert!(place.over && end.starts_with(b"eventid: 6\nevent: end\n"), "{end:?}");
    }
}
