//! `/api/v1/auth/sessions`: list sessions and end them. Whoever bears a key, or a token of it, sees and ends the sessions of
//! that key; with the rights over keys, those of the whole tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LINK;
use axum::response::{AppendHeaders, IntoResponse, Response};
use shared::Error;
use shared::access::{Principal, Right};
use shared::id::SessionId;
use shared::store::session::{self, Whose};

use super::request::SessionQuery;
use super::view::{SessionPage, SessionView};
use crate::App;
use crate::auth::Anyone;
use crate::extract::{From, Id, Noun, Query};
use crate::openapi::ReadProblems;
use crate::problem::{ProblemBody, Result};

impl Noun for SessionId {
    const NOUN: &'static str = "session";
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
    Query(query): Query<SessionQuery>,
) -> Result<Response> {
    let limit = query.limit(app.limits.page)?;
    // one more than asked for tells whether there is a next page
    let mut found = session::list(&app.db, who.tenant, reach(&who, Right::KeysRead), query.after()?, limit + 1).await?;
    let has_more = found.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_cursor = found.last().filter(|_| has_more).map(|last| last.id.to_string());
    let link = next_cursor.as_ref().map(|cursor| {
        let next = format!("{}/api/v1/auth/sessions?limit={limit}&cursor={cursor}", app.base_url);
        (LINK, format!("<{next}>; rel=\"next\""))
    });
    let data = found.into_iter().map(|s| SessionView::new(s, &who)).collect();
    Ok((AppendHeaders(link), axum::Json(SessionPage { data, has_more, next_cursor })).into_response())
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
pub async fn remove(
    State(app): State<Arc<App>>,
    Anyone(who): Anyone,
    From(from): From,
    Id(id): Id<SessionId>,
) -> Result<StatusCode> {
    if !session::delete(&app.db, who.tenant, reach(&who, Right::KeysWrite), id).await? {
        return Err(Error::not_found(SessionId::NOUN).into());
    }
    tracing::info!(target: "audit", action = "session.ended", session = %id, tenant = %who.tenant, key = who.key_public_id, client = %from.0, "security event");
    app.forget_access(who.tenant).await;
    Ok(StatusCode::NO_CONTENT)
}

fn reach(who: &Principal, right: Right) -> Whose {
    if who.rights.has(right) { Whose::Tenant } else { Whose::Key(who.key) }
}
