//! `/api/v1/jobs/{id}/attempts`: what happened each time a job was run.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::response::{AppendHeaders, IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::id::JobId;
use shared::job::Failure;
use shared::store::attempt::{Attempt, Outcome};
use shared::{Error, store};
use utoipa::ToSchema;

use super::request::PageQuery;
use crate::auth::{JobsRead, May};
use crate::extract::{Id, Query};
use crate::openapi::ReadProblems;
use crate::problem::{ProblemBody, Result};
use crate::{App, cursor};

/// One run of a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptView {
    /// From 1.
    pub number: i16,
    /// Host and process id of the worker.
    pub worker: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; null while it runs.
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended; null while it runs. `lost`: the worker fell silent. `released`: the worker stopped and handed the
    /// job back; such an attempt does not count.
    pub outcome: Option<Outcome>,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The end of what ffprobe wrote to its standard error.
    pub stderr_tail: Option<String>,
}

/// A page of a job's runs.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptPage {
    /// The runs, the first one first.
    pub data: Vec<AttemptView>,
    /// Whether there are later ones.
    pub has_more: bool,
    /// For the next page; null on the last.
    pub next_cursor: Option<String>,
}

impl From<Attempt> for AttemptView {
    fn from(a: Attempt) -> Self {
        Self {
            number: a.number,
            worker: a.worker_name,
            started_at: a.started_at,
            ended_at: a.ended_at,
            outcome: a.outcome,
            failure: a.failure.map(|f| f.0),
            stderr_tail: a.stderr_tail,
        }
    }
}

/// List a job's attempts
///
/// The first one first. Retries by hand add to them without end, so there are pages.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/attempts", tag = "jobs", operation_id = "list_job_attempts",
    params(("id" = JobId, Path, description = "The job."), PageQuery),
    responses(
        (status = 200, description = "A page of attempts.", body = AttemptPage, headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last."))),
        (status = 404, description = "There is no such job.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    Id(id): Id<JobId>,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Response> {
    let limit = query.limit(app.limits.page)?;
    let cursors = cursor::List::new(&app, &who, "attempts", &id);
    let after = query.cursor.as_deref().map(|c| cursors.decode::<i16>(c)).transpose()?.unwrap_or(0);
    store::job::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("job"))?;
    // one more than asked for tells whether there is a next page
    let mut attempts = store::attempt::list(&app.db, id, after, limit + 1).await?;
    let has_more = attempts.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    attempts.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let next_cursor = attempts.last().filter(|_| has_more).map(|last| cursors.encode(&last.number));
    let next = next_cursor.as_deref().and_then(|c| cursor::link(&app, &uri, c));
    let data = attempts.into_iter().map(AttemptView::from).collect();
    Ok((AppendHeaders(next), axum::Json(AttemptPage { data, has_more, next_cursor })).into_response())
}
