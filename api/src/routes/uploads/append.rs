//! Continues a resumable upload: PATCH, and the body of a POST that creates one. The bytes are received in a task of its
//! own, because a client that goes away drops its handler, and what it sent must still be stored and counted.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use http_body_util::BodyExt;
use shared::access::Principal;
use shared::storage::Appending;
use shared::store::upload::Upload;
use shared::upload::{beyond, check_announced, length, offset, require_version, room, too_large};
use shared::{Code, Error, lifecycle, store};

use super::create::{PATIENCE, announced, count, is_offset_type};
use super::protocol::{Facts, problem_at, refuse};
use crate::hold::{Hold, Taken, locked};
use crate::intake::finish::{HEAD_BYTES, check_content, finish, reject};
use crate::intake::{self, Count, Plan, Received, Resume};
use crate::problem::Problem;
use crate::{App, audit};

/// Continues the upload and answers.
pub async fn append(app: &Arc<App>, who: &Principal, id: &str, headers: &HeaderMap, body: Body) -> Response {
    let asked = match Asked::read(headers) {
        Ok(asked) => asked,
        Err(error) => return refuse(headers, body, error).await,
    };
    let taken = match super::parse(id) {
        Ok(id) => Hold::take(app, who.tenant, id).await,
        Err(error) => Err(error),
    };
    let (hold, upload) = match taken {
        Ok(Taken::Held(hold, upload)) => (*hold, *upload),
        Ok(Taken::Complete(upload)) => return complete_already(&upload, &asked, headers, body).await,
        Err(error) => return refuse(headers, body, error).await,
    };
    match prepare(app, hold, upload, asked, headers).await {
        Ok(piece) => match receive(app, piece, body).await {
            Ok(facts) => facts.brief(StatusCode::NO_CONTENT),
            Err(problem) => problem.into_response(),
        },
        Err(Refused { error, offset }) => {
            let mut response = refuse(headers, body, error).await;
            if let Some(offset) = offset {
                super::protocol::put(response.headers_mut(), "upload-offset", &offset.to_string());
            }
            response
        }
    }
}

/// What a continuing request says.
struct Asked {
    offset: u64,
    length: Option<u64>,
    count: Count,
}

impl Asked {
    fn read(headers: &HeaderMap) -> Result<Self, Error> {
        require_version(headers)?;
        if !is_offset_type(headers) {
            return Err(wrong_type());
        }
        Ok(Self { offset: offset(headers)?, length: length(headers)?, count: count(headers)? })
    }
}

/// Why a body of another type is not taken.
pub fn wrong_type() -> Error {
    let detail = format!("The bytes of an upload are sent with Content-Type: {}.", shared::upload::CONTENT_TYPE);
    Error::new(Code::UnsupportedMediaType, detail)
}

/// A refusal, and where the upload stands if that helps.
struct Refused {
    error: Error,
    offset: Option<u64>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, offset: None }
    }
}

/// Checks the request against the upload and opens it.
async fn prepare(
    app: &Arc<App>,
    hold: Hold,
    mut upload: Upload,
    asked: Asked,
    headers: &HeaderMap,
) -> Result<Piece, Refused> {
    if upload.is_final() {
        return Err(takes_no_bytes().into());
    }
    let (tail, at) = app.storage.append(upload.id, upload.offset()).await?;
    if at != upload.offset() {
        tracing::warn!(upload.id = %upload.id, counted = upload.offset(), stored = at, "the storage lost bytes");
        upload.received_bytes = i64::try_from(at).unwrap_or(i64::MAX);
        if !hold.renew(at).await? {
            return Err(locked().into());
        }
    }
    if asked.offset != at {
        drop(tail);
        hold.release().await?;
        return Err(mismatch(asked.offset, at));
    }
    let mut most = app.limits.upload_bytes;
    match (asked.length, upload.length()) {
        (None, Some(_)) => {}
        (Some(said), Some(known)) if said == known => {}
        (Some(_), Some(_)) => {
            let detail = "The length of an upload is said once. Leave out Upload-Length.";
            return Err(Error::new(Code::BadRequest, detail).into());
        }
        (said, None) => {
            let free = store::in_time(lifecycle::upload::free_quota(&app.db, upload.tenant, app.limits.quota)).await?;
            most = most.min(at.saturating_add(free));
            if let Some(said) = said {
                say_length(&hold, app, &mut upload, said, most).await?;
            }
        }
    }
    let room = room(upload.length(), at, most);
    check_announced(announced(headers), upload.length(), room)?;
    Ok(Piece { hold, upload, tail, at, room, count: asked.count, resume: Resume::Possible })
}

/// Sets the length of an upload that did not say it when it was created.
async fn say_length(hold: &Hold, app: &App, upload: &mut Upload, said: u64, most: u64) -> Result<(), Error> {
    if said < upload.offset() {
        let detail = format!("Upload-Length is less than the {} bytes already stored.", upload.offset());
        return Err(Error::new(Code::BadRequest, detail));
    }
    if said > most {
        return Err(too_large(most));
    }
    if !store::in_time(store::upload::hold::set_length(&app.db, upload.id, hold.token, said)).await? {
        return Err(locked());
    }
    upload.length_bytes = i64::try_from(said).ok();
    Ok(())
}

