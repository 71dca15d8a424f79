//! Creates a resumable upload: empty, with its first bytes, or from parts. Called by POST of `/api/v1/uploads`.
//! Once it exists, a request that breaks off leaves it to be continued or to expire.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRAILER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::access::Principal;
use shared::id::{LeaseToken, UploadId};
use shared::job::source::extension_allowed;
use shared::store::upload::{NewUpload, Upload};
use shared::upload::{self, Checksum, Concat, Creation, check_announced, require_version, room, single};
use shared::{Code, Error, lifecycle, storage, store};

use super::append::{Piece, receive};
use super::protocol::{Facts, put, refuse};
use super::{address, append};
use crate::hold::{Hold, LEASE};
use crate::intake::finish::finish;
use crate::intake::{Count, Resume, assemble};
use crate::limits::backlog;
use crate::problem::Problem;
use crate::routes::jobs::source::not_allowed;
use crate::{App, audit};

/// How long a request waits for parts to be put together or a digest to be taken; the work goes on without it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the audit trail calls it when an upload is created.
const CREATE: &str = "upload.create";

/// Creates the upload and answers.
pub async fn create(app: &Arc<App>, who: &Principal, headers: &HeaderMap, body: Body) -> Response {
    let asked = match read(app, headers, &body) {
        Ok(asked) => asked,
        Err(error) => return refuse(headers, body, error).await,
    };
    let (creation, count) = asked;
    let has_body = !body.is_end_stream();
    // the job that an upload wishes for is accepted when its last byte is there; so it is refused now or never
    if creation.metadata.probe.is_some()
        && let Err(full) = backlog::take(app, who, 1).await
    {
        return refuse(headers, body, full).await;
    }
    let upload = match begin(app, who, creation).await {
        Ok(begun) => begun,
        Err(error) => return refuse(headers, body, error).await,
    };
    let (hold, upload, tail) = upload;
    let location = format!("{}{}/{}", address::origin(app, headers), upload::PATH, upload.id);
    let mut response = if upload.is_final() {
        drop(tail);
        put_together(app, hold, upload, &location).await
    } else if has_body {
        let most = room(upload.length(), 0, app.limits.upload_bytes);
        let piece = Piece { hold, upload, tail, at: 0, room: most, count, resume: Resume::Possible };
        match receive(app, piece, body).await {
            Ok(facts) => facts.created(&location),
            Err(problem) => problem.into_response(),
        }
    } else {
        drop(tail);
        empty(app, hold, upload, &location).await
    };
    put(response.headers_mut(), "location", &location);
    response
}

/// Everything that can be told from the request alone.
fn read(app: &App, headers: &HeaderMap, body: &Body) -> Result<(Creation, Count), Error> {
    require_version(headers)?;
    let has_body = !body.is_end_stream();
    if has_body && !is_offset_type(headers) {
        return Err(append::wrong_type());
    }
    let origins = [address::origin(app, headers)];
    let creation = Creation::parse(headers, &origins, app.limits.filename_bytes)?;
    let count = count(headers)?;
    if has_body && matches!(creation.concat, Concat::Final(_)) {
        return Err(Error::new(Code::BadRequest, "An upload put together from parts takes no body."));
    }
    let name = &creation.metadata.filename;
    if creation.concat != Concat::Partial && !extension_allowed(name, &app.limits.extensions) {
        return Err(not_allowed(name, &app.limits.extensions));
    }
    if creation.length.is_some_and(|length| length > app.limits.upload_bytes) {
        return Err(upload::too_large(app.limits.upload_bytes));
    }
    let most = room(creation.length, 0, app.limits.upload_bytes);
    check_announced(announced(headers), creation.length, most)?;
    Ok((creation, count))
}

/// Whether the body says that it is part of an upload.
pub fn is_offset_type(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == upload::CONTENT_TYPE.as_bytes())
}

