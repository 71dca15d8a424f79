//! `/api/v1/jobs`: submit, show (and wait), list, result.

pub mod attempts;
pub mod change;
pub mod outcome;
pub mod request;
pub mod results;
pub mod series;
pub mod source;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::response::{AppendHeaders, IntoResponse, Response};
use shared::access::Principal;
use shared::id::JobId;
use shared::job::{Job, JobState};
use shared::lifecycle::Submitted;
use shared::store::idempotency::Request;
use shared::store::job::{After, Filter};
use shared::{Code, Error, lifecycle, store};

use crate::auth::{JobsRead, JobsWrite, May};
use crate::extract::{Id, Json, Query};
use crate::limits::backlog;
use crate::metrics::Submission;
use crate::openapi::{ReadProblems, WriteProblems};
use crate::preferences::{Patience, Prefer};
use crate::problem::Result;
use crate::waiting::wait_for;
use crate::{App, audit, cursor, idempotency, page};
use outcome::outcome;
use request::{CreateJob, Include, ListQuery, ShowQuery};
use results::Results;
use view::{JobPage, JobView, QueuePlace, ResultView};

/// How long a client should wait before it asks again for a job that has not ended, in seconds.
const ASK_AGAIN: &str = "1";
/// What the audit trail calls it when a job is accepted.
const CREATE: &str = "job.create";