/// The answer to a request that continues what is complete: fine if it brings nothing, which is a repeated one.
async fn complete_already(upload: &Upload, asked: &Asked, headers: &HeaderMap, mut body: Body) -> Response {
    let facts = Facts::of(upload);
    if upload.is_final() {
        return refuse(headers, body, takes_no_bytes()).await;
    }
    if asked.offset != facts.offset {
        let Refused { error, offset } = mismatch(asked.offset, facts.offset);
        let mut response = refuse(headers, body, error).await;
        super::protocol::put(response.headers_mut(), "upload-offset", &offset.unwrap_or_default().to_string());
        return response;
    }
    let brings_bytes = announced(headers).is_some_and(|bytes| bytes > 0)
        || (!body.is_end_stream()
            && matches!(body.frame().await, Some(Ok(frame)) if frame.data_ref().is_some_and(|d| !d.is_empty())));
    if brings_bytes {
        return refuse(headers, body, beyond("The body has bytes".into(), upload.length(), 0)).await;
    }
    facts.brief(StatusCode::NO_CONTENT)
}

fn mismatch(asked: u64, offset: u64) -> Refused {
    let detail = format!("The upload stands at {offset}, and the request begins at {asked}. Go on from {offset}.");
    Refused { error: Error::new(Code::OffsetMismatch, detail), offset: Some(offset) }
}

fn takes_no_bytes() -> Error {
    Error::new(Code::UploadFinal, "The upload was put together from parts and takes no bytes itself.")
}

/// A body's way into an upload.
pub struct Piece {
    /// The hold; given back at the end.
    pub hold: Hold,
    /// The upload.
    pub upload: Upload,
    /// Where the bytes go.
    pub tail: Appending,
    /// Where they begin.
    pub at: u64,
    /// Most bytes to take.
    pub room: u64,
    /// When the offset moves.
    pub count: Count,
    /// Who can go on.
    pub resume: Resume,
}

/// A problem after bytes were received.
pub struct Ended {
    error: Error,
    offset: u64,
}

impl IntoResponse for Ended {
    fn into_response(self) -> Response {
        problem_at(Problem(self.error), self.offset)
    }
}

/// Receives the body of a piece, and completes the upload if it was the last. What is received counts even if the caller is
/// dropped.
pub async fn receive(app: &Arc<App>, piece: Piece, body: Body) -> Result<Facts, Ended> {
    let (own, at) = (Arc::clone(app), piece.at);
    let task = app.background.spawn(audit::carry(async move { receive_now(&own, piece, body).await }));
    task.await.unwrap_or_else(|panic| Err(Ended { error: Error::internal(panic), offset: at }))
}

async fn receive_now(app: &Arc<App>, piece: Piece, body: Body) -> Result<Facts, Ended> {
    let Piece { hold, mut upload, tail, at, room, count, resume } = piece;
    let whole = if upload.hash_wanted { app.digests.take(upload.id, at) } else { None };
    let plan = Plan { at, room, length: upload.length(), count, whole, resume };
    let Received { offset, whole, end } = intake::receive(app, &hold, tail, plan, body).await;
    upload.received_bytes = i64::try_from(offset).unwrap_or(i64::MAX);
    let ended = |error| Ended { error, offset };
    if upload.length() == Some(offset) {
        let finished = finish_soon(app, hold, upload.clone(), whole).await.map_err(ended)?;
        end.map_err(ended)?;
        return Ok(Facts::of(&finished.unwrap_or(upload)));
    }
    if let Some(hasher) = whole {
        app.digests.keep(upload.id, offset, hasher);
    }
    let head_came = at < HEAD_BYTES as u64 && offset >= HEAD_BYTES as u64 && !upload.is_partial();
    if head_came && let Err(error) = check_content(app, &upload).await {
        if error.code() == Code::ContentNotAllowed {
            reject(app, hold).await.map_err(ended)?;
        }
        return Err(ended(error));
    }
    // a hold that is not given back runs out by itself; the bytes count
    if let Err(error) = hold.release().await {
        tracing::debug!(%error, upload.id = %upload.id, "the hold was not given back; it runs out by itself");
    }
    end.map_err(ended)?;
    upload.expires_at = Some(Utc::now() + app.limits.upload_expiry);
    Ok(Facts::of(&upload))
}

/// Completes the upload; `None` if that takes longer than a client should wait. It goes on then.
async fn finish_soon(
    app: &Arc<App>,
    hold: Hold,
    upload: Upload,
    whole: Option<shared::upload::Hasher>,
) -> Result<Option<Upload>, Error> {
    let own = Arc::clone(app);
    let task = app.background.spawn(audit::carry(async move { finish(&own, hold, &upload, whole).await }));
    match tokio::time::timeout(PATIENCE, task).await {
        Ok(Ok(finished)) => finished.map(Some),
        Ok(Err(panic)) => Err(Error::internal(panic)),
        Err(_) => Ok(None),
    }
}
