//! `/api/v1/jobs/{id}/attempts`: what happened each time a job was run.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::id::JobId;
use shared::job::Failure;
use shared::store::attempt::{Attempt, Outcome};
use shared::{Error, store};
use utoipa::ToSchema;

use crate::App;
use crate::auth::{JobsRead, May};
use crate::extract::Id;
use crate::openapi::ReadProblems;
use crate::problem::{ProblemBody, Result};

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

/// The runs of a job.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptList {
    /// In order.
    pub data: Vec<AttemptView>,
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
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/attempts", tag = "jobs", operation_id = "list_job_attempts",
    params(("id" = JobId, Path, description = "The job.")),
    responses(
        (status = 200, description = "The attempts, in order.", body = AttemptList),
        (status = 404, description = "There is no such job.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    Id(id): Id<JobId>,
) -> Result<axum::Json<AttemptList>> {
    store::job::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("job"))?;
    let attempts = store::attempt::list(&app.db, id).await?;
    Ok(axum::Json(AttemptList { data: attempts.into_iter().map(AttemptView::from).collect() }))
}
