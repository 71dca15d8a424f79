//! `/api/v1/uploads`: media in one request or in many. A request that speaks tus (1.0.0) creates, continues, looks at or
//! erases a resumable upload; any other body is a whole file. Memory does not grow with the body.
//!
//! The order of the checks decides which refusal wins: rights, version, content type, form, existence, hold, offset, limits.

pub mod address;
pub mod append;
pub mod create;
pub mod multipart;
pub mod protocol;
pub mod view;
pub mod whole;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::id::UploadId;
use shared::lifecycle::upload::gone;
use shared::upload::{PATH, UploadState, is_tus, require_version};
use shared::{Code, Error, lifecycle, store};

use crate::App;
use crate::auth::{May, UploadsRead, UploadsWrite};
use crate::extract::{Id, Query};
use crate::hold::{Hold, Taken, settled};
use crate::openapi::{FileBytes, ReadProblems, WriteProblems};
use crate::problem::{Problem, Result};
use protocol::{Facts, refuse};
use view::{Meant, TusVersion, UploadForm, UploadQuery, UploadView};

/// Whether the request belongs to an upload: its body may take hours, and watches its own pace.
pub fn is_upload(request: &Request) -> bool {
    let path = request.uri().path();
    let probe = request.method() == Method::POST && path == "/api/v1/probe/file";
    path == PATH
        || path.strip_prefix(PATH).is_some_and(|rest| rest.starts_with('/'))
        || (probe && multipart::boundary(request.headers()).is_some())
}

/// Upload a file
///
/// Without tus headers the body is the file: `curl --data-binary @holiday.mp4 …/api/v1/uploads?filename=holiday.mp4`, or a
/// form with a part `file`. With them (`Tus-Resumable: 1.0.0`, `Upload-Length` or `Upload-Defer-Length`, `Upload-Metadata`,
/// `Upload-Concat`) it creates a resumable upload, and a body of type `application/offset+octet-stream` is its beginning.
#[utoipa::path(
    post, path = "/api/v1/uploads", tag = "uploads", operation_id = "create_upload",
    params(UploadQuery),
    request_body(content((FileBytes = "application/octet-stream"), (UploadForm = "multipart/form-data")), description = "The bytes of the file, of any content type, or a form with it."),
    responses(
        (status = 201, description = "The upload exists; without tus headers, all bytes are stored.", body = UploadView, headers(("Location" = String, description = "The upload."), ("Upload-Offset" = u64, description = "Bytes stored, if the request had a body."))),
        (status = 404, description = "A part does not exist.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "This version of tus is not spoken.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 460, description = "The bytes do not have the digest that was announced.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "The volume for uploads is full.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["uploads:write"]), ("bearer" = ["uploads:write"]))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    May(who, _): May<UploadsWrite>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    if is_tus(&headers) {
        return Ok(create::create(&app, &who, &headers, body).await);
    }
    let upload = whole::store(&app, &who, query.filename.as_deref(), &headers, body).await?.upload;
    Ok(whole::created(&app, &headers, upload))
}

/// Show an upload
///
/// Does not disturb a request that is sending bytes; `received_bytes` is what is durable by now.
#[utoipa::path(
    get, path = "/api/v1/uploads/{id}", tag = "uploads", operation_id = "show_upload",
    params(("id" = UploadId, Path, description = "The upload.")),
    responses(
        (status = 200, description = "The upload.", body = UploadView),
        (status = 404, description = "There is no such upload.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "The upload is gone.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["uploads:read"]), ("bearer" = ["uploads:read"]))
)]
pub async fn show(
    State(app): State<Arc<App>>,
    May(who, _): May<UploadsRead>,
    Id(id): Id<UploadId>,
) -> Result<axum::Json<UploadView>> {
    let upload = store::in_time(store::upload::find(&app.db, who.tenant, id))
        .await?
        .ok_or_else(|| Error::not_found("upload"))?;
    if upload.state.is_gone() {
        return Err(gone(upload.state).into());
    }
    Ok(axum::Json(upload.into()))
}

/// Where an upload stands (tus)
///
/// A request that is sending bytes for it is asked to store them and end, so that the offset is true.
#[utoipa::path(
    head, path = "/api/v1/uploads/{id}", tag = "uploads", operation_id = "head_upload",
    params(("id" = UploadId, Path, description = "The upload."), ("Tus-Resumable" = inline(TusVersion), Header, description = "The version of the protocol.")),
    responses(
        (status = 200, description = "The upload's headers.", headers(("Upload-Offset" = u64, description = "Bytes stored."), ("Upload-Length" = u64, description = "Bytes of the whole."))),
        (status = 404, description = "There is no such upload."),
        (status = 410, description = "The upload is gone."),
        (status = 412, description = "This version of tus is not spoken."),
        (status = 423, description = "Another request does not let go of it."),
        ReadProblems,
    ),
    security(("api_key" = ["uploads:write"]), ("bearer" = ["uploads:write"]))
)]
pub async fn head(
    State(app): State<Arc<App>>,
    May(who, _): May<UploadsWrite>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response> {
    require_version(&headers)?;
    let upload = settled(&app, who.tenant, parse(&id)?).await?;
    let mut facts = Facts::of(&upload);
    if upload.state == UploadState::Receiving {
        facts.offset = app.storage.stored(upload.id, upload.offset()).await?;
    }
    Ok(facts.whole(StatusCode::OK))
}

/// Continue an upload (tus)
#[utoipa::path(
    patch, path = "/api/v1/uploads/{id}", tag = "uploads", operation_id = "append_upload",
    params(
        ("id" = UploadId, Path, description = "The upload."),
        ("Tus-Resumable" = inline(TusVersion), Header, description = "The version of the protocol."),
        ("Upload-Offset" = u64, Header, description = "Bytes already stored."),
        ("Upload-Checksum" = Option<String>, Header, pattern = "^(sha1|sha256|md5|crc32) [A-Za-z0-9+/]+={0,2}$", description = "Algorithm and base64 digest of the body."),
    ),
    request_body(content = FileBytes, content_type = "application/offset+octet-stream", description = "The next bytes."),
    responses(
        (status = 204, description = "They are stored.", headers(("Upload-Offset" = u64, description = "Bytes stored."))),
        (status = 404, description = "There is no such upload.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The offset does not fit (`offset_mismatch`); the answer carries the right one.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "The upload is gone.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "This version of tus is not spoken.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 423, description = "Another request does not let go of it.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 460, description = "The bytes do not have the digest that was announced.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "The volume for uploads is full.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["uploads:write"]), ("bearer" = ["uploads:write"]))
)]
pub async fn append(
    State(app): State<Arc<App>>,
    May(who, _): May<UploadsWrite>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    append::append(&app, &who, &id, &headers, body).await
}

