//! Extractors whose rejections are problem documents. The stock ones answer in plain text.

use axum::body::{Bytes, HttpBody};
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use shared::{Code, Error};

use crate::client::ClientAddress;
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

/// Where the request comes from.
pub struct From(pub ClientAddress);

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
        Ok(Self { value: read_object(&body)?, repeatable: Repeatable::read(&headers, &body)? })
    }
}

/// Reads a JSON object, and nothing else that serde would take for one. None at all is an empty one: a call whose members may
/// all be left out may leave out the body, too.
pub fn read_object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    let read = if starts_an_object(text) { serde_json::from_slice(text) } else { Err(de::Error::custom(NO_OBJECT)) };
    read.map_err(|e| {
        let detail = if body.is_empty() {
            format!("The body is empty. Send a JSON object: {e}.")
        } else {
            format!("The body is not the JSON this route takes: {e}.")
        };
        Error::new(Code::InvalidJson, detail)
    })
}

/// Why an array is no body: serde would take one for an object with its members in order.
const NO_OBJECT: &str = "it is not an object";

fn starts_an_object(text: &[u8]) -> bool {
    text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Reads a member that is an object, and nothing else, as serde would: for `deserialize_with`.
pub fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    let members = Map::<String, Value>::deserialize(from)?;
    T::deserialize(Value::Object(members)).map_err(de::Error::custom)
}

/// The same for one that may be null; with `default` for one that may be missing.
pub fn object_or_null<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let members = Option::<Map<String, Value>>::deserialize(from)?;
    members.map(|members| T::deserialize(Value::Object(members)).map_err(de::Error::custom)).transpose()
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

impl<S: Send + Sync> FromRequestParts<S> for From {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let address = parts.extensions.get::<ClientAddress>().copied();
        address.map(Self).ok_or_else(|| Error::internal("a call outside of the layer that tells the address").into())
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

impl Noun for shared::id::BatchId {
    const NOUN: &'static str = "batch";
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

impl Noun for shared::id::WebhookId {
    const NOUN: &'static str = "webhook";
}

impl Noun for shared::id::DeliveryId {
    const NOUN: &'static str = "delivery";
}

impl Noun for shared::id::TenantId {
    const NOUN: &'static str = "tenant";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wish {
        #[serde(deserialize_with = "object")]
        inner: Inner,
        #[serde(default, deserialize_with = "object_or_null")]
        other: Option<Inner>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        a: u8,
    }

    async fn read(body: &str) -> Result<Wish, String> {
        let request = Request::builder().body(body.to_owned().into()).expect("a request");
        let read = AnyTypeJson::<Wish>::from_request(request, &()).await;
        read.map(|json| json.value).map_err(|problem| problem.0.detail().to_owned())
    }

    #[tokio::test]
    async fn an_array_is_no_object() {
        let wish = read(r#" {"inner": {"a": 1}, "other": null}"#).await.expect("it is one");
        assert_eq!((wish.inner.a, wish.other), (1, None));
        assert_eq!(
            read(r#"{"inner": {"a": 1}, "other": {"a": 2}}"#).await.expect("it is one").other,
            Some(Inner { a: 2 })
        );
        for bad in [
            r#"[{"a": 1}, null]"#,
            r#"{"inner": [1]}"#,
            r#"{"inner": {"a": 1}, "other": [2]}"#,
            r#"{"inner": {"a": 1, "b": 2}}"#,
            r#"{"inner": null}"#,
            "null",
            "",
        ] {
            let detail = read(bad).await.expect_err(bad);
            assert!(detail.ends_with('.'), "{detail}");
        }
    }
}
