//! A client of event streams: reads server-sent events as a browser does (WHATWG HTML, section 9.2.6), one after the other,
//! and remembers the last id. It never waits for ever.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::timeout;

use crate::Http;

/// Longest wait for the next event.
const PATIENCE: Duration = Duration::from_secs(30);

/// An event as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Its id.
    pub id: i64,
    /// Its type.
    pub kind: String,
    /// Its data.
    pub data: Value,
}

/// An open stream.
pub struct Sse {
    response: Response,
    rest: String,
    /// The last event id, moved on by blocks without data, too.
    pub last: Option<i64>,
    /// Comments seen.
    pub comments: usize,
}

impl Sse {
    /// Opens a stream, behind an event if one is named, and insists that there is one.
    pub async fn open(http: &Http, path: &str, after: Option<i64>) -> Self {
        let mut request = http.request(Method::GET, path);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, rest: String::new(), last: after, comments: 0 }
    }

    /// A stream that was opened by hand.
    pub fn of(response: Response, after: i64) -> Self {
        Self { response, rest: String::new(), last: Some(after), comments: 0 }
    }

    /// The headers of the answer.
    pub fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next event; `None` once the stream has ended, in whatever way.
    pub async fn next(&mut self) -> Option<Told> {
        timeout(PATIENCE, self.read()).await.expect("an event, or the end")
    }

    /// The next event, if one comes in that time.
    pub async fn next_within(&mut self, patience: Duration) -> Option<Told> {
        timeout(patience, self.read()).await.ok().flatten()
    }

    /// All events up to the end of the stream.
    pub async fn rest(mut self) -> Vec<Told> {
        let mut all = Vec::new();
        while let Some(told) = self.next().await {
            all.push(told);
        }
        all
    }

    async fn read(&mut self) -> Option<Told> {
        loop {
            // a comment by itself is no block
            while self.rest.starts_with(':') && self.rest.contains('\n') {
                self.comments += 1;
                let (_, rest) = self.rest.split_once('\n').expect("there is one");
                self.rest = rest.to_owned();
            }
            if let Some((block, rest)) = self.rest.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.rest = rest;
                if let Some(told) = self.understand(&block) {
                    return Some(told);
                }
                continue;
            }
            let piece = self.response.chunk().await.ok().flatten()?;
            self.rest += std::str::from_utf8(&piece).expect("pieces end where events end");
        }
    }

    fn understand(&mut self, block: &str) -> Option<Told> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        if let Some(id) = field("id") {
            self.last = Some(id.parse().expect("a number"));
        }
        let data = serde_json::from_str(field("data")?).expect("JSON");
        Some(Told { id: self.last?, kind: field("event").expect("a type").to_owned(), data })
    }
}
