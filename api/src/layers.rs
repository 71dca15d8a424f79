//! What surrounds every route: request id, one log line, counters, a time limit, panics and unknown routes as problem
//! documents, and the headers every answer carries.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, Method, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use shared::{Code, Error};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::metrics::{Handled, Route};
use crate::problem::Problem;
use crate::{App, audit, auth, client, compression, conditional, limits, request_id, routes};

/// What a browser may do with an answer that says nothing else: nothing.
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// Puts every layer around the routes, as one: to [`Router::layer`] each layer is a box around all inside it, and every
/// request clones and frees every box, the inner ones once for each outer one.
pub fn wrap(router: Router, app: Arc<App>) -> Router {
    // the outermost first
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(Arc::clone(&app), observe))
        .layer(from_fn_with_state(Arc::clone(&app), routes::uploads::protocol::mark))
        .layer(from_fn_with_state(Arc::clone(&app), client::locate))
        .layer(from_fn_with_state(Arc::clone(&app), auth::identify))
        .layer(from_fn_with_state(Arc::clone(&app), audit::record))
        .layer(from_fn_with_state(Arc::clone(&app), limits::limit))
        .layer(from_fn(compression::choose))
        .layer(compression::layer())
        .layer(from_fn(conditional::tag))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(&app), time_limit))
        .layer(DefaultBodyLimit::max(app.limits.body_bytes));
    router.fallback(unknown_route).method_not_allowed_fallback(unknown_method).layer(layers)
}

async fn unknown_route(uri: Uri) -> Problem {
    Error::new(Code::NotFound, format!("There is nothing at {}. The routes are listed in openapi.json.", uri.path()))
        .into()
}

async fn unknown_method(method: Method, uri: Uri) -> Problem {
    Error::new(
        Code::MethodNotAllowed,
        format!("{} does not take {method}. The Allow header lists what it takes.", uri.path()),
    )
    .into()
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Problem(Error::internal(format!("a handler panicked: {}", text.unwrap_or("no message")))).into_response()
}

async fn time_limit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    // bodies that may take hours watch their own pace
    if routes::uploads::is_upload(&request) {
        return next.run(request).await;
    }
    match tokio::time::timeout(app.limits.request, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem(Error::new(
            Code::RequestTimeout,
            "The request took too long. Send the body without pauses, or try again.",
        ))
        .into_response(),
    }
}

async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let id = request_id::choose(request.headers());
    let method = method_label(request.method());
    // a pattern, not the URL: bounded as a label, and no secret stands in it
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request_id = %id, tenant = tracing::field::Empty);
    let begun = Instant::now();
    let _in_flight = InFlight::enter(&app);
    let mut response = request_id::scope(id.clone(), next.run(request)).instrument(span.clone()).await;
    let (status, elapsed) = (response.status().as_u16(), begun.elapsed());
    app.metrics.duration.0.get_or_create(&Route { route: route.clone() }).observe(elapsed.as_secs_f64());
    span.in_scope(|| {
        // probes and scrapes would drown everything else
        if route.starts_with("/health") && status < 400 {
            tracing::debug!(method, route, status, duration_ms = elapsed.as_millis(), "handled");
        } else {
            tracing::info!(method, route, status, duration_ms = elapsed.as_millis(), "handled");
        }
    });
    app.metrics.requests.get_or_create(&Handled { method, route, status }).inc();
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(request_id::HEADER, value);
    }
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(NOTHING);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The method as a label: a client may invent methods, but no labels.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Counts a request while it is handled, however it ends: a client that goes away drops the future.
struct InFlight<'a>(&'a App);

