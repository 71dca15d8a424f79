//! A whole file in one request: a raw body, or the part `file` of a form. Called by POST of `/api/v1/uploads` and of
//! `/api/v1/probe/file`. What breaks off is erased, because the client does not know the upload yet.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use shared::access::Principal;
use shared::id::{LeaseToken, UploadId};
use shared::job::source::extension_allowed;
use shared::store::upload::{NewUpload, Upload};
use shared::upload::{Concat, PATH, Wanted, beyond, check_announced, too_large};
use shared::{Code, Error, lifecycle, store};

use super::multipart::{Form, boundary};
use super::view::UploadView;
use super::{address, create};
use crate::hold::{LEASE, locked};
use crate::intake::finish::finish;
use crate::intake::{Count, Plan, Received, Resume, receive};
use crate::routes::jobs::source::not_allowed;
use crate::{App, audit};

/// Name of an upload that was given none.
const UNNAMED: &str = "upload";
/// Longest content type that is kept, in characters.
const MAX_TYPE_CHARS: usize = 255;

/// A file that was stored, and the other fields of its form.
pub struct Stored {
    /// The upload, complete.
    pub upload: Upload,
    /// Name and value; none of a raw body.
    pub fields: Vec<(String, String)>,
}

/// Stores the file in the body. `filename` is the client's name for it, in place of the one in a form.
pub async fn store(
    app: &Arc<App>,
    who: &Principal,
    filename: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Stored, Error> {
    let Some(boundary) = boundary(headers) else {
        let kind = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let upload = keep(app, who, filename.unwrap_or(UNNAMED), kind, create::announced(headers), body).await?;
        return Ok(Stored { upload, fields: Vec::new() });
    };
    let mut form = Form::new(body, &boundary);
    let Some(part) = form.find_file().await? else {
        let detail = "The form has no part 'file'. Send it like this: curl -F file=@holiday.mp4.";
        return Err(Error::new(Code::BadRequest, detail));
    };
    let name = filename.map(str::to_owned).or(part.filename).unwrap_or_else(|| UNNAMED.to_owned());
    let (file, rest) = form.into_file();
    let upload = keep(app, who, &name, part.content_type, None, file).await?;
    let fields = match rest.await {
        Ok(form) => form.finish().await?,
        Err(_) => Vec::new(),
    };
    Ok(Stored { upload, fields })
}

/// 201 with the upload.
pub fn created(app: &App, headers: &HeaderMap, upload: Upload) -> Response {
    let location = format!("{}{PATH}/{}", address::origin(app, headers), upload.id);
    (StatusCode::CREATED, AppendHeaders([(LOCATION, location)]), axum::Json(UploadView::from(upload))).into_response()
}

async fn keep(
    app: &Arc<App>,
    who: &Principal,
    filename: &str,
    content_type: Option<String>,
    length: Option<u64>,
    body: Body,
) -> Result<Upload, Error> {
    let limits = &app.limits;
    check_filename(filename, limits.filename_bytes)?;
    if !extension_allowed(filename, &limits.extensions) {
        return Err(not_allowed(filename, &limits.extensions));
    }
    // said before the first byte is read, so that a client that asks first (Expect: 100-continue) sends nothing
    if check_announced(length, None, limits.upload_bytes).is_err() {
        return Err(too_large(limits.upload_bytes));
    }
    let new = NewUpload {
        id: UploadId::new(),
        tenant: who.tenant,
        filename: filename.to_owned(),
        content_type: content_type.map(|t| t.chars().take(MAX_TYPE_CHARS).collect()),
        length,
        sent_metadata: None,
        checksum: Wanted::No,
        concat: Concat::None,
        concat_sent: None,
        probe: None,
        token: LeaseToken::new(),
        lease: LEASE,
        expiry: limits.upload_expiry,
        audit: None,
    };
    // of its own: a client that goes away drops this handler, and what it left must be erased
    let own = Arc::clone(app);
    let task = app.background.spawn(audit::carry(async move { keep_now(&own, new, body).await }));
    task.await.map_err(Error::internal)?
}

async fn keep_now(app: &Arc<App>, new: NewUpload, body: Body) -> Result<Upload, Error> {
    let (tenant, length) = (new.tenant, new.length);
    let (hold, mut upload, tail) = create::place(app, new).await?;
    let free = match length {
        Some(_) => u64::MAX,
        None => store::in_time(lifecycle::upload::free_quota(&app.db, tenant, app.limits.quota)).await?,
    };
    let room = length.unwrap_or(app.limits.upload_bytes.min(free));
    let plan = Plan { at: 0, room, length, count: Count::Steadily, whole: None, resume: Resume::Impossible };
    let Received { offset, end, .. } = receive(app, &hold, tail, plan, body).await;
    let end = match end {
        Ok(()) if length.is_none() => {
            match store::in_time(store::upload::hold::set_length(&app.db, upload.id, hold.token, offset)).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(locked()),
                Err(error) => Err(error),
            }
        }
        Ok(()) if length == Some(offset) => Ok(()),
        Ok(()) => Err(beyond("The body ended early".into(), length, room.saturating_sub(offset))),
        Err(error) => Err(error),
    };
    if let Err(error) = end {
        // the row goes first: bytes without a row are swept
        if store::in_time(store::upload::sweep::delete_held(&app.db, upload.id, hold.token)).await? {
            hold.ended();
            app.storage.remove(upload.id).await?;
        }
        return Err(error);
    }
    upload.received_bytes = i64::try_from(offset).unwrap_or(i64::MAX);
    upload.length_bytes = Some(upload.received_bytes);
    finish(app, hold, &upload, None).await
}

fn check_filename(name: &str, max_bytes: usize) -> Result<(), Error> {
    if name.is_empty() || name.len() > max_bytes || name.chars().any(char::is_control) {
        let detail = format!("A filename has 1 to {max_bytes} bytes and no control characters.");
        return Err(Error::new(Code::BadRequest, detail));
    }
    Ok(())
}
