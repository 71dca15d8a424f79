//! The request id: taken from the client's `X-Request-ID` if it is a decent one, made otherwise, given back in the
//! answer, in every problem document and in every log line of the request.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header, both ways.
pub const HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken from a client.
const MAX_CHARS: usize = 128;

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request being handled; empty outside of one.
pub fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Runs `future` as the handling of request `id`.
pub async fn scope<F: Future>(id: String, future: F) -> F::Output {
    CURRENT.scope(id, future).await
}

/// The client's id, if it cannot do harm in a log or a header; else a new one.
pub fn choose(headers: &HeaderMap) -> String {
    let decent = |id: &&str| {
        !id.is_empty()
            && id.len() <= MAX_CHARS
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
    };
    let given = headers.get(HEADER).map(HeaderValue::to_str).and_then(Result::ok).filter(decent);
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decent_ids_are_taken_over() {
        let chosen = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_bytes(id.as_bytes()).unwrap());
            choose(&headers)
        };
        assert_eq!(chosen("abc-123"), "abc-123");
        for bad in ["", "a b", "é", &"x".repeat(129), "<script>"] {
            assert_ne!(chosen(bad), bad);
        }
    }
}
