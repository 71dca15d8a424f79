//! `/api/v1/batches`: many jobs handed in at once, followed, canceled, run again and read as one.

pub mod export;
pub mod lines;
pub mod request;
pub mod spool;
pub mod view;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use sha2::{Digest, Sha256};
use shared::access::Principal;
use shared::batch::{Batch, NewBatch};
use shared::id::{BatchId, JobId};
use shared::lifecycle::batch::{self, Submission, Submitted};
use shared::queue::Bell;
use shared::store::batch::After;
use shared::{Code, Error, store};

use self::lines::Lines;
use self::request::{CreateBatch, CreateQuery, ResultsQuery, RetryBatch};
use self::spool::{Spool, Spooled};
use self::view::{BatchCanceled, BatchPage, BatchRetried, BatchView};
use super::jobs::request::PageQuery;
use crate::auth::{JobsRead, JobsWrite, May};
use crate::export::Format;
use crate::extract::{Id, Json, Query, read_object};
use crate::idempotency::Repeatable;
use crate::limits::backlog;
use crate::openapi::{ReadProblems, WriteProblems};
use crate::problem::{ProblemBody, Result};
use crate::{App, audit, cursor, idempotency, metrics, page};

/// What the audit trail calls it when a batch is accepted.
const CREATE: &str = "batch.create";
/// How long a client should wait before it asks again for a batch that goes on, in seconds.
const ASK_AGAIN: &str = "2";

/// Submit a batch of jobs
///
/// Accepts up to 10,000 jobs, all of them or none. As `application/x-ndjson`, one job a line, it is taken in as a stream of up
/// to 64 MiB; as one JSON object it has at most 4 MiB. Each job is as in `POST /api/v1/jobs`.
#[utoipa::path(
    post, path = "/api/v1/batches", tag = "batches", operation_id = "create_batch",
    request_body(content((CreateBatch = "application/json"), (String = "application/x-ndjson", example = json!("{\"source\": {\"type\": \"path\", \"path\": \"/test/a.mp4\"}}\n{\"source\": {\"type\": \"path\", \"path\": \"/test/b.mp4\"}}\n")))),
    params(
        CreateQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "Your word for this request. Repeated with the same body within 24 hours, it gives the same answer and makes no second batch."),
    ),
    responses(
        (status = 202, description = "The batch was accepted.", body = BatchView, headers(("Location" = String, description = "The batch."), ("Retry-After" = u64, description = "Seconds after which to ask for it."))),
        (status = 404, description = "There is no such upload.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "An `external_id` is taken (`external_id_taken`), an upload is not complete (`upload_incomplete`), or the first request with this Idempotency-Key is still in progress (`idempotency_in_progress`).", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key was used for another request (`idempotency_mismatch`).", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["jobs:write"]), ("bearer" = ["jobs:write"]))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsWrite>,
    Query(query): Query<CreateQuery>,
    request: Request,
) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let Taken { jobs, new, repeatable } = take_in(&app, &who, query, &parts, body).await?;
    let request = repeatable.of("POST /api/v1/batches");
    let _places =
        backlog::take_once(&app, &who, u32::try_from(jobs.count).unwrap_or(u32::MAX), request.as_ref()).await?;
    audit::detail("jobs", jobs.count);
    let submission =
        Submission { tenant: who.tenant, new, request, audit: audit::event(CREATE, StatusCode::ACCEPTED.as_u16()) };
    let answer = |batch: &Batch| idempotency::keep(&BatchView::from(batch.clone()));
    let at = |id: BatchId| format!("{}/api/v1/batches/{id}", app.base_url);
    let profiles = jobs.profiles.clone();
    let response = match batch::submit(&app.db, submission, jobs.chunks(), answer).await? {
        Submitted::New(batch) => {
            audit::kept(CREATE);
            for (profile, count) in profiles {
                app.metrics.submitted.get_or_create(&metrics::Submission { profile: profile.as_str() }).inc_by(count);
            }
            tracing::info!(batch.id = %batch.id, jobs = batch.total, "batch accepted");
            app.ring(Bell::Wake).await;
            idempotency::first(StatusCode::ACCEPTED, at(batch.id), &BatchView::from(*batch))
        }
        Submitted::Repeated(kept) => {
            audit::target("batch", kept.made);
            audit::detail("repeated", true);
            idempotency::again(StatusCode::ACCEPTED, at(BatchId(kept.made)), kept)
        }
    };
    Ok((AppendHeaders([(RETRY_AFTER, ASK_AGAIN)]), response).into_response())
}

