//! Who is asking. A handler that may be called only with a right names it in its signature: [`Viewer`] or
//! [`Submitter`]; a handler without one is public by sight.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use shared::access::{ApiKey, Principal, Role};
use shared::{Code, Error, store};

use crate::App;
use crate::problem::Problem;

/// The header the production checklist names; `Authorization: Bearer` is taken too.
const API_KEY: &str = "x-api-key";

/// May read.
pub struct Viewer(pub Principal);

/// May also upload and submit.
pub struct Submitter(pub Principal);

/// Runs the installation: queues, tenants, workers.
pub struct Platform(pub Principal);

impl FromRequestParts<Arc<App>> for Platform {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let who = require(&parts.headers, app, Role::Admin).await?;
        if !who.platform {
            let detail = "This call is for those who run the platform. Use a key with platform reach.";
            return Err(Error::new(Code::Forbidden, detail).into());
        }
        Ok(Self(who))
    }
}

impl FromRequestParts<Arc<App>> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        require(&parts.headers, app, Role::Viewer).await.map(Self)
    }
}

impl OptionalFromRequestParts<Arc<App>> for Viewer {
    type Rejection = Problem;

    /// `None` without credentials; wrong ones are still refused.
    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Option<Self>, Problem> {
        match presented(&parts.headers) {
            None => Ok(None),
            Some(_) => require(&parts.headers, app, Role::Viewer).await.map(|p| Some(Self(p))),
        }
    }
}

impl FromRequestParts<Arc<App>> for Submitter {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        require(&parts.headers, app, Role::Submitter).await.map(Self)
    }
}

async fn require(headers: &HeaderMap, app: &App, role: Role) -> Result<Principal, Problem> {
    let principal = authenticate(headers, app).await?;
    tracing::Span::current().record("tenant", tracing::field::display(principal.tenant));
    if principal.role < role {
        let detail = format!(
            "This key has the role {}; this call needs {}. Use a key with that role.",
            principal.role.as_str(),
            role.as_str()
        );
        return Err(Error::new(Code::Forbidden, detail).into());
    }
    Ok(principal)
}

async fn authenticate(headers: &HeaderMap, app: &App) -> Result<Principal, Problem> {
    let refused = |detail: &str| Problem::from(Error::new(Code::Unauthorized, detail));
    let text = presented(headers).ok_or_else(|| {
        refused("This call needs an API key. Send it in the header X-API-Key, or as Authorization: Bearer.")
    })?;
    let wrong = "The API key is not known, or it was revoked. Check that it was copied whole.";
    // the checksum in the key refuses typing errors without a question to the database
    let key = ApiKey::parse(text).ok_or_else(|| refused(wrong))?;
    match store::access::find_key(&app.db, key.public_id()).await? {
        Some(stored) if key.matches(&stored.digest, &app.pepper) => Ok(stored.into_principal()),
        Some(_) => Err(refused(wrong)),
        None => {
            // the same work as for a known id, so that the answer's time does not tell them apart
            key.matches(&[0; 32], &app.pepper);
            Err(refused(wrong))
        }
    }
}

/// The credential as sent. A query string is never looked at: it would end up in logs.
fn presented(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get(API_KEY) {
        return Some(key.to_str().unwrap_or_default());
    }
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
    Some(if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" })
}