/// Erase an upload (tus)
///
/// One that is unfinished, or one that no job waits for or runs on.
#[utoipa::path(
    delete, path = "/api/v1/uploads/{id}", tag = "uploads", operation_id = "delete_upload",
    params(("id" = UploadId, Path, description = "The upload."), ("Tus-Resumable" = inline(TusVersion), Header, description = "The version of the protocol.")),
    responses(
        (status = 204, description = "It is erased."),
        (status = 404, description = "There is no such upload.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "A job uses it (`upload_in_use`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "It was erased before (`upload_gone`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "This version of tus is not spoken.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 423, description = "Another request does not let go of it.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["uploads:write"]), ("bearer" = ["uploads:write"]))
)]
pub async fn remove(
    State(app): State<Arc<App>>,
    May(who, _): May<UploadsWrite>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode> {
    require_version(&headers)?;
    let id = parse(&id)?;
    match Hold::take(&app, who.tenant, id).await? {
        Taken::Held(hold, _) => {
            if !store::in_time(store::upload::sweep::bury_held(&app.db, id, hold.token, UploadState::Terminated))
                .await?
            {
                return Err(crate::hold::locked().into());
            }
            hold.ended();
        }
        Taken::Complete(_) => {
            if !store::in_time(lifecycle::upload::bury(&app.db, id, UploadState::Terminated)).await? {
                let detail = "A job that has not ended uses the upload. Cancel the job, or wait for its end.";
                return Err(Error::new(Code::UploadInUse, detail).into());
            }
        }
    }
    app.storage.remove(id).await?;
    tracing::info!(upload.id = %id, "an upload was erased");
    Ok(StatusCode::NO_CONTENT)
}

/// What the service speaks (tus)
#[utoipa::path(
    options, path = "/api/v1/uploads", tag = "uploads", operation_id = "upload_options",
    responses((status = 200, description = "The version, the extensions and the limits, as headers.")),
    security(())
)]
pub async fn options(State(app): State<Arc<App>>) -> Response {
    protocol::options(&app)
}

/// What the service speaks (tus)
#[utoipa::path(
    options, path = "/api/v1/uploads/{id}", tag = "uploads", operation_id = "upload_options_of",
    params(("id" = String, Path, description = "The upload; the answer is the same for all.", example = "7c9e6679-7425-40de-944b-e07fc1f90ae7")),
    responses((status = 200, description = "The version, the extensions and the limits, as headers.")),
    security(())
)]
pub async fn options_of(State(app): State<Arc<App>>) -> Response {
    protocol::options(&app)
}

/// Another method by POST (tus)
///
/// For clients that can send nothing else: the header `X-HTTP-Method-Override` names PATCH, HEAD or DELETE.
#[utoipa::path(
    post, path = "/api/v1/uploads/{id}", tag = "uploads", operation_id = "override_upload",
    params(("id" = UploadId, Path, description = "The upload."), ("X-HTTP-Method-Override" = inline(Meant), Header, description = "The method that is meant."), ("Tus-Resumable" = inline(TusVersion), Header, description = "The version of the protocol.")),
    request_body(content = FileBytes, content_type = "application/offset+octet-stream", description = "As the method that is meant takes it."),
    responses(
        (status = 200, description = "As HEAD answers."),
        (status = 204, description = "As PATCH and DELETE answer."),
        (status = 404, description = "There is no such upload.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 405, description = "No method is named that an upload takes.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The offset does not fit (`offset_mismatch`), or a job uses the upload (`upload_in_use`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "The upload is gone.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "This version of tus is not spoken.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 423, description = "Another request does not let go of it.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 460, description = "The bytes do not have the digest that was announced.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "The volume for uploads is full.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["uploads:write"]), ("bearer" = ["uploads:write"]))
)]
pub async fn by_post(
    State(app): State<Arc<App>>,
    who: May<UploadsWrite>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let meant = headers.get("x-http-method-override").map(|v| v.as_bytes());
    match meant {
        Some(b"PATCH") => append(State(app), who, Path(id), headers, body).await,
        Some(b"HEAD") => head(State(app), who, Path(id), headers).await.into_response(),
        Some(b"DELETE") => remove(State(app), who, Path(id), headers).await.into_response(),
        _ => {
            let detail = "An upload takes PATCH, HEAD and DELETE; a client that cannot send them names one in X-HTTP-Method-Override.";
            refuse(&headers, body, Problem(Error::new(Code::MethodNotAllowed, detail))).await
        }
    }
}

/// The id in a path; one that does not parse names nothing.
fn parse(id: &str) -> std::result::Result<UploadId, Error> {
    id.parse().map_err(|_| Error::not_found("upload"))
}
