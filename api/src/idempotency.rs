//! `Idempotency-Key`: the client's word for a request it may repeat (draft-ietf-httpapi-idempotency-key-header-07: a
//! structured-field string; the bare word that most clients send is taken, too), and the answers of routes that make something:
//! the first one whole, with a secret if there is one; a repeated one as it was kept, without.

use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::store::idempotency::{Kept, Request};
use shared::{Code, Error};

/// The header.
const HEADER: &str = "idempotency-key";
/// Says that an answer was given before.
pub const REPLAYED: &str = "idempotent-replayed";
/// What the header may be, for the document.
pub const PATTERN: &str = "^(\"[!#-~]{1,255}\"|[!#-~]{1,255})$";
/// Longest key, in characters.
const MAX_CHARS: usize = 255;

/// What makes a repeated request recognisable; none without the header.
pub struct Repeatable(Option<(String, [u8; 32])>);

impl Repeatable {
    /// Reads the header and takes the fingerprint of the body.
    pub fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Error> {
        Self::of_digest(headers, Sha256::digest(body).into())
    }

    /// Reads the header; the body had this SHA-256.
    pub fn of_digest(headers: &HeaderMap, digest: [u8; 32]) -> Result<Self, Error> {
        let mut values = headers.get_all(HEADER).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let wrong = || {
            let detail = format!("An Idempotency-Key has 1 to {MAX_CHARS} visible ASCII characters, and is sent once.");
            Error::new(Code::BadRequest, detail)
        };
        let text = value.to_str().map_err(|_| wrong())?.trim();
        let key = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        let good = (1..=MAX_CHARS).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        if !good || values.next().is_some() {
            return Err(wrong());
        }
        Ok(Self(Some((key.to_owned(), digest))))
    }

    /// The request as it is kept, if it may be repeated. `operation` is its method and route, with the id of
    /// what it is done to, which no fingerprint of a body knows.
    pub fn of(self, operation: impl Into<String>) -> Option<Request> {
        self.0.map(|(key, fingerprint)| Request { key, operation: operation.into(), fingerprint })
    }
}

/// The answer as it is kept for repeated requests. `view` must not hold a secret.
pub fn keep(view: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(view).map_err(Error::internal)
}

/// Answers with what was made just now and where it is.
pub fn first(status: StatusCode, location: String, view: &impl Serialize) -> Response {
    (status, AppendHeaders([(LOCATION, location)]), axum::Json(view)).into_response()
}

/// Answers a repeated request with what was kept, says so, and where it is that the first one made.
pub fn again(status: StatusCode, location: String, kept: Kept) -> Response {
    // not appended: a text comes with a content type of its own
    let headers =
        [(LOCATION.as_str(), location.as_str()), (CONTENT_TYPE.as_str(), "application/json"), (REPLAYED, "true")];
    (status, headers, kept.answer).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(keys: &[&str]) -> Result<Option<String>, Code> {
        let mut headers = HeaderMap::new();
        for key in keys {
            headers.append(HEADER, HeaderValue::from_bytes(key.as_bytes()).unwrap());
        }
        Repeatable::read(&headers, b"{}").map(|r| r.of("x").map(|r| r.key)).map_err(|e| e.code())
    }

    #[test]
    fn strings_and_bare_words_are_the_same_key() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["8e03978e-40d5"]), Ok(Some("8e03978e-40d5".into())));
        assert_eq!(read(&["\"8e03978e-40d5\""]), Ok(Some("8e03978e-40d5".into())));
        for bad in [&[""][..], &["\"\""], &["a b"], &["a\"b"], &["é"], &["a", "b"], &["x".repeat(256).as_str()]] {
            assert_eq!(read(bad), Err(Code::BadRequest), "{bad:?}");
        }
    }

    #[test]
    fn a_repeated_answer_is_the_kept_one_and_says_so() {
        let kept = Kept {
            operation: "POST /x".into(),
            fingerprint: Vec::new(),
            made: uuid::Uuid::nil(),
            answer: keep(&serde_json::json!({"secret": null})).unwrap(),
        };
        let whole = first(StatusCode::CREATED, "/x/1".into(), &serde_json::json!({"secret": "s"}));
        let repeated = again(StatusCode::CREATED, "/x/1".into(), kept);
        for (answer, replayed) in [(&whole, None), (&repeated, Some("true"))] {
            let one = |name: &str| {
                let mut values = answer.headers().get_all(name).iter();
                let value = values.next().map(|v| v.to_str().unwrap());
                assert!(values.next().is_none(), "{name} stands there twice");
                value
            };
            assert_eq!(answer.status(), StatusCode::CREATED);
            assert_eq!((one("location"), one("content-type")), (Some("/x/1"), Some("application/json")));
            assert_eq!(one(REPLAYED), replayed);
        }
    }
}
