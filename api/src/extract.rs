//! Extractors whose rejections are problem documents. The stock ones answer in plain text.

use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use shared::{Code, Error};

use crate::idempotency::Repeatable;
use crate::problem::Problem;

/// A JSON body with content type `application/json` (or `…+json`).
pub struct Json<T> {
    /// What it says.
    pub value: T,
    /// What makes the request recognisable if it is repeated.
    pub repeatable: Repeatable,
}

/// A JSON body whatever the content type says: `curl -d` sends a form type, and the short calls take it.
pub struct AnyTypeJson<T> {
    /// What it says.
    pub value: T,
    /// What makes the request recognisable if it is repeated.
    pub repeatable: Repeatable,
}

/// The query string.
pub struct Query<T>(pub T);

/// Two path parameters; what does not parse names nothing, so it is 404.
pub struct Ids<A, B>(pub A, pub B);

/// A single path parameter that is an id of `NOUN`; one that does not parse names nothing, so it is 404.
pub struct Id<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        // a request without a body has no type to state
        let is_empty = kind.is_empty() && request.body().is_end_stream();
        if !is_empty
            && essence != "application/json"
            && !(essence.starts_with("application/") && essence.ends_with("+json"))
        {
            let detail = format!(
                "The body must be JSON, but its content type is '{essence}'. Send the header Content-Type: application/json."
            );
            return Err(Error::new(Code::UnsupportedMediaType, detail).into());
        }
        let AnyTypeJson { value, repeatable } = AnyTypeJson::from_request(request, state).await?;
        Ok(Self { value, repeatable })
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for AnyTypeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let body = Bytes::from_request(request, state).await.map_err(unread)?;
        // a call whose members may all be left out may leave out the body, too
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        let value = serde_json::from_slice(text).map_err(|e| {
            let detail = if body.is_empty() {
                format!("The body is empty. Send a JSON object: {e}.")
            } else {
                format!("The body is not the JSON this route takes: {e}.")
            };
            Error::new(Code::InvalidJson, detail)
        })?;
        Ok(Self { value, repeatable: Repeatable::read(&headers, &body)? })
    }
}

fn unread(rejection: BytesRejection) -> Problem {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => Error::new(
            Code::TooLarge,
            "The body is larger than this route takes. Send less, or use an upload for media.",
        )
        .into(),
        other => Error::new(Code::IncompleteBody, format!("The body could not be read: {}.", other.body_text())).into(),
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|q| Self(q.0)).map_err(|e| Error::new(Code::BadRequest, format!("{}.", e.body_text())).into())
    }
}

impl<T: std::str::FromStr + Noun, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        let id = text.ok().and_then(|t| t.0.parse().ok());
        id.map(Self).ok_or_else(|| Error::not_found(T::NOUN).into())
    }
}

impl<A: std::str::FromStr + Noun, B: std::str::FromStr + Noun, S: Send + Sync> FromRequestParts<S> for Ids<A, B> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let texts = axum::extract::Path::<(String, String)>::from_request_parts(parts, state).await;
        let (a, b) = texts.map(|t| t.0).unwrap_or_default();
        let a = a.parse().map_err(|_| Error::not_found(A::NOUN))?;
        Ok(Self(a, b.parse().map_err(|_| Error::not_found(B::NOUN))?))
    }
}

/// What an id names, for messages.
pub trait Noun {
    /// In lower case.
    const NOUN: &'static str;
}

impl Noun for shared::id::JobId {
    const NOUN: &'static str = "job";
}

impl Noun for shared::job::Lane {
    const NOUN: &'static str = "queue (they are fast and scan)";
}

impl Noun for u16 {
    const NOUN: &'static str = "stream";
}

impl Noun for shared::id::UploadId {
    const NOUN: &'static str = "upload";
}

impl Noun for shared::id::ApiKeyId {
    const NOUN: &'static str = "API key";
}

impl Noun for shared::id::TenantId {
    const NOUN: &'static str = "tenant";
}