/// How long the body says it is.
pub fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// When the offset moves: at once, or when a digest was compared.
pub fn count(headers: &HeaderMap) -> Result<Count, Error> {
    if let Some(value) = single(headers, "upload-checksum")? {
        return Checksum::parse(value).map(Count::Checked);
    }
    let mut trailers = headers.get_all(TRAILER).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let announced = trailers.any(|name| name.trim().eq_ignore_ascii_case("upload-checksum"));
    Ok(if announced { Count::CheckedByTrailer } else { Count::Steadily })
}

/// Stores the row, then makes the place for its bytes.
async fn begin(
    app: &Arc<App>,
    who: &Principal,
    creation: Creation,
) -> Result<(Hold, Upload, storage::Appending), Error> {
    let Creation { length, metadata, concat, concat_sent } = creation;
    let new = NewUpload {
        id: UploadId::new(),
        tenant: who.tenant,
        filename: metadata.filename,
        content_type: metadata.content_type,
        length,
        sent_metadata: metadata.sent,
        checksum: metadata.checksum,
        concat,
        concat_sent,
        probe: metadata.probe,
        token: LeaseToken::new(),
        lease: LEASE,
        expiry: app.limits.upload_expiry,
        audit: None,
    };
    place(app, new).await
}

/// Stores a new upload with a place for its bytes, held by the caller.
pub async fn place(app: &Arc<App>, mut new: NewUpload) -> Result<(Hold, Upload, storage::Appending), Error> {
    if let Some(free) = app.storage.free_bytes().await?
        && free.saturating_sub(app.limits.upload_min_free_bytes) < new.length.unwrap_or(1)
    {
        return Err(storage::full());
    }
    let (id, token) = (new.id, new.token);
    new.audit = audit::event(CREATE, StatusCode::CREATED.as_u16()).map(|event| event.on("upload", id));
    let upload = store::in_time(lifecycle::upload::begin(&app.db, new, app.limits.quota)).await?;
    audit::kept(CREATE);
    let hold = Hold::new(app, id, token);
    let room_for_parts = match upload.length().filter(|_| upload.is_final()) {
        None => Ok(true),
        // what is put together is there twice for a while
        Some(length) => app
            .storage
            .free_bytes()
            .await
            .map(|free| free.is_none_or(|free| free.saturating_sub(app.limits.upload_min_free_bytes) >= length)),
    };
    let made = match room_for_parts {
        Ok(true) => app.storage.create(id).await,
        Ok(false) => Err(storage::full()),
        Err(error) => Err(error),
    };
    match made {
        Ok(tail) => Ok((hold, upload, tail)),
        Err(error) => {
            if store::in_time(store::upload::sweep::delete_held(&app.db, id, token)).await? {
                hold.ended();
                app.storage.remove(id).await?;
            }
            Err(error)
        }
    }
}

/// An upload whose bytes come later, or that has none.
async fn empty(app: &Arc<App>, hold: Hold, upload: Upload, location: &str) -> Response {
    let outcome = if upload.length() == Some(0) {
        finish(app, hold, &upload, None).await
    } else {
        hold.release().await.map(|()| upload)
    };
    match outcome {
        Ok(upload) => {
            let mut response = Facts::of(&upload).created(location);
            if upload.length() != Some(0) {
                // nothing was sent, so nothing is said of the offset
                response.headers_mut().remove("upload-offset");
            }
            response
        }
        Err(error) => Problem(error).into_response(),
    }
}

/// Puts parts together. Takes as long as the storage takes; the answer does not wait for ever.
async fn put_together(app: &Arc<App>, hold: Hold, upload: Upload, location: &str) -> Response {
    let facts = Facts::of(&upload);
    let (own, work) = (Arc::clone(app), upload);
    let task = app.background.spawn(audit::carry(async move { assemble::assemble(&own, hold, work).await }));
    match tokio::time::timeout(PATIENCE, task).await {
        Ok(Ok(Ok(upload))) => Facts::of(&upload).created(location),
        Ok(Ok(Err(error))) => Problem(error).into_response(),
        Ok(Err(panic)) => Problem(Error::internal(panic)).into_response(),
        Err(_) => facts.created(location),
    }
}