/// A batch that is all there.
struct Taken {
    jobs: Spooled,
    new: NewBatch,
    repeatable: Repeatable,
}

/// Reads and checks the whole body, whichever of the two it is.
async fn take_in(app: &App, who: &Principal, query: CreateQuery, parts: &Parts, body: Body) -> shared::Result<Taken> {
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut spool = Spool::new(app.limits.batch_jobs, &app.spool_room).await?;
    match essence.as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            let mut lines = Lines::new(body, app.limits.batch_bytes, app.limits.body_bytes);
            while let Some(line) = lines.next().await? {
                spool.add(request::job(line).and_then(|job| job.check(who, app))).await?;
            }
            // the name is no part of the body, and makes another batch
            let mut fingerprint = lines.digest();
            if let Some(name) = &query.external_id {
                fingerprint = Sha256::new().chain_update(fingerprint).chain_update(name).finalize().into();
            }
            let repeatable = Repeatable::of_digest(&parts.headers, fingerprint)?;
            let jobs = spool.finish().await?;
            let new = request::check(app, query.external_id, serde_json::Map::new(), jobs.count, None)?;
            Ok(Taken { jobs, new, repeatable })
        }
        "application/json" => {
            if query.external_id.is_some() {
                let detail = "The query's external_id names a batch of lines; in a JSON object it is a member.";
                return Err(Error::new(Code::BadRequest, detail));
            }
            let bytes = whole(body, app.limits.batch_json_bytes).await?;
            let CreateBatch { jobs, external_id, metadata, webhook } = read_object(&bytes)?;
            let webhook = webhook.map(|webhook| webhook.check(who, app)).transpose()?;
            let repeatable = Repeatable::read(&parts.headers, &bytes)?;
            drop(bytes);
            for job in jobs {
                spool.add(request::job(job.get().as_bytes()).and_then(|job| job.check(who, app))).await?;
            }
            let jobs = spool.finish().await?;
            let new = request::check(app, external_id, metadata, jobs.count, webhook)?;
            Ok(Taken { jobs, new, repeatable })
        }
        _ => {
            let detail = format!(
                "The body must be JSON or lines of it, but its content type is '{essence}'. Send the header Content-Type: \
                 application/x-ndjson with one job a line, or application/json."
            );
            Err(Error::new(Code::UnsupportedMediaType, detail))
        }
    }
}

async fn whole(body: Body, most: usize) -> shared::Result<axum::body::Bytes> {
    let read = Limited::new(body, most).collect().await;
    read.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<LengthLimitError>() {
            let detail = format!(
                "The body has more than {most} bytes. Send lines, with Content-Type: application/x-ndjson, or several batches."
            );
            Error::new(Code::TooLarge, detail)
        } else {
            Error::new(Code::IncompleteBody, format!("The body could not be read: {error}."))
        }
    })
}

/// List batches
///
/// Newest first. Follow `next_cursor` (or the `Link` header) for older ones; it is null on the last page.
#[utoipa::path(
    get, path = "/api/v1/batches", tag = "batches", operation_id = "list_batches",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of batches.", body = BatchPage, headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last."))),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Response> {
    let limit = query.limit(app.limits.page)?;
    let cursors = cursor::List::new(&app, &who, "batches", &());
    let after = query.cursor.as_deref().map(|c| cursors.decode(c)).transpose()?;
    let mut batches = store::batch::list(&app.db, who.tenant, after, limit + 1).await?;
    let place = |batch: &Batch| After { created_at: batch.created_at, id: batch.id };
    let next_cursor = page::cut(&mut batches, limit, &cursors, place);
    let next = next_cursor.as_deref().and_then(|c| cursor::link(&app, &uri, c));
    let data = batches.into_iter().map(BatchView::from).collect();
    Ok((AppendHeaders(next), axum::Json(BatchPage { data, has_more: next_cursor.is_some(), next_cursor }))
        .into_response())
}

