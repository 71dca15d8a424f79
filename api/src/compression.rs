//! Answers made smaller with br or gzip, as the client asks (RFC 9110, section 12.5.3): results, lists, and the pages of
//! documentation. Put around the routes by `layers`. Never touched are uploads, streams, and every call that hands out a
//! secret: the length of a compressed answer tells of its content to whoever can put words into it.

use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::Predicate;

use crate::routes;

/// Smaller answers fit into the packets they take anyway.
const WORTH_BYTES: u64 = 1024;
/// What takes a few milliseconds a megabyte, for br as for gzip: JSON of ffprobe becomes a tenth.
const LEVEL: CompressionLevel = CompressionLevel::Precise(4);
/// Calls by POST that may answer with a result.
const PROBES: [&str; 3] = ["/api/v1/jobs", "/api/v1/probe/file", "/api/v1/probe/url"];
/// Below these, nothing is compressed, whatever the method.
const SECRETS: [&str; 1] = ["/api/v1/auth/"];

/// Which answers are worth it.
#[derive(Clone, Copy)]
pub struct Worthwhile;

impl Predicate for Worthwhile {
    fn should_compress<B: HttpBody>(&self, response: &axum::http::Response<B>) -> bool {
        let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let wordy = [&b"application/json"[..], b"text/css", b"text/html", b"text/javascript"];
        response.body().size_hint().exact().is_some_and(|bytes| bytes >= WORTH_BYTES)
            && wordy.iter().any(|word| kind.starts_with(word))
    }
}

/// The layer that compresses.
pub fn layer() -> CompressionLayer<Worthwhile> {
    CompressionLayer::new().quality(LEVEL).compress_when(Worthwhile)
}

/// Hides from the layer that the client takes compressed answers, where none is to be given.
pub async fn choose(mut request: Request, next: Next) -> Response {
    if !may_shrink(&request) {
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    next.run(request).await
}

fn may_shrink(request: &Request) -> bool {
    let path = request.uri().path();
    let is_read = request.method() == Method::GET;
    (is_read || PROBES.contains(&path))
        && !routes::uploads::is_upload(request)
        && !SECRETS.iter().any(|secret| path.starts_with(secret))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn secrets_and_uploads_are_left_alone() {
        let may = |method: &str, path: &str| {
            may_shrink(&Request::builder().method(method).uri(path).body(Body::empty()).expect("a request"))
        };
        for (method, path) in [
            ("GET", "/api/v1/jobs/x/result"),
            ("GET", "/docs"),
            ("POST", "/api/v1/jobs"),
            ("POST", "/api/v1/probe/url"),
        ] {
            assert!(may(method, path), "{method} {path}");
        }
        for (method, path) in [
            ("GET", "/api/v1/uploads/x"),
            ("PATCH", "/api/v1/uploads/x"),
            ("POST", "/api/v1/auth/token"),
            ("GET", "/api/v1/auth/me"),
            ("POST", "/api/v1/api-keys"),
        ] {
            assert!(!may(method, path), "{method} {path}");
        }
    }
}
