//! `/api/v1/probe/file` and `/api/v1/probe/url`: submit and wait in one call, as the production checklist writes it.

use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::http::Uri;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::access::Principal;
use shared::job::{Budget, Priority, Profile};
use shared::{Code, Error};
use utoipa::ToSchema;

use super::jobs::outcome::outcome;
use super::jobs::request::{CreateJob, ListQuery};
use super::jobs::source::{OriginHeaders, SourceRequest};
use super::jobs::view::{JobPage, JobView};
use super::jobs::{page_of, submit};
use super::uploads::multipart::boundary;
use super::uploads::protocol::refuse;
use super::uploads::whole::{self, Stored};
use crate::App;
use crate::auth::{JobsRead, JobsWrite, May};
use crate::extract::{AnyTypeJson, Query, object};
use crate::limits::backlog;
use crate::openapi::{FileBytes, ReadProblems, WriteProblems};
use crate::preferences::{Patience, Prefer};
use crate::problem::Result;

/// A file to be probed now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"file_path": "/test/sample.mp4"}))]
pub struct ProbeFile {
    /// Absolute inside a media root, or looked up in each granted root in order (a leading slash is ignored).
    #[schema(max_length = 4095)]
    pub file_path: String,
    /// How deep to look.
    #[serde(default)]
    pub profile: Profile,
    /// Which job goes first.
    #[serde(default)]
    pub priority: Priority,
    /// Your own name for the job, unique in your tenant.
    #[schema(min_length = 1, max_length = 200)]
    pub external_id: Option<String>,
    /// Your own JSON object, given back with the job; at most 16 KiB. Its members may come back in another order, and
    /// numbers beyond 64 bits lose digits.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
}

/// A file sent along, to be probed now.
#[derive(ToSchema)]
pub struct ProbeForm {
    /// The file.
    pub file: FileBytes,
    /// How deep to look.
    #[schema(nullable = false)]
    pub profile: Option<Profile>,
    /// Which job goes first.
    #[schema(nullable = false)]
    pub priority: Option<Priority>,
    /// Your own name for the job, unique in your tenant.
    #[schema(min_length = 1, max_length = 200, nullable = false)]
    pub external_id: Option<String>,
    /// Your own JSON object, as text.
    #[schema(nullable = false, example = "{\"title\": \"Sample\"}")]
    pub metadata: Option<String>,
}

/// Probe a file and wait
///
/// Submits a job and waits up to 25 seconds for it, or as `Prefer` says. A job that failed is an answer like any other: look
/// at `state`.
#[utoipa::path(
    post, path = "/api/v1/probe/file", tag = "probe", operation_id = "probe_file",
    request_body(content((ProbeFile = "application/json"), (ProbeForm = "multipart/form-data")), description = "JSON, whatever the content type says: `curl -d` works as it is. Or a form with the file itself as its part `file`."),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Your word for this request. Repeated with the same body within 24 hours, it makes no second job. Not with a form."),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` (at most 30) in place of the 25 seconds; `respond-async` for an answer at once.", example = "respond-async"),
    ),
    responses(
        (status = 200, description = "The job has ended; if it succeeded, `result` is inside.", body = JobView, headers(("Preference-Applied" = String, description = "What was made of `Prefer`."))),
        (status = 202, description = "The job goes on; follow `Location`.", body = JobView, headers(("Location" = String, description = "The job."), ("Retry-After" = u64, description = "Seconds after which to ask for it."), ("Preference-Applied" = String, description = "What was made of `Prefer`."))),
        (status = 409, description = "The `external_id` is taken (`external_id_taken`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key was used for another request (`idempotency_mismatch`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "The volume for uploads is full.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["jobs:write"]), ("bearer" = ["jobs:write"]))
)]
pub async fn probe_file(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsWrite>,
    prefer: Prefer,
    request: Request,
) -> Result<Response> {
    let patience = prefer.patience(app.limits.probe_wait, app.limits.wait_seconds);
    if boundary(request.headers()).is_some() {
        return probe_form(&app, &who, request, patience).await;
    }
    let AnyTypeJson { value: body, repeatable } = AnyTypeJson::<ProbeFile>::from_request(request, &app).await?;
    let source = SourceRequest::Path { path: body.file_path };
    let ProbeFile { profile, priority, external_id, metadata, .. } = body;
    let request = CreateJob { profile, priority, external_id, metadata, ..CreateJob::of(source) };
    let once = repeatable.of("POST /api/v1/probe/file");
    let submitted = submit(&app, &who, request, once).await.map_err(|p| p.rename("/source/path", "/file_path"))?;
    outcome(&app, &who, &submitted, patience).await
}