impl<'a> InFlight<'a> {
    fn enter(app: &'a App) -> Self {
        app.metrics.in_flight.inc();
        Self(app)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::routing::{get, post};
    use clap::Parser;
    use http_body_util::BodyExt;
    use serde_json::Value;
    use shared::queue::Queue;
    use shared::{storage, store};
    use tower::ServiceExt;

    use super::*;
    use crate::client::Peer;
    use crate::settings::{Cli, Limits};

    /// An app whose servers are never asked.
    fn app(request: Duration) -> Arc<App> {
        let args = Cli::parse_from(["ffprobe-api", "--redis-url", "redis://127.0.0.1:1"]).serve;
        let limits = Limits { request, ..Limits::new(&args).expect("limits") };
        let redis = args.redis.endpoint(&args.plaintext).expect("an endpoint");
        Arc::new(App {
            db: store::connect(args.database.options(&args.plaintext).expect("options"), 2),
            queue: Queue::new(redis, shared::id::InstallationId::new()).expect("a queue"),
            storage: storage::Storage::new("/nowhere".into()),
            roots: Vec::new(),
            keys: shared::sealed::KeyRing::parse("t:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=").unwrap(),
            egress: shared::egress::Egress::new(args.egress.settings().expect("settings")).expect("egress"),
            s3: Default::default(),
            pepper: shared::access::Pepper::new("x".to_owned().into()),
            tokens: tokens(),
            remembered: Default::default(),
            roll: Default::default(),
            sessions: Default::default(),
            used: Default::default(),
            gate: Default::default(),
            limiter: limits::Limiter::new(args.rates.rates().expect("rates")),
            backlog: Default::default(),
            spool_room: Default::default(),
            base_url: String::new(),
            limits,
            volume: Default::default(),
            metrics: Default::default(),
            audit: Default::default(),
            privilege: store::role::Privilege::AppendOnly,
            waiters: Default::default(),
            streams: Default::default(),
            holds: Default::default(),
            digests: Default::default(),
            background: Default::default(),
            draining: Default::default(),
        })
    }

    fn tokens() -> crate::settings::tokens::Tokens {
        let (secret, pepper) = ("5f1d7c0be2a94e6fb0c3d9182a7e64f5", "x".to_owned().into());
        let args = Cli::parse_from(["ffprobe-api", "--jwt-secret", secret]).serve.tokens;
        args.settings(&pepper).unwrap_or_else(|e| panic!("{e}")).of(shared::id::InstallationId::new())
    }

    async fn answer(router: Router, method: Method, body: Body) -> (u16, Value) {
        answer_at("/", router, method, body).await
    }

    async fn answer_at(uri: &str, router: Router, method: Method, body: Body) -> (u16, Value) {
        let request = Request::builder().method(method).uri(uri).extension(Peer(([127, 0, 0, 1], 1).into()));
        let request = request.body(body).expect("a request");
        let response = router.oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        assert_eq!(parts.headers["content-type"], "application/problem+json");
        let body = body.collect().await.expect("a body").to_bytes();
        let json: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(json["request_id"], parts.headers["x-request-id"].to_str().expect("text"));
        (parts.status.as_u16(), json)
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing() {
        async fn handler() -> &'static str {
            panic!("the secret of the house")
        }
        let router = wrap(Router::new().route("/", get(handler)), app(Duration::from_secs(5)));
        let (status, json) = answer(router, Method::GET, Body::empty()).await;
        assert_eq!((status, &json["code"]), (500, &Value::from("internal")));
        assert!(!json.to_string().contains("secret of the house"));
    }

    #[tokio::test]
    async fn wrong_tokens_are_counted_where_tokens_are_exchanged() {
        async fn handler() -> Problem {
            Error::new(Code::Unauthorized, "The refresh token is not known.").into()
        }
        for (uri, last) in [("/api/v1/auth/token", 429), ("/api/v1/auth/me", 401)] {
            let router = wrap(Router::new().route(uri, post(handler)), app(Duration::from_secs(5)));
            for _ in 0..10 {
                assert_eq!(answer_at(uri, router.clone(), Method::POST, Body::empty()).await.0, 401, "{uri}");
            }
            let (status, json) = answer_at(uri, router, Method::POST, Body::empty()).await;
            assert_eq!(status, last, "{uri}");
            assert_eq!(json["violated-policies"] == serde_json::json!(["authentication"]), last == 429, "{json}");
        }
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_a_problem() {
        async fn handler(_: crate::extract::AnyTypeJson<Value>) {}
        let router = wrap(Router::new().route("/", post(handler)), app(Duration::from_millis(100)));
        let endless = Body::from_stream(futures::stream::pending::<Result<&[u8], std::io::Error>>());
        let (status, json) = answer(router, Method::POST, endless).await;
        assert_eq!((status, &json["code"]), (408, &Value::from("request_timeout")));
    }
}
