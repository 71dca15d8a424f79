//! `/api/v1/uploads`: media as one request body, streamed to the upload volume. Memory does not grow with the body.

pub mod view;

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use http_body_util::BodyExt;
use shared::id::UploadId;
use shared::job::source::extension_allowed;
use shared::storage::Incoming;
use shared::{Code, Error, store};

use crate::App;
use crate::auth::{Submitter, Viewer};
use crate::extract::{Id, Query};
use crate::openapi::{ReadProblems, WriteProblems};
use crate::problem::Result;
use crate::routes::jobs::source::not_allowed;
use view::{UploadQuery, UploadView};

/// Name of an upload that was given none.
const UNNAMED: &str = "upload";

/// Upload a file
///
/// The body is the file. For example: `curl --data-binary @holiday.mp4 …/api/v1/uploads?filename=holiday.mp4`.
#[utoipa::path(
    post, path = "/api/v1/uploads", tag = "uploads", operation_id = "create_upload",
    params(UploadQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The bytes of the file, of any content type."),
    responses(
        (status = 201, description = "All bytes are stored.", body = UploadView, headers(("Location" = String, description = "The upload."))),
        (status = 507, description = "The volume for uploads is full.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = []), ("bearer" = []))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    Submitter(who): Submitter,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let filename = check_filename(query.filename.as_deref().unwrap_or(UNNAMED), app.limits.filename_bytes)?;
    if !extension_allowed(filename, &app.limits.extensions) {
        return Err(not_allowed(filename, &app.limits.extensions).into());
    }
    // said before the first byte is read, so that a client that asks first (Expect: 100-continue) sends nothing
    if declared_length(&headers).or(body.size_hint().exact()).is_some_and(|n| n > app.limits.upload_bytes) {
        return Err(too_large(app.limits.upload_bytes).into());
    }
    let content_type =
        headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(|t| t.chars().take(255).collect::<String>());
    let id = UploadId::new();
    store::upload::insert(&app.db, id, who.tenant, filename, content_type.as_deref()).await?;
    let mut unfinished = Unfinished { app: &app, id, armed: true };
    let size = receive(&app, id, body).await?;
    let size = i64::try_from(size).map_err(Error::internal)?;
    let upload = store::upload::complete(&app.db, id, size).await?.ok_or_else(|| Error::not_found("upload"))?;
    unfinished.armed = false;
    app.metrics.uploads.inc();
    tracing::info!(upload.id = %id, upload.size_bytes = size, "upload complete");
    let location = format!("{}/api/v1/uploads/{id}", app.base_url);
    Ok((StatusCode::CREATED, AppendHeaders([(LOCATION, location)]), axum::Json(UploadView::from(upload)))
        .into_response())
}

/// Show an upload
#[utoipa::path(
    get, path = "/api/v1/uploads/{id}", tag = "uploads", operation_id = "show_upload",
    params(("id" = UploadId, Path, description = "The upload.")),
    responses(
        (status = 200, description = "The upload.", body = UploadView),
        (status = 404, description = "There is no such upload.", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = []), ("bearer" = []))
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Viewer(who): Viewer,
    Id(id): Id<UploadId>,
) -> Result<axum::Json<UploadView>> {
    let upload = store::upload::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("upload"))?;
    Ok(axum::Json(upload.into()))
}

/// Streams the body to the volume and returns its size.
async fn receive(app: &App, id: UploadId, mut body: Body) -> std::result::Result<u64, Error> {
    let mut incoming: Incoming = app.storage.create(id).await?;
    loop {
        let frame = tokio::time::timeout(app.limits.upload_stall, body.frame()).await.map_err(|_| {
            let detail = format!(
                "No bytes came for {} seconds. Send the file again over a steadier connection.",
                app.limits.upload_stall.as_secs()
            );
            Error::new(Code::RequestTimeout, detail)
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| {
            Error::new(
                Code::IncompleteBody,
                format!("The body broke off after {} bytes: {e}. Send the file again.", incoming.written()),
            )
        })?;
        let Some(bytes) = frame.data_ref() else { continue };
        if incoming.written() + bytes.len() as u64 > app.limits.upload_bytes {
            return Err(too_large(app.limits.upload_bytes));
        }
        incoming.write(bytes).await?;
        app.metrics.upload_bytes.inc_by(bytes.len() as u64);
    }
    incoming.finish().await
}

/// Erases what an upload left behind when its request ends early, the client's going away included (which drops the
/// handler). What a crash leaves is swept by upkeep.
struct Unfinished<'a> {
    app: &'a Arc<App>,
    id: UploadId,
    armed: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (app, id) = (Arc::clone(self.app), self.id);
        self.app.background.spawn(async move {
            if let Err(error) = erase(&app, id).await {
                tracing::warn!(%error, upload.id = %id, "an unfinished upload could not be erased; upkeep will");
            }
        });
    }
}

async fn erase(app: &App, id: UploadId) -> std::result::Result<(), Error> {
    // the row goes first: bytes without a row are swept, a complete upload without bytes would be a lie
    if store::upload::delete_unfinished(&app.db, id).await? {
        app.storage.remove(id).await?;
    }
    Ok(())
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn check_filename(name: &str, max_bytes: usize) -> std::result::Result<&str, Error> {
    if name.is_empty() || name.len() > max_bytes || name.chars().any(char::is_control) {
        let detail = format!("A filename has 1 to {max_bytes} bytes and no control characters.");
        return Err(Error::new(Code::BadRequest, detail));
    }
    Ok(name)
}

fn too_large(limit: u64) -> Error {
    Error::new(
        Code::TooLarge,
        format!("The file is larger than the {limit} bytes taken here. An operator raises MAX_UPLOAD_BYTES."),
    )
}
