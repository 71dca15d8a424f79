//! `Prefer: wait=n` and `Prefer: respond-async` (RFC 7240): how long an answer may be held, and, in `Preference-Applied`,
//! what was made of it. Handlers that wait for a job take [`Prefer`]. What is not understood is ignored, as the RFC wants.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;

/// The client's header.
const HEADER: &str = "prefer";
/// Ours.
const APPLIED: &str = "preference-applied";

/// What the client prefers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefer {
    wait: Option<u64>,
    respond_async: bool,
}

/// How long the answer is held, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// So long at the most.
    pub wait: Duration,
    applied: Prefer,
}

impl Prefer {
    /// Reads the header; of a preference that is named twice, the first counts.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let lines = headers.get_all(HEADER).iter().filter_map(|line| line.to_str().ok());
        for preference in lines.flat_map(|line| line.split(',')) {
            let word = preference.split(';').next().unwrap_or_default();
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "wait" if prefer.wait.is_none() => prefer.wait = value.parse().ok(),
                "respond-async" if value.is_empty() => prefer.respond_async = true,
                _ => {}
            }
        }
        prefer
    }

    /// As long as the client prefers, at most `most` seconds; `usual` if it does not say.
    pub fn patience(self, usual: Duration, most: u64) -> Patience {
        let wait = self.wait.map(|seconds| seconds.min(most));
        let seconds = wait.or_else(|| self.respond_async.then_some(0));
        Patience { wait: seconds.map_or(usual, Duration::from_secs), applied: Self { wait, ..self } }
    }
}

impl Patience {
    /// So long, whatever was preferred.
    pub fn exactly(wait: Duration) -> Self {
        Self { wait, applied: Prefer::default() }
    }

    /// Says on the answer what was applied. An answer that is complete was not given asynchronously.
    pub fn mark(self, mut response: Response) -> Response {
        let asynchronous = self.applied.respond_async && response.status() == StatusCode::ACCEPTED;
        let words = [
            asynchronous.then(|| "respond-async".to_owned()),
            self.applied.wait.map(|seconds| format!("wait={seconds}")),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        if let Ok(value) = HeaderValue::from_str(&words.join(", "))
            && !words.is_empty()
        {
            response.headers_mut().insert(APPLIED, value);
        }
        response
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::read(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn read(lines: &[&'static str]) -> Prefer {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(HEADER, HeaderValue::from_static(line));
        }
        Prefer::read(&headers)
    }

    fn applied(lines: &[&'static str], status: u16) -> (u64, String) {
        let patience = read(lines).patience(Duration::from_secs(25), 30);
        let response = Response::builder().status(status).body(Body::empty()).expect("a response");
        let response = patience.mark(response);
        let value = response.headers().get(APPLIED).map_or("", |v| v.to_str().expect("text"));
        (patience.wait.as_secs(), value.to_owned())
    }

    #[test]
    fn preferences_are_read_as_the_rfc_writes_them() {
        let both = Prefer { wait: Some(10), respond_async: true };
        assert_eq!(read(&["respond-async, wait=10"]), both);
        assert_eq!(read(&["Wait = \"10\" ; x=1", "Respond-Async;foo"]), both);
        assert_eq!(read(&["wait=3, wait=4"]).wait, Some(3));
        for odd in ["", "wait", "wait=", "wait=-1", "wait=x", "wait=1.5", "return=minimal", "respond-async=no", ",;,="]
        {
            assert_eq!(read(&[odd]), Prefer::default(), "{odd}");
        }
    }

    #[test]
    fn what_was_applied_is_what_was_done() {
        assert_eq!(applied(&[], 202), (25, String::new()));
        assert_eq!(applied(&["wait=5"], 200), (5, "wait=5".into()));
        assert_eq!(applied(&["wait=500"], 202), (30, "wait=30".into()));
        assert_eq!(applied(&["respond-async"], 202), (0, "respond-async".into()));
        assert_eq!(applied(&["respond-async, wait=7"], 202), (7, "respond-async, wait=7".into()));
        assert_eq!(applied(&["respond-async, wait=7"], 200), (7, "wait=7".into()));
    }
}
