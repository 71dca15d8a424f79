//! What a client may do to a job that exists: cancel it, run it again, erase it.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::access::Principal;
use shared::id::JobId;
use shared::job::{FailureCode, Job, Profile};
use shared::lifecycle::Cancel;
use shared::queue::Bell;
use shared::store::job::Filter;
use shared::{Code, Error, lifecycle, store};
use utoipa::ToSchema;

use super::accepted;
use super::view::JobView;
use crate::auth::{JobsWrite, May};
use crate::extract::{Id, Json};
use crate::instant::check_instant;
use crate::limits::backlog;
use crate::openapi::{ReadProblems, WriteProblems};
use crate::problem::{ProblemBody, Result};
use crate::{App, audit};

/// Cancel a job
///
/// A queued job is canceled at once (200). A running one is asked to stop (202); follow it to its end.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", operation_id = "cancel_job",
    params(("id" = JobId, Path, description = "The job.")),
    responses(
        (status = 200, description = "The job is canceled.", body = JobView),
        (status = 202, description = "The job runs; its worker was asked to stop.", body = JobView),
        (status = 404, description = "There is no such job.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The job has ended already (`job_ended`).", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:write"]), ("bearer" = ["jobs:write"]))
)]
pub async fn cancel(State(app): State<Arc<App>>, May(who, _): May<JobsWrite>, Id(id): Id<JobId>) -> Result<Response> {
    let done = lifecycle::cancel(&app.db, who.tenant, id).await?;
    tracing::info!(job.id = %id, ?done, "cancel");
    app.ring(match done {
        Cancel::Done => Bell::Done(id),
        Cancel::Requested => Bell::Cancel(id),
    })
    .await;
    let view = JobView::new(find(&app, &who, id).await?, None);
    Ok(match done {
        Cancel::Done => axum::Json(view).into_response(),
        Cancel::Requested => accepted(&app, view),
    })
}

/// Run a job again
///
/// Queues a failed or canceled job again, with as many new attempts as a new job has.
#[utoipa::path(
    post, path = "/api/v1/jobs/{id}/retry", tag = "jobs", operation_id = "retry_job",
    params(("id" = JobId, Path, description = "The job.")),
    responses(
        (status = 202, description = "The job is queued again.", body = JobView),
        (status = 404, description = "There is no such job.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The job neither failed nor was canceled (`not_retryable`).", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:write"]), ("bearer" = ["jobs:write"]))
)]
pub async fn retry(State(app): State<Arc<App>>, May(who, _): May<JobsWrite>, Id(id): Id<JobId>) -> Result<Response> {
    let _places = backlog::take(&app, &who, 1).await?;
    lifecycle::retry(&app.db, who.tenant, id, app.limits.max_attempts).await?;
    let job = find(&app, &who, id).await?;
    tracing::info!(job.id = %id, "queued again by hand");
    app.dispatch(job.lane, id);
    Ok(accepted(&app, JobView::new(job, None)))
}

/// Which failed jobs to run again. All that is given must hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"failure_code": "storage_error", "limit": 500}))]
pub struct RetryFailed {
    /// Only jobs that failed for this reason.
    pub failure_code: Option<FailureCode>,
    /// Only jobs with this profile.
    pub profile: Option<Profile>,
    /// Only jobs created at this instant (RFC 3339) or later.
    pub created_from: Option<DateTime<Utc>>,
    /// Only jobs created before this instant (RFC 3339).
    pub created_before: Option<DateTime<Utc>>,
    /// Most jobs; the oldest first.
    #[schema(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<i64>,
}

/// Jobs that were queued again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Retried {
    /// How many.
    pub count: usize,
    /// Which.
    pub jobs: Vec<JobId>,
}

/// Run failed jobs again
///
/// Queues failed jobs again that pass the filter. Repeat while `count` equals `limit`.
#[utoipa::path(
    post, path = "/api/v1/jobs/retry", tag = "jobs", operation_id = "retry_failed_jobs",
    request_body = RetryFailed,
    responses((status = 200, description = "The jobs that were queued again.", body = Retried), WriteProblems),
    security(("api_key" = ["jobs:write"]), ("bearer" = ["jobs:write"]))
)]
pub async fn retry_failed(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsWrite>,
    Json { value: body, .. }: Json<RetryFailed>,
) -> Result<axum::Json<Retried>> {
    let limit = body.limit.unwrap_or(100);
    if !(1..=app.limits.bulk).contains(&limit) {
        let detail = format!("limit={limit} is out of range; here it is 1 to {}.", app.limits.bulk);
        return Err(Error::new(Code::InvalidValue, detail).at("/limit").into());
    }
    for (at, pointer) in [(body.created_from, "/created_from"), (body.created_before, "/created_before")] {
        at.map_or(Ok(()), check_instant).map_err(|e| e.at(pointer))?;
    }
    let filter = Filter {
        profile: body.profile,
        created_from: body.created_from,
        created_before: body.created_before,
        ..Filter::default()
    };
    let attempts = app.limits.max_attempts;
    let _places = backlog::take(&app, &who, u32::try_from(limit).unwrap_or(u32::MAX)).await?;
    let jobs = lifecycle::retry_failed(&app.db, who.tenant, &filter, body.failure_code, attempts, limit).await?;
    tracing::info!(jobs = jobs.len(), "queued again by hand");
    audit::detail("jobs", jobs.len());
    app.ring(Bell::Wake).await;
    Ok(axum::Json(Retried { count: jobs.len(), jobs }))
}

/// Erase a job
///
/// Erases the job, its attempts and its result; its upload, too, unless another job uses it. A running job must be
/// canceled first.
#[utoipa::path(
    delete, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "delete_job",
    params(("id" = JobId, Path, description = "The job.")),
    responses(
        (status = 204, description = "The job is erased."),
        (status = 404, description = "There is no such job.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The job is running (`job_running`).", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:write"]), ("bearer" = ["jobs:write"]))
)]
pub async fn remove(State(app): State<Arc<App>>, May(who, _): May<JobsWrite>, Id(id): Id<JobId>) -> Result<StatusCode> {
    if let Some(upload) = lifecycle::delete(&app.db, who.tenant, id).await? {
        app.storage.remove(upload).await?;
        tracing::info!(upload.id = %upload, "upload erased with its last job");
    }
    tracing::info!(job.id = %id, "job erased");
    // whoever waits for it is told that it is gone
    app.ring(Bell::Done(id)).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(app: &App, who: &Principal, id: JobId) -> std::result::Result<Job, Error> {
    store::job::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("job"))
}
