//! Following events: a client of the service's streams (WHATWG HTML, section 9.2) that connects again when one breaks off, and
//! goes on behind the last event it has seen. Used by `probectl watch` and by whatever else wants to be told; it prints
//! nothing but that it has to wait.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Method, Response, StatusCode};
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Client, may_pass};
use crate::terminal;

/// Longest event; the service sends none of half that size.
const MOST_BYTES: usize = 1024 * 1024;
/// A stream that is silent for longer leads nowhere: the service gives a sign of life every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// Longest time without a stream, once there was one: a service that is away may be starting anew.
const PATIENCE: Duration = Duration::from_secs(300);
/// Wait before connecting again, if the service does not say.
const RETRY: Duration = Duration::from_secs(2);
/// Longest such wait that is taken from the service.
const MOST_RETRY: Duration = Duration::from_secs(60);

/// An event as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its type: that of an event of the service, or `reset` or `end`.
    pub kind: String,
    /// Its data: JSON.
    pub data: String,
}

/// A stream that is followed, over any number of connections.
pub struct Follow {
    path: String,
    query: Vec<(&'static str, String)>,
    connection: Option<Response>,
    reading: Reading,
    /// Since when there is no stream; none while there is one, and before the first.
    away: Option<Instant>,
    /// Whether there ever was one.
    begun: bool,
}

impl Follow {
    /// Follows the stream at `path`; connects when it is first asked.
    pub fn new(path: impl Into<String>, query: Vec<(&'static str, String)>) -> Self {
        let (path, reading) = (path.into(), Reading::default());
        Self { path, query, connection: None, reading, away: None, begun: false }
    }

    /// The next event; `None` once there is nothing left to tell.
    ///
    /// # Errors
    /// The service refuses, or was away for too long.
    pub async fn next(&mut self, client: &Client) -> Result<Option<Told>> {
        loop {
            if let Some(told) = self.reading.next()? {
                return Ok(Some(told));
            }
            let Some(connection) = &mut self.connection else {
                if !self.connect(client).await? {
                    return Ok(None);
                }
                continue;
            };
            match timeout(SILENCE, connection.chunk()).await {
                Ok(Ok(Some(piece))) => self.reading.take(&piece),
                // it ended, it broke off, or it is silent: all the same to who comes back
                Ok(Ok(None) | Err(_)) | Err(_) => {
                    self.connection = None;
                    self.reading.begin_anew();
                    self.away = Some(Instant::now());
                    sleep(self.reading.retry.unwrap_or(RETRY)).await;
                }
            }
        }
    }

    /// Opens the stream behind what was seen. `false`: the service says that there is nothing left to tell.
    async fn connect(&mut self, client: &Client) -> Result<bool> {
        loop {
            let mut request = client.request(Method::GET, &self.path).query(&self.query);
            if let Some(id) = &self.reading.id {
                request = request.header("last-event-id", id);
            }
            let error = match client.send(request).await {
                Ok(response) if response.status() == StatusCode::NO_CONTENT => return Ok(false),
                Ok(response) if response.status() == StatusCode::OK => {
                    (self.connection, self.away, self.begun) = (Some(response), None, true);
                    return Ok(true);
                }
                Ok(response) => {
                    let refusal = client.refusal(response).await;
                    if !may_pass(&refusal) {
                        return Err(refusal);
                    }
                    refusal
                }
                Err(error) => error,
            };
            // what never worked is told at once
            if !self.begun || self.away.is_some_and(|since| since.elapsed() > PATIENCE) {
                return Err(error).context("events cannot be followed");
            }
            terminal::remark(&format!("probectl: {error:#}; trying again"));
            sleep(self.reading.retry.unwrap_or(RETRY)).await;
        }
    }
}

/// What was read of a stream, and understood.
#[derive(Debug, Default)]
struct Reading {
    rest: Vec<u8>,
    /// The last event id.
    id: Option<String>,
    retry: Option<Duration>,
    kind: String,
    data: Vec<String>,
    /// The id that counts once its event is complete.
    next_id: Option<String>,
}

impl Reading {
    /// Forgets what was half read when a connection broke off: on the next one, the event comes whole.
    fn begin_anew(&mut self) {
        *self = Self { id: self.id.take(), retry: self.retry, ..Self::default() };
    }

    fn take(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
    }

    /// The next event that is complete.
    fn next(&mut self) -> Result<Option<Told>> {
        while let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8(line).context("a stream that is not text; is this an FFprobe API?")?;
            if let Some(told) = self.understand(line.trim_end_matches(['\r', '\n'])) {
                return Ok(Some(told));
            }
            let length: usize = self.data.iter().map(String::len).sum();
            ensure!(length <= MOST_BYTES, "an event of more than {MOST_BYTES} bytes");
        }
        if self.rest.len() > MOST_BYTES {
            bail!("an event of more than {MOST_BYTES} bytes; is this an FFprobe API?");
        }
        Ok(None)
    }

    fn understand(&mut self, line: &str) -> Option<Told> {
        if line.is_empty() {
            if let Some(id) = self.next_id.take() {
                self.id = Some(id);
            }
            let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
            return (!data.is_empty()).then(|| Told { kind, data: data.join("\n") });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" if !value.contains('\0') => self.next_id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.kind),
            "data" => self.data.push(value.to_owned()),
            "retry" => {
                let wait = value.parse().ok().map(Duration::from_millis);
                self.retry = wait.map(|wait| wait.min(MOST_RETRY)).or(self.retry);
            }
            // comments, and what this client does not know
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reading: &mut Reading) -> Vec<(String, String)> {
        std::iter::from_fn(|| reading.next().unwrap()).map(|told| (told.kind, told.data)).collect()
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = "retry: 3000\nid: 4\n\n:\n: alive\r\nid: 5\nevent: a\ndata: {\"é\":1}\n\nid:6\r\nevent:b\r\ndata:x\r\ndata: y\r\n\r\nid: 7\nda";
        let wanted = [("a".to_owned(), "{\"é\":1}".to_owned()), ("b".to_owned(), "x\ny".to_owned())];
        for size in [1, 2, 3, 7, 1000] {
            let (mut reading, mut told) = (Reading::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                reading.take(piece);
                told.extend(all(&mut reading));
            }
            assert_eq!(told, wanted, "in pieces of {size}");
            assert_eq!(reading.id.as_deref(), Some("6"), "what is not complete does not count");
            assert_eq!(reading.retry, Some(Duration::from_secs(3)));
        }
    }

    #[test]
    fn of_an_event_that_broke_off_nothing_is_left() {
        let mut reading = Reading::default();
        reading.take(b"retry: 3000\nid: 4\n\nid: 5\nevent: reset\ndata: half\nda");
        assert_eq!(all(&mut reading), []);
        reading.begin_anew();
        assert_eq!(reading.id.as_deref(), Some("4"), "where it goes on");
        reading.take(b"data: whole\n\n");
        assert_eq!(all(&mut reading), [(String::new(), "whole".to_owned())]);
        assert_eq!((reading.id.as_deref(), reading.retry), (Some("4"), Some(Duration::from_secs(3))));
    }

    #[test]
    fn a_stream_cannot_fill_memory() {
        let mut reading = Reading::default();
        reading.take(&vec![b'x'; MOST_BYTES + 1]);
        assert!(reading.next().is_err());
        let mut reading = Reading::default();
        reading.take("data: xxxxxxxxxxxxxxxx\n".repeat(MOST_BYTES / 16 + 1).as_bytes());
        assert!(reading.next().is_err());
    }
}