/// Submit a job
///
/// Accepts the job and returns at once. Follow `Location`, with `?wait=` to be told of the end; or wait for it here with
/// `Prefer: wait=SECONDS`.
#[utoipa::path(
    post, path = "/api/v1/jobs", tag = "jobs", operation_id = "create_job",
    request_body = CreateJob,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Your word for this request. Repeated with the same body within 24 hours, it gives the same answer and makes no second job."),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` (at most 30): answer when the job has ended, or after that time.", example = "wait=10"),
    ),
    responses(
        (status = 200, description = "The job has ended within the `wait` that was preferred; if it succeeded, `result` is inside.", body = JobView, headers(("Preference-Applied" = String, description = "The `wait` that was kept."))),
        (status = 202, description = "The job was accepted.", body = JobView, headers(("Location" = String, description = "The job."), ("Retry-After" = u64, description = "Seconds after which to ask for it."))),
        (status = 404, description = "There is no such upload.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The `external_id` is taken (`external_id_taken`), the upload is not complete (`upload_incomplete`), or the first request with this Idempotency-Key is still in progress (`idempotency_in_progress`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key was used for another request (`idempotency_mismatch`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["jobs:write"]), ("bearer" = ["jobs:write"]))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsWrite>,
    prefer: Prefer,
    Json { value, repeatable }: Json<CreateJob>,
) -> Result<Response> {
    let patience = prefer.patience(Duration::ZERO, app.limits.wait_seconds);
    let submitted = submit(&app, &who, value, repeatable.of("POST /api/v1/jobs")).await?;
    if !patience.wait.is_zero() {
        return outcome(&app, &who, &submitted, patience).await;
    }
    Ok(patience.mark(match submitted {
        Submitted::New(job) => accepted(&app, JobView::new(*job, None)),
        Submitted::Repeated(kept) => {
            let location = format!("{}/api/v1/jobs/{}", app.base_url, kept.made);
            let again = idempotency::again(StatusCode::ACCEPTED, location, kept);
            (AppendHeaders([(RETRY_AFTER, ASK_AGAIN)]), again).into_response()
        }
    }))
}

/// Stores the job and tells a worker. A request that may be repeated makes one job, however often it comes.
pub async fn submit(app: &Arc<App>, who: &Principal, body: CreateJob, request: Option<Request>) -> Result<Submitted> {
    let mut new = body.check(who, app)?;
    audit::detail("profile", new.profile.as_str());
    audit::detail("source", new.source.kind());
    new.audit = audit::event(CREATE, StatusCode::ACCEPTED.as_u16());
    let _places = backlog::take_once(app, who, 1, request.as_ref()).await?;
    let submitted = match request {
        None => Submitted::New(Box::new(lifecycle::submit(&app.db, &new).await?)),
        Some(request) => {
            let answer = |job: &Job| idempotency::keep(&JobView::new(job.clone(), None));
            lifecycle::submit_once(&app.db, &new, &request, answer).await?
        }
    };
    match &submitted {
        Submitted::New(_) => audit::kept(CREATE),
        Submitted::Repeated(kept) => {
            audit::target("job", kept.made);
            audit::detail("repeated", true);
        }
    }
    if let Submitted::New(job) = &submitted {
        app.metrics.submitted.get_or_create(&Submission { profile: job.profile.as_str() }).inc();
        tracing::info!(job.id = %job.id, profile = job.profile.as_str(), "job accepted");
        app.dispatch(job.lane, job.id);
    }
    Ok(submitted)
}

/// 202 with the job and where to ask for it.
pub fn accepted(app: &App, view: JobView) -> Response {
    let location = format!("{}/api/v1/jobs/{}", app.base_url, view.id);
    let headers = AppendHeaders([(LOCATION, location), (RETRY_AFTER, ASK_AGAIN.to_owned())]);
    (StatusCode::ACCEPTED, headers, axum::Json(view)).into_response()
}

/// Show a job
///
/// With `wait`, the answer comes when the job has ended or the seconds are over, whichever is first; `Prefer: wait=SECONDS`
/// does the same.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}", tag = "jobs", operation_id = "show_job",
    params(
        ("id" = JobId, Path, description = "The job."), ShowQuery,
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS`, at most 30; the query's `wait` goes first.", example = "wait=10"),
    ),
    responses(
        (status = 200, description = "The job.", body = JobView, headers(("Retry-After" = u64, description = "Seconds after which to ask again; absent once the job has ended."), ("Preference-Applied" = String, description = "The `wait` that was kept, if one was preferred."))),
        (status = 404, description = "There is no such job.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn show(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    prefer: Prefer,
    Id(id): Id<JobId>,
    Query(query): Query<ShowQuery>,
) -> Result<Response> {
    let asked = query.wait(app.limits.wait_seconds)?.map(Patience::exactly);
    let patience = asked.unwrap_or_else(|| prefer.patience(Duration::ZERO, app.limits.wait_seconds));
    let job = wait_for(&app, &who, id, patience.wait).await?;
    let ended = job.state.is_terminal();
    let result = match job.state {
        JobState::Succeeded if query.include == Some(Include::Result) => {
            store::result::find(&app.db, who.tenant, id).await?
        }
        _ => None,
    };
    if result.is_some() {
        audit::action("result.read");
    }
    let mut view = JobView::new(job, result);
    // those who wait are all let go at a stop, and would ask for it at once
    if view.state == JobState::Queued && !app.draining.is_cancelled() {
        match store::job::dispatch::place(&app.db, id).await {
            Ok(place) => view.queue = place.map(QueuePlace::from),
            // it may take longer than the job itself did, which is told all the same
            Err(error) => tracing::warn!(%error, job.id = %id, "a job is shown without its place in the queue"),
        }
    }
    let ask_again = (!ended).then_some((RETRY_AFTER, ASK_AGAIN));
    Ok(patience.mark((AppendHeaders(ask_again), axum::Json(view)).into_response()))
}

/// List jobs
///
/// Newest first. Follow `next_cursor` (or the `Link` header) for older ones; it is null on the last page.
#[utoipa::path(
    get, path = "/api/v1/jobs", tag = "jobs", operation_id = "list_jobs",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of jobs.", body = JobPage, headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last."))),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    uri: axum::http::Uri,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let filter = query.filter()?;
    page_of(&app, &who, &uri, &filter, &query).await
}

/// One page of the tenant's jobs, with the address of the next.
pub async fn page_of(
    app: &App,
    who: &Principal,
    uri: &axum::http::Uri,
    filter: &Filter,
    query: &ListQuery,
) -> Result<Response> {
    let cursors = cursor::List::new(app, who, "jobs", filter);
    let with_results = query.include == Some(Include::Result);
    let most = if with_results { app.limits.page_with_results } else { app.limits.page };
    let mut limit = query.limit(app.limits.page)?.min(most);
    let after = query.cursor.as_deref().map(|c| cursors.decode(c)).transpose()?;
    // one more than asked for tells whether there is a next page
    let mut jobs = store::job::list(&app.db, who.tenant, filter, after, limit + 1).await?;
    let mut results = None;
    if with_results {
        let shown = jobs.iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
        let read = Results::of(&app.db, who.tenant, shown).await?;
        limit = limit.min(i64::try_from(read.fit).unwrap_or(limit));
        results = Some(read);
    }
    let place = |job: &Job| After { created_at: job.created_at, id: job.id };
    let next_cursor = page::cut(&mut jobs, limit, &cursors, place);
    let data = jobs.into_iter().map(|job| {
        let result = results.as_mut().and_then(|results| results.take(job.id));
        JobView::new(job, result)
    });
    let data = data.collect();
    let next = next_cursor.as_deref().and_then(|c| cursor::link(app, uri, c));
    Ok((AppendHeaders(next), axum::Json(JobPage { data, has_more: next_cursor.is_some(), next_cursor }))
        .into_response())
}

/// Show a job's result
///
/// The normalised `media`, ffprobe's own JSON, and how they came about.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/result", tag = "jobs", operation_id = "show_job_result",
    params(("id" = JobId, Path, description = "The job.")),
    responses(
        (status = 200, description = "The result.", body = ResultView),
        (status = 404, description = "There is no such job.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The job has not ended (`result_not_ready`), or it ended without a result (`no_result`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn show_result(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    Id(id): Id<JobId>,
) -> Result<axum::Json<ResultView>> {
    let job = store::job::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("job"))?;
    if let Some(result) = store::result::find(&app.db, who.tenant, id).await? {
        return Ok(axum::Json(result.into()));
    }
    Err(if job.state.is_terminal() {
        let why = job.failure.map_or_else(String::new, |f| format!(" ({}: {})", f.code.as_str(), f.message));
        Error::new(
            Code::NoResult,
            format!("The job ended as {}{why}, so it has no result. GET the job for its failure.", job.state.as_str()),
        )
    } else {
        Error::new(
            Code::ResultNotReady,
            format!(
                "The job is {}. Wait for its end with GET /api/v1/jobs/{id}?wait=30, then ask again.",
                job.state.as_str()
            ),
        )
    }
    .into())
}
