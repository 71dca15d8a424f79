//! `/api/v1/audit`: the trail of who did what, in pages for people and as one stream for archives. A tenant sees its own;
//! those who run the platform see all, and what belongs to nobody. Nothing here writes: that is [`crate::audit`].

pub mod export;
pub mod request;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{AppendHeaders, IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::audit::{Actor, Outcome, Target};
use shared::id::{AuditEventId, TenantId};
use shared::store::audit::{After, Stored};
use shared::{Code, Error, store};
use utoipa::ToSchema;

use self::request::AuditQuery;
use crate::auth::{AuditRead, May};
use crate::export::Format;
use crate::extract::Query;
use crate::openapi::ReadProblems;
use crate::problem::Result;
use crate::{App, audit, cursor};

/// Something that was done, or was refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditEventView {
    /// Its id.
    pub id: AuditEventId,
    /// When it happened (RFC 3339).
    pub happened_at: DateTime<Utc>,
    /// Whose trail it belongs to; null: nobody's, as with credentials that opened nothing.
    pub tenant_id: Option<TenantId>,
    /// Who did it.
    pub actor: Actor,
    /// The address it came from; null: the service itself did it.
    #[schema(value_type = Option<String>, example = "192.0.2.7")]
    pub client_address: Option<IpAddr>,
    /// Names the request in logs and in its answer.
    pub request_id: Option<String>,
    /// What was done: stable words joined by dots.
    #[schema(example = "job.create")]
    pub action: String,
    /// To what.
    pub target: Option<Target>,
    /// How it ended.
    pub outcome: Outcome,
    /// Status of the answer; null if none was given, or not by a request.
    pub status: Option<i16>,
    /// Code of the problem.
    #[schema(example = "forbidden")]
    pub code: Option<String>,
    /// A few facts that go with the action.
    #[schema(value_type = Object)]
    pub detail: Map<String, Value>,
}

impl From<Stored> for AuditEventView {
    fn from(event: Stored) -> Self {
        Self {
            id: event.id,
            happened_at: event.happened_at,
            tenant_id: event.tenant,
            actor: event.actor,
            client_address: event.client,
            request_id: event.request_id,
            action: event.action,
            target: event.target,
            outcome: event.outcome,
            status: event.status,
            code: event.code,
            detail: event.detail,
        }
    }
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// Newest first.
    pub data: Vec<AuditEventView>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// Give it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// List the audit trail
///
/// Newest first. Follow `next_cursor` (or the `Link` header) for older events. With `format`, or `Accept:
/// application/x-ndjson` or `text/csv`, all of them come as one stream; one that breaks off early is not complete.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit", operation_id = "list_audit_events",
    params(AuditQuery),
    responses(
        (status = 200, description = "Events.", headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last.")), content((AuditPage = "application/json"), (String = "application/x-ndjson", example = json!("{\"action\": \"job.create\", \"outcome\": \"success\"}\n")), (String = "text/csv", example = json!("id,happened_at,tenant_id\r\n")))),
        (status = 404, description = "There is no such tenant.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["audit:read"]), ("bearer" = ["audit:read"]))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    May(who, _): May<AuditRead>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    Query(query): Query<AuditQuery>,
) -> Result<Response> {
    let filter = query.filter(&who)?;
    if let Some(format) = query.format.or_else(|| Format::of_accept(&headers)) {
        if query.limit.is_some() || query.cursor.is_some() {
            let detail = "An export has no pages. Leave out limit and cursor, or format.";
            return Err(Error::new(Code::BadRequest, detail).into());
        }
        audit::action("audit.export");
        return Ok(export::stream(&app, filter, format).await?);
    }
    let limit = query.limit()?;
    let cursors = cursor::List::new(&app, &who, "audit", &filter);
    let after = query.cursor.as_deref().map(|c| cursors.decode::<After>(c)).transpose()?;
    // one more than asked for tells whether there is a next page
    let mut events = store::audit::list(&app.db, &filter, after, limit + 1).await?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = events.len() > most;
    events.truncate(most);
    let last = events.last().filter(|_| has_more).map(|e| After { happened_at: e.happened_at, id: e.id });
    let next_cursor = last.map(|place| cursors.encode(&place));
    let next = next_cursor.as_deref().and_then(|c| cursor::link(&app, &uri, c));
    let data = events.into_iter().map(AuditEventView::from).collect();
    Ok((AppendHeaders(next), axum::Json(AuditPage { data, has_more, next_cursor })).into_response())
}
