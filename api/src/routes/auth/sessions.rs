//! `/api/v1/auth/sessions`: list sessions and end them. Whoever bears a key, or a token of it, sees and ends the sessions of
//! that key; with the rights over keys, those of the whole tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse, Response};
use shared::Error;
use shared::access::{Principal, Right};
use shared::id::SessionId;
use shared::store::session::{self, Whose};
use uuid::Uuid;

use super::request::SessionQuery;
use super::view::{SessionPage, SessionView};
use crate::auth::Anyone;
use crate::extract::{Id, Noun, Query};
use crate::openapi::ReadProblems;
use crate::problem::{ProblemBody, Result};
use crate::{App, audit, cursor};

const DELETE: &str = "session.delete";

impl Noun for SessionId {
    const NOUN: &'static str = "session";
}

/// Ids of sessions sort by their beginning.
impl cursor::Place for SessionId {
    fn write(&self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Uuid::from_slice(bytes).ok().map(Self)
    }
}

/// List sessions
///
/// Those of the key; with the right `keys:read`, all of the tenant.
#[utoipa::path(
    get, path = "/api/v1/auth/sessions", tag = "auth", operation_id = "list_sessions",
    params(SessionQuery),
    responses(
        (status = 200, description = "A page of sessions.", body = SessionPage, headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last."))),
        ReadProblems,
    ),
    security(("api_key" = []), ("bearer" = []))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Anyone(who): Anyone,
    uri: Uri,
    Query(query): Query<SessionQuery>,
) -> Result<Response> {
    let limit = query.limit(app.limits.page)?;
    let whose = reach(&who, Right::KeysRead);
    let cursors = cursor::List::new(&app, &who, "sessions", &whose);
    let after = query.cursor.as_deref().map(|c| cursors.decode(c)).transpose()?;
    // one more than asked for tells whether there is a next page
    let mut found = session::list(&app.db, who.tenant, whose, after, limit + 1).await?;
    let has_more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_cursor = found.last().filter(|_| has_more).map(|last| cursors.encode(&last.id));
    let next = next_cursor.as_deref().and_then(|c| cursor::link(&app, &uri, c));
    let data = found.into_iter().map(|s| SessionView::new(s, &who)).collect();
    Ok((AppendHeaders(next), axum::Json(SessionPage { data, has_more, next_cursor })).into_response())
}

/// End a session
///
/// All tokens of the session open nothing from then on. One of the key; with the right `keys:write`, any of the tenant.
#[utoipa::path(
    delete, path = "/api/v1/auth/sessions/{id}", tag = "auth", operation_id = "delete_session",
    params(("id" = SessionId, Path, description = "The session.")),
    responses(
        (status = 204, description = "The session has ended."),
        (status = 404, description = "There is no such session.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = []), ("bearer" = []))
)]
pub async fn remove(State(app): State<Arc<App>>, Anyone(who): Anyone, Id(id): Id<SessionId>) -> Result<StatusCode> {
    let event = audit::change(DELETE, StatusCode::NO_CONTENT, who.tenant);
    if !session::delete(&app.db, who.tenant, reach(&who, Right::KeysWrite), id, &event).await? {
        return Err(Error::not_found(SessionId::NOUN).into());
    }
    audit::kept(DELETE);
    app.forget_access(who.tenant).await;
    Ok(StatusCode::NO_CONTENT)
}

fn reach(who: &Principal, right: Right) -> Whose {
    if who.rights.has(right) { Whose::Tenant } else { Whose::Key(who.key) }
}
