//! The headers of tus answers, and those that browsers want. Called by the routes of uploads, and around them for what
//! every answer carries, refusals included. tower-http's CORS layer is not used: it answers every OPTIONS itself, and tus
//! clients ask by OPTIONS.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, EXPECT, LOCATION, ORIGIN, RETRY_AFTER, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http_body_util::BodyExt;
use shared::store::upload::Upload;
use shared::upload::{ALGORITHMS, EXTENSIONS, UploadState, VERSION, is_tus};

use crate::App;
use crate::problem::Problem;

/// Bytes of a refused body that are read and thrown away, and for how long: a client that is still sending would
/// otherwise lose the answer with the connection.
const THROWN_AWAY: usize = 8 << 20;
const THROWN_AWAY_FOR: Duration = Duration::from_secs(1);
/// The form of dates in headers (RFC 9110, section 5.6.7).
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";
/// What web pages may send and read.
const METHODS: &str = "GET, HEAD, POST, PATCH, DELETE, OPTIONS";
const SENT: &str = "Authorization, X-API-Key, Content-Type, X-Request-ID, X-HTTP-Method-Override, Tus-Resumable, Upload-Length, Upload-Offset, Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Checksum";
const READ: &str = "Location, Upload-Offset, Upload-Length, Upload-Expires, Upload-Metadata, Upload-Defer-Length, Upload-Concat, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID";
/// How long a browser remembers what it may, in seconds.
const REMEMBERED: &str = "86400";

/// What an answer tells of an upload.
pub struct Facts {
    /// Bytes stored.
    pub offset: u64,
    length: Option<u64>,
    metadata: Option<String>,
    concat: Option<String>,
    expires: Option<DateTime<Utc>>,
    /// Whether the offset is told: not while an upload is put together from parts.
    tells_offset: bool,
}

impl Facts {
    /// As the row has it.
    pub fn of(upload: &Upload) -> Self {
        let receiving = upload.state == UploadState::Receiving;
        Self {
            offset: upload.offset(),
            length: upload.length(),
            metadata: upload.sent_metadata.clone(),
            concat: upload.concat_sent.clone(),
            expires: upload.expires_at.filter(|_| receiving),
            tells_offset: !(receiving && upload.is_final()),
        }
    }

    /// Everything, for HEAD.
    pub fn whole(self, status: StatusCode) -> Response {
        let mut response = self.brief(status);
        let headers = response.headers_mut();
        match self.length {
            Some(length) => put(headers, "upload-length", &length.to_string()),
            None => put(headers, "upload-defer-length", "1"),
        }
        for (name, value) in [("upload-metadata", &self.metadata), ("upload-concat", &self.concat)] {
            if let Some(value) = value {
                put(headers, name, value);
            }
        }
        response
    }

    /// Where it stands and until when.
    pub fn brief(&self, status: StatusCode) -> Response {
        let mut response = status.into_response();
        let headers = response.headers_mut();
        if self.tells_offset {
            put(headers, "upload-offset", &self.offset.to_string());
        }
        if let Some(at) = self.expires {
            put(headers, "upload-expires", &at.format(HTTP_DATE).to_string());
        }
        response
    }

    /// 201, with the upload's URL.
    pub fn created(&self, location: &str) -> Response {
        let mut response = self.brief(StatusCode::CREATED);
        put(response.headers_mut(), LOCATION.as_str(), location);
        response
    }
}

/// A header from a value of ours or one that came as a header; what cannot be one is left out.
pub fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// A problem with the offset that is true.
pub fn problem_at(problem: impl Into<Problem>, offset: u64) -> Response {
    let mut response = problem.into().into_response();
    put(response.headers_mut(), "upload-offset", &offset.to_string());
    response
}

/// A problem before the body was read. Some of the body is read first, so that the client gets to read the answer; a client
/// that asked first (Expect: 100-continue) sends nothing.
pub async fn refuse(headers: &HeaderMap, body: Body, problem: impl Into<Problem>) -> Response {
    put_away(headers, body).await;
    problem.into().into_response()
}

/// What is done with a body before a refusal.
pub async fn put_away(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) {
        throw_away(body).await;
    }
}

async fn throw_away(mut body: Body) {
    let reading = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, |data| data.len());
            if bytes > THROWN_AWAY {
                return;
            }
        }
    };
    // whether it ended or not: the answer goes out now
    let _ = tokio::time::timeout(THROWN_AWAY_FOR, reading).await;
}

/// The answer to OPTIONS.
pub fn options(app: &App) -> Response {
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    put(headers, "tus-version", VERSION);
    put(headers, "tus-extension", EXTENSIONS);
    put(headers, "tus-max-size", &app.limits.upload_bytes.to_string());
    put(headers, "tus-checksum-algorithm", ALGORITHMS);
    response
}

/// Puts what every answer of an upload carries on it: the protocol's version, and leave for the web pages that have it.
pub async fn mark(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if !super::is_upload(&request) {
        return next.run(request).await;
    }
    let tus = is_tus(request.headers()) || [Method::HEAD, Method::PATCH, Method::DELETE].contains(request.method());
    let origin = request.headers().get(ORIGIN).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let preflight = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    let status = response.status();
    let headers = response.headers_mut();
    if tus || status == StatusCode::PRECONDITION_FAILED {
        put(headers, "tus-resumable", VERSION);
    }
    if status == StatusCode::PRECONDITION_FAILED {
        put(headers, "tus-version", VERSION);
    }
    if status == StatusCode::LOCKED {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    }
    if !app.limits.origins.is_empty() {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(origin) = origin.filter(|o| app.limits.origins.iter().any(|a| a == "*" || a == o)) {
        put(headers, ACCESS_CONTROL_ALLOW_ORIGIN.as_str(), &origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(READ));
        if preflight {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(SENT));
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
        }
    }
    response
}
