//! What is written into an event stream (WHATWG HTML, section 9.2.5): events, what goes before and after them, and signs of
//! life. Each is made once and shared by all streams that it goes to; a [`Scale`] knows how much of it lies in memory. Made
//! by the reader and by feeds; knows nothing of who listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;
use shared::Error;
use shared::event::Event;
use shared::id::JobId;

/// Bytes of events that may lie in memory for all clients of this process; beyond that, who is behind is dropped.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// How many of them a tenant may have when memory gets short.
const SHARE: usize = MOST_BYTES / 8;
/// How long a client waits before it connects again, in milliseconds.
const RETRY_MS: u32 = 2_000;
/// A comment, without the empty line that would end an event: some clients take that for an event without data.
pub const SIGN_OF_LIFE: &[u8] = b":\n";

/// What goes through a stream's queue.
#[derive(Debug)]
pub enum Frame {
    /// An event, ready to be sent to any number of clients.
    Event {
        /// Its place.
        sequence: i64,
        /// As it is sent.
        bytes: Bytes,
        /// Whether a job has ended with it.
        ends_a_job: bool,
    },
    /// A sign of life is due. Everything up to this place was handed out.
    Pulse(i64),
}

impl Frame {
    /// An event as a frame.
    pub fn of(event: &Event, scale: &Scale) -> Result<Self, Error> {
        let mut text = String::new();
        write(event, &mut text)?;
        let (sequence, ends_a_job) = (event.sequence, event.kind.ends_a_job());
        Ok(Self::Event { sequence, bytes: scale.weigh(text), ends_a_job })
    }
}

/// Writes an event.
pub fn write(event: &Event, text: &mut String) -> Result<(), Error> {
    let data = serde_json::to_string(event).map_err(Error::internal)?;
    let (sequence, kind) = (event.sequence, event.kind.as_str());
    // compact JSON is one line
    *text += &format!("id: {sequence}\nevent: {kind}\ndata: {data}\n\n");
    Ok(())
}

/// A sign of life that moves the client's last event id on: everything up to there was not for it.
pub fn place(sequence: i64) -> String {
    format!(":\nid: {sequence}\n\n")
}

/// The beginning of a stream. With a place, a client that loses the connection before the first event misses nothing.
pub fn begin(place: Option<i64>) -> String {
    match place {
        Some(place) => format!("retry: {RETRY_MS}\nid: {place}\n\n"),
        None => format!("retry: {RETRY_MS}\n"),
    }
}

/// Says that events before the first that follows are not known any more.
pub fn reset(place: i64) -> String {
    format!("id: {place}\nevent: reset\ndata: {{\"sequence\":{place}}}\n\n")
}

/// The end of a job's stream.
pub fn end(job: JobId, place: i64) -> String {
    format!("id: {place}\nevent: end\ndata: {{\"job_id\":\"{job}\"}}\n\n")
}

/// Knows how many bytes of a tenant's frames lie in memory, here and in what is on its way to clients, and how many of all
/// tenants'.
#[derive(Debug, Clone, Default)]
pub struct Scale {
    own: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

impl Scale {
    /// One for another tenant, with the same sum of all.
    pub fn another(&self) -> Self {
        Self { own: Arc::default(), all: Arc::clone(&self.all) }
    }

    /// Takes a text that counts until the last client has it.
    pub fn weigh(&self, text: String) -> Bytes {
        for sum in [&self.own, &self.all] {
            sum.fetch_add(text.len(), Ordering::Relaxed);
        }
        Bytes::from_owner(Weighed { text, scale: self.clone() })
    }

    /// Whether the tenant's clients have to take what lies here before there may be more. Those who have more than a share
    /// give way from half of the memory on: one tenant's clients that do not read must not end the streams of all others.
    pub fn is_full(&self) -> bool {
        let (own, all) = (self.own.load(Ordering::Relaxed), self.all.load(Ordering::Relaxed));
        all > MOST_BYTES || (all > MOST_BYTES / 2 && own > SHARE)
    }
}

struct Weighed {
    text: String,
    scale: Scale,
}

impl AsRef<[u8]> for Weighed {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Drop for Weighed {
    fn drop(&mut self) {
        for sum in [&self.scale.own, &self.scale.all] {
            sum.fetch_sub(self.text.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::event::{About, EventType};
    use shared::id::{EventId, TenantId};

    use super::*;

    #[test]
    fn an_event_is_three_lines_and_an_empty_one() {
        let data = json!({"upload": {"filename": "a\nid: 9\n\nevent: x"}});
        let event = Event {
            id: EventId::new(),
            tenant: TenantId::new(),
            kind: EventType::UploadCompleted,
            timestamp: chrono::DateTime::UNIX_EPOCH,
            sequence: 7,
            data: About::Other(data.as_object().expect("an object").clone()),
        };
        let scale = Scale::default();
        let frame = Frame::of(&event, &scale).expect("JSON");
        let Frame::Event { bytes, .. } = &frame else { panic!("{frame:?}") };
        let text = std::str::from_utf8(bytes).expect("text").to_owned();
        assert!(text.starts_with("id: 7\nevent: upload.completed\ndata: {\"type\":\"upload.completed\","), "{text}");
        assert_eq!(text.matches('\n').count(), 4, "what a client wrote begins no line: {text}");
        let copy = bytes.clone();
        drop(frame);
        let lies_here = || scale.all.load(Ordering::Relaxed);
        assert_eq!(lies_here(), copy.len(), "one of them is still on its way");
        drop(copy);
        assert_eq!(lies_here(), 0);
    }

    #[test]
    fn who_has_most_gives_way_first() {
        let heavy = Scale::default();
        let light = heavy.another();
        let few = light.weigh("x".repeat(SHARE));
        let lot = heavy.weigh("x".repeat(MOST_BYTES / 2));
        assert!(heavy.is_full() && !light.is_full());
        let others = heavy.another().weigh("x".repeat(MOST_BYTES / 2));
        assert!(light.is_full(), "there is no more for anybody");
        drop((lot, others));
        assert!(!heavy.is_full() && !light.is_full());
        drop(few);
    }
}
