//! How a route says that it is on its way out: `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and a link to what to do
//! instead, on every answer of it, refusals included. No route is deprecated at the moment. One that shall be gets
//! `.layer(from_fn_with_state(&GOING, deprecation::mark))` in `routes`, and `#[deprecated]` for its document.

use axum::extract::{Request, State};
use axum::http::header::{HeaderMap, HeaderName, HeaderValue, LINK};
use axum::middleware::Next;
use axum::response::Response;
use chrono::{DateTime, Utc};

/// The form of dates in headers (RFC 9110, section 5.6.7).
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// A route's way out.
#[derive(Debug, Clone, Copy)]
pub struct Deprecation {
    /// Since when nothing new should use it; may lie ahead.
    pub since: DateTime<Utc>,
    /// When it stops answering, if that is decided; not before `since` (RFC 9745, section 4).
    pub sunset: Option<DateTime<Utc>>,
    /// The page that says what to use instead.
    pub guide: &'static str,
}

/// Marks every answer of the routes it is put around.
pub async fn mark(State(going): State<&'static Deprecation>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    going.write(response.headers_mut());
    response
}

impl Deprecation {
    fn write(&self, headers: &mut HeaderMap) {
        let mut put = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                // an answer may have links of its own
                headers.append(name, value);
            }
        };
        put(HeaderName::from_static("deprecation"), format!("@{}", self.since.timestamp()));
        if let Some(at) = self.sunset {
            put(HeaderName::from_static("sunset"), at.format(HTTP_DATE).to_string());
        }
        put(LINK, format!("<{}>; rel=\"deprecation\"; type=\"text/html\"", self.guide));
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    static GOING: Deprecation = Deprecation {
        since: DateTime::from_timestamp(1_688_169_599, 0).unwrap(),
        sunset: DateTime::from_timestamp(1_719_791_999, 0),
        guide: "https://example.com/why",
    };

    #[tokio::test]
    async fn every_answer_of_the_route_says_so_and_no_other() {
        let old = get(|| async { ([(LINK, "</next>; rel=\"next\"")], "old") });
        let router: Router = Router::new()
            .route("/old", old.layer(from_fn_with_state(&GOING, mark)))
            .route("/new", get(|| async { "new" }));
        let ask = |path: &'static str| {
            router.clone().oneshot(Request::builder().uri(path).body(Body::empty()).expect("a request"))
        };
        let old = ask("/old").await.expect("an answer");
        // the example of RFC 9745, section 2.1
        assert_eq!(old.headers()["deprecation"], "@1688169599");
        assert_eq!(old.headers()["sunset"], "Sun, 30 Jun 2024 23:59:59 GMT");
        let links: Vec<_> = old.headers().get_all(LINK).iter().collect();
        assert_eq!(
            links,
            ["</next>; rel=\"next\"", "<https://example.com/why>; rel=\"deprecation\"; type=\"text/html\""]
        );
        let new = ask("/new").await.expect("an answer");
        assert!(!new.headers().contains_key("deprecation") && !new.headers().contains_key("sunset"));
    }
}
