//! `ETag` and `If-None-Match` (RFC 9110, sections 8.8.3 and 13.1.2) on every read of JSON: a client that has what there
//! is gets 304 and no body. Put around the routes by `layers`. The tag is made from the bytes of the answer, so it cannot
//! say "the same" of another one; it is weak, because the answer may be compressed on its way. It saves the transfer, not
//! the work. A body that is not ready in memory (a stream) is left alone.

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use shared::Error;

use crate::problem::Problem;

/// Bytes of the digest that stand in a tag: enough that two answers never share one by chance.
const TAG_BYTES: usize = 16;
/// The client may keep the answer, nobody between may, and it asks before it uses it again: rights end, jobs are erased.
const KEEP: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Tags the answer to a GET, or leaves its body out if the client has it.
pub async fn tag(request: Request, next: Next) -> Response {
    let is_read = request.method() == Method::GET;
    let known: Vec<HeaderValue> = request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect();
    let response = next.run(request).await;
    if !is_read || response.status() != StatusCode::OK || !is_whole(response.headers(), response.body()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Problem(Error::internal(error)).into_response(),
    };
    let tag = URL_SAFE_NO_PAD.encode(&Sha256::digest(&bytes)[..TAG_BYTES]);
    if let Ok(value) = HeaderValue::from_str(&format!("W/\"{tag}\"")) {
        parts.headers.insert(ETAG, value);
    }
    parts.headers.entry(CACHE_CONTROL).or_insert(KEEP);
    if known.iter().any(|value| names(value, &tag)) {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(CONTENT_TYPE);
        parts.headers.remove(CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(bytes))
}

/// Whether it is JSON, or a part of the pages of documentation, that lies in memory as a whole: streams have no known size.
fn is_whole(headers: &HeaderMap, body: &Body) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    body.size_hint().exact().is_some() && (kind.starts_with(b"application/json") || kind.starts_with(b"text/"))
}

/// Whether one line of `If-None-Match` has the tag, or the star that stands for all. The comparison is the weak one.
fn names(value: &HeaderValue, tag: &str) -> bool {
    let entry = |entry: &str| {
        let entry = entry.trim();
        let opaque = entry.strip_prefix("W/").unwrap_or(entry);
        entry == "*" || opaque.strip_prefix('"').and_then(|o| o.strip_suffix('"')) == Some(tag)
    };
    value.to_str().is_ok_and(|line| line.split(',').any(entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stars_and_both_kinds_of_tags_are_understood() {
        let named = |line: &'static str| names(&HeaderValue::from_static(line), "abc");
        for line in ["\"abc\"", "W/\"abc\"", "*", "\"x\", W/\"abc\"", "\"x\",\"abc\" "] {
            assert!(named(line), "{line}");
        }
        for line in ["", "abc", "\"ab\"", "W/abc", "\"abc", "w/\"abc\"", "\"*\""] {
            assert!(!named(line), "{line}");
        }
    }
}
