//! The one place where an [`Error`] becomes an answer: RFC 9457 problem+json with a stable `code` and the request id.
//! The cause of a fault of ours goes to the log here, once, and never to the client.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::{Code, Error};
use utoipa::ToSchema;

use crate::request_id;

/// Where each code is explained.
const DOCS: &str = "https://github.com/ffprobe-api/ffprobe-api/blob/main/docs/api.md#";

/// An error answer (RFC 9457). Match on `code`; the sentences may change.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// Where this kind of problem is explained.
    #[serde(rename = "type")]
    #[schema(format = "uri")]
    pub kind: String,
    /// The kind of problem in a few words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The stable word for it.
    #[schema(example = "path_not_allowed")]
    pub code: &'static str,
    /// What happened and what to do.
    pub detail: String,
    /// Names this request in the logs.
    pub request_id: String,
    /// The members of the request that are to blame, if single ones are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Blame>,
    /// The policies of `RateLimit-Policy` that were violated, if the request came too soon.
    #[serde(rename = "violated-policies", skip_serializing_if = "Vec::is_empty")]
    pub violated_policies: Vec<&'static str>,
}

/// A member of the request that is to blame.
#[derive(Debug, Serialize, ToSchema)]
pub struct Blame {
    /// JSON Pointer (RFC 6901) as a URI fragment.
    #[schema(example = "#/source/path")]
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// An [`Error`] on its way out of a handler.
#[derive(Debug)]
pub struct Problem(pub Error);

/// What handlers return.
pub type Result<T> = std::result::Result<T, Problem>;

impl<E: Into<Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        answer(self.0, Vec::new())
    }
}

/// 429: too many requests, by these policies, for so many seconds.
pub fn rate_limited(detail: String, violated: Vec<&'static str>, seconds: u64) -> Response {
    let mut response = answer(Error::new(Code::RateLimited, detail), violated);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

fn answer(error: Error, violated_policies: Vec<&'static str>) -> Response {
    let code = error.code();
    if let Some(cause) = error.cause() {
        let level_is_error = code == Code::Internal;
        if level_is_error {
            tracing::error!(code = code.as_str(), cause = %chain(cause), "request failed");
        } else {
            tracing::warn!(code = code.as_str(), cause = %chain(cause), "request failed");
        }
    } else if code == Code::Internal {
        tracing::error!(code = code.as_str(), cause = error.detail(), "request failed");
    }
    let body = ProblemBody {
        kind: explained_at(code),
        title: code.title(),
        status: code.status(),
        code: code.as_str(),
        detail: error.detail().to_owned(),
        request_id: request_id::current(),
        errors: error
            .pointer()
            .map(|p| Blame { pointer: format!("#{p}"), detail: error.detail().to_owned() })
            .into_iter()
            .collect(),
        violated_policies,
    };
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, axum::Json(body)).into_response();
    // for the layers: what kind of problem it is
    response.extensions_mut().insert(code);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(challenge) = challenge(code) {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if matches!(code, Code::Unavailable | Code::ResultNotReady) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    }
    if matches!(code, Code::TooManyQueued | Code::TooManyEventStreams | Code::EventStreamsFull) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// The page that explains a code.
pub fn explained_at(code: Code) -> String {
    format!("{DOCS}{}", code.as_str())
}

/// How to authenticate (RFC 6750 section 3): who sent no token is not told that one was wrong.
fn challenge(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthorized => Some("Bearer realm=\"ffprobe-api\""),
        Code::InvalidToken => Some("Bearer realm=\"ffprobe-api\", error=\"invalid_token\""),
        Code::TokenExpired => Some(
            "Bearer realm=\"ffprobe-api\", error=\"invalid_token\", error_description=\"The access token has expired\"",
        ),
        _ => None,
    }
}

/// The error and everything below it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

impl Problem {
    /// Points at `to` where it pointed at `from`: a short call names the same member differently.
    #[must_use]
    pub fn rename(self, from: &str, to: &str) -> Self {
        if self.0.pointer() == Some(from) { Self(self.0.at(to)) } else { self }
    }
}