/// Uploads the file of a form and probes it.
async fn probe_form(app: &Arc<App>, who: &Principal, request: Request, patience: Patience) -> Result<Response> {
    let (parts, body) = request.into_parts();
    // looked at before the bytes come, and taken when the job does
    if let Err(full) = backlog::take(app, who, 1).await {
        return Ok(refuse(&parts.headers, body, full).await);
    }
    let Stored { upload, fields } = whole::store(app, who, None, &parts.headers, body).await?;
    let mut wish = CreateJob::of(SourceRequest::Upload { id: upload.id });
    for (name, value) in fields {
        let wrong =
            |e: serde_json::Error| Error::new(Code::InvalidValue, format!("The part '{name}' is not understood: {e}."));
        let word = || Value::String(value.clone());
        match name.as_str() {
            "profile" => wish.profile = serde_json::from_value(word()).map_err(wrong)?,
            "priority" => wish.priority = serde_json::from_value(word()).map_err(wrong)?,
            "external_id" => wish.external_id = Some(value),
            "metadata" => wish.metadata = serde_json::from_str(&value).map_err(wrong)?,
            _ => {
                let detail = "The parts of the form are file, profile, priority, external_id and metadata.";
                return Err(Error::new(Code::BadRequest, detail).into());
            }
        }
    }
    let submitted = submit(app, who, wish, None).await?;
    outcome(app, who, &submitted, patience).await
}

/// A URL to be probed now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://media.example.com/holiday.mp4"}))]
pub struct ProbeUrl {
    /// An https URL (http where the operator allows it). User, password and query are kept encrypted and never shown.
    #[schema(max_length = 8192)]
    pub url: String,
    /// Request headers for its origin, such as `Authorization`. Kept encrypted, never shown again.
    #[serde(default)]
    pub headers: OriginHeaders,
    /// How deep to look.
    #[serde(default)]
    pub profile: Profile,
    /// The most it may take; without it, the profile's own limits count.
    #[serde(default, deserialize_with = "object")]
    pub budget: Budget,
    /// Which job goes first.
    #[serde(default)]
    pub priority: Priority,
    /// Your own name for the job, unique in your tenant.
    #[schema(min_length = 1, max_length = 200)]
    pub external_id: Option<String>,
    /// Your own JSON object, given back with the job; at most 16 KiB.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
}

/// Probe a URL and wait
///
/// Submits a job and waits up to 25 seconds for it, or as `Prefer` says. The service fetches parts of the object itself,
/// from public addresses only.
/// A job that failed is an answer like any other: look at `state`.
#[utoipa::path(
    post, path = "/api/v1/probe/url", tag = "probe", operation_id = "probe_url",
    request_body(content = ProbeUrl, description = "JSON, whatever the content type says: `curl -d` works as it is."),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Your word for this request. Repeated with the same body within 24 hours, it makes no second job."),
        ("Prefer" = Option<String>, Header, description = "`wait=SECONDS` (at most 30) in place of the 25 seconds; `respond-async` for an answer at once.", example = "respond-async"),
    ),
    responses(
        (status = 200, description = "The job has ended; if it succeeded, `result` is inside.", body = JobView, headers(("Preference-Applied" = String, description = "What was made of `Prefer`."))),
        (status = 202, description = "The job goes on; follow `Location`.", body = JobView, headers(("Location" = String, description = "The job."), ("Retry-After" = u64, description = "Seconds after which to ask for it."), ("Preference-Applied" = String, description = "What was made of `Prefer`."))),
        (status = 409, description = "The `external_id` is taken (`external_id_taken`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key was used for another request (`idempotency_mismatch`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["jobs:write"]), ("bearer" = ["jobs:write"]))
)]
pub async fn probe_url(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsWrite>,
    prefer: Prefer,
    AnyTypeJson { value: body, repeatable }: AnyTypeJson<ProbeUrl>,
) -> Result<Response> {
    let patience = prefer.patience(app.limits.probe_wait, app.limits.wait_seconds);
    let source = SourceRequest::Url { url: body.url, headers: body.headers };
    let ProbeUrl { profile, budget, priority, external_id, metadata, .. } = body;
    let request = CreateJob { profile, budget, priority, external_id, metadata, ..CreateJob::of(source) };
    let once = repeatable.of("POST /api/v1/probe/url");
    let submitted = submit(&app, &who, request, once).await;
    let submitted = submitted
        .map_err(|p| p.rename("/source/url", "/url").rename("/source/headers", "/headers").rename("/source", "/url"))?;
    outcome(&app, &who, &submitted, patience).await
}

/// List recent file probes
///
/// The caller's jobs whose source is a path, newest first.
#[utoipa::path(
    get, path = "/api/v1/probe/file", tag = "probe", operation_id = "list_file_probes",
    params(ListQuery),
    responses(
        (status = 200, description = "A page of jobs.", body = JobPage, headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last."))),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn list_file_probes(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    uri: Uri,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let filter = query.filter_paths()?;
    page_of(&app, &who, &uri, &filter, &query).await
}