/// Show a batch
///
/// How its jobs stand. List them with `GET /api/v1/jobs?batch_id=`.
#[utoipa::path(
    get, path = "/api/v1/batches/{id}", tag = "batches", operation_id = "show_batch",
    params(("id" = BatchId, Path, description = "The batch.")),
    responses(
        (status = 200, description = "The batch.", body = BatchView, headers(("Retry-After" = u64, description = "Seconds after which to ask again; absent once it is completed."))),
        (status = 404, description = "There is no such batch.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn show(State(app): State<Arc<App>>, May(who, _): May<JobsRead>, Id(id): Id<BatchId>) -> Result<Response> {
    let batch = batch::find(&app.db, who.tenant, id).await?;
    let ask_again = batch.completed_at.is_none().then_some((RETRY_AFTER, ASK_AGAIN));
    Ok((AppendHeaders(ask_again), axum::Json(BatchView::from(batch))).into_response())
}

/// Read a batch's results
///
/// Its jobs in their order, as one stream: NDJSON, each line a job with its result inside, or CSV with the main facts of each.
/// Jobs that have not ended are shown as they stand. A stream that breaks off early is not complete.
#[utoipa::path(
    get, path = "/api/v1/batches/{id}/results", tag = "batches", operation_id = "read_batch_results",
    params(("id" = BatchId, Path, description = "The batch."), ResultsQuery),
    responses(
        (status = 200, description = "The jobs with their results.", content((String = "application/x-ndjson", example = json!("{\"id\": \"01989aa0-0000-7000-8000-000000000001\", \"state\": \"succeeded\"}\n")), (String = "text/csv", example = json!("number,job_id\r\n")))),
        (status = 404, description = "There is no such batch.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn results(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    Id(id): Id<BatchId>,
    headers: HeaderMap,
    Query(query): Query<ResultsQuery>,
) -> Result<Response> {
    batch::find(&app.db, who.tenant, id).await?;
    let format = query.format.or_else(|| Format::of_accept(&headers)).unwrap_or(Format::Ndjson);
    Ok(export::stream(&app, who.tenant, id, format)?)
}

/// Cancel a batch
///
/// Cancels its jobs that wait, and asks the workers of those that run to stop. Jobs that have ended stay as they are.
#[utoipa::path(
    post, path = "/api/v1/batches/{id}/cancel", tag = "batches", operation_id = "cancel_batch",
    params(("id" = BatchId, Path, description = "The batch.")),
    responses(
        (status = 200, description = "What was canceled.", body = BatchCanceled),
        (status = 404, description = "There is no such batch.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:write"]), ("bearer" = ["jobs:write"]))
)]
pub async fn cancel(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsWrite>,
    Id(id): Id<BatchId>,
) -> Result<axum::Json<BatchCanceled>> {
    let jobs = batch::cancel(&app.db, who.tenant, id).await?;
    let view = BatchCanceled { canceled: jobs.done.len(), requested: jobs.requested.len() };
    tracing::info!(batch.id = %id, canceled = view.canceled, requested = view.requested, "batch canceled");
    audit::detail("jobs", view.canceled + view.requested);
    tell(&app, jobs.requested.into_iter().map(Bell::Cancel).chain(jobs.done.into_iter().map(Bell::Done)).collect());
    Ok(axum::Json(view))
}

/// Run the failed jobs of a batch again
///
/// Queues them again with new attempts; the batch is `running` again, and its end is told once more.
#[utoipa::path(
    post, path = "/api/v1/batches/{id}/retry", tag = "batches", operation_id = "retry_batch",
    params(("id" = BatchId, Path, description = "The batch.")),
    request_body = RetryBatch,
    responses(
        (status = 200, description = "How many jobs were queued again.", body = BatchRetried),
        (status = 404, description = "There is no such batch.", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["jobs:write"]), ("bearer" = ["jobs:write"]))
)]
pub async fn retry(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsWrite>,
    Id(id): Id<BatchId>,
    Json { value, .. }: Json<RetryBatch>,
) -> Result<axum::Json<BatchRetried>> {
    batch::find(&app.db, who.tenant, id).await?;
    let failed = store::job::bulk::count_failed(&app.db, id, value.failure_code).await?;
    let _places = backlog::take(&app, &who, u32::try_from(failed).unwrap_or(u32::MAX)).await?;
    let attempts = app.limits.max_attempts;
    let jobs: Vec<JobId> = batch::retry(&app.db, who.tenant, id, value.failure_code, attempts).await?;
    tracing::info!(batch.id = %id, jobs = jobs.len(), "failed jobs queued again by hand");
    audit::detail("jobs", jobs.len());
    app.ring(Bell::Wake).await;
    Ok(axum::Json(BatchRetried { count: jobs.len() }))
}

/// Rings after the answer, until one bell is not heard: whoever waits looks once a second anyway.
fn tell(app: &Arc<App>, bells: Vec<Bell>) {
    let app = Arc::clone(app);
    let ringing = app.background.clone();
    ringing.spawn(async move {
        for bell in bells {
            if app.queue.ring(bell).await.is_err() {
                return;
            }
        }
    });
}
