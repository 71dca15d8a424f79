//! What happens when the last byte is durable: the content is looked at, the digest compared, and the upload completed with
//! its job, exactly once. A process that dies in between leaves it to the next one: [`run`] looks for such uploads.
//! Never trusts a hold beyond its token.

use std::sync::Arc;
use std::time::Duration;

use shared::completeness::content_type;
use shared::store::upload::Upload;
use shared::upload::{Hasher, UploadState};
use shared::{Code, Error, lifecycle, store};
use tokio::time::{MissedTickBehavior, interval};

use super::{READ_BACK, assemble};
use crate::hold::{Hold, locked};
use crate::metrics::Submission;
use crate::{App, audit};

/// How often uploads are looked for that a process left unfinished.
const EVERY: Duration = Duration::from_secs(5);
/// Most of them in one round.
const ROUND: i64 = 8;
/// Bytes at the start of a file that its kind is told from.
pub const HEAD_BYTES: usize = 4096;

/// Completes an upload whose bytes are all durable. `whole` is their digest, if it is known. Fails if the bytes are not what
/// was announced or allowed: they are erased then.
pub async fn finish(app: &Arc<App>, hold: Hold, upload: &Upload, whole: Option<Hasher>) -> Result<Upload, Error> {
    let size = upload.offset();
    let checked = async {
        // a store takes its time over thousands of parts
        hold.during(size, app.storage.complete(upload.id, size)).await?;
        if !upload.is_partial() {
            check_content(app, upload).await?;
        }
        digest(app, &hold, upload, whole).await
    };
    let sha256 = match checked.await {
        Ok(sha256) => sha256,
        Err(error) => {
            if matches!(error.code(), Code::ContentNotAllowed | Code::ChecksumMismatch) {
                reject(app, hold).await?;
            }
            return Err(error);
        }
    };
    let attempts = app.limits.max_attempts;
    let event = audit::event_or_own("upload.complete", upload.tenant).on("upload", upload.id);
    let (db, sha256) = (&app.db, sha256.as_deref());
    let complete = lifecycle::upload::complete(db, upload.id, hold.token, size, sha256, attempts, Some(event));
    let done = store::in_time(complete).await?;
    let Some(done) = done else { return Err(locked()) };
    hold.ended();
    app.metrics.uploads.inc();
    tracing::info!(upload.id = %upload.id, upload.size_bytes = size, "upload complete");
    if let Some(job) = done.job {
        app.metrics.submitted.get_or_create(&Submission { profile: job.profile.as_str() }).inc();
        tracing::info!(job.id = %job.id, profile = job.profile.as_str(), "job accepted with its upload");
        app.dispatch(job.lane, job.id);
    }
    Ok(done.upload)
}

/// Refuses content that the operator does not take, by what it is and not by its name.
pub async fn check_content(app: &App, upload: &Upload) -> Result<(), Error> {
    let allowed = &app.limits.types;
    if allowed.is_empty() {
        return Ok(());
    }
    let head = app.storage.head(upload.id, HEAD_BYTES).await?;
    let kind = content_type(&head).unwrap_or("unknown");
    let fits = allowed.iter().any(|a| match a.strip_suffix('*') {
        Some(family) => kind.starts_with(family),
        None => kind == a,
    });
    if fits {
        return Ok(());
    }
    let detail =
        format!("The content of the file is '{kind}', which is not taken here. These are: {}.", allowed.join(", "));
    Err(Error::new(Code::ContentNotAllowed, detail))
}

/// The digest of the whole, if it is wanted; read back where it was not taken on the way.
async fn digest(app: &App, hold: &Hold, upload: &Upload, whole: Option<Hasher>) -> Result<Option<Vec<u8>>, Error> {
    if !upload.hash_wanted {
        return Ok(None);
    }
    let size = upload.offset();
    let (mut hasher, mut at) = match whole {
        Some(hasher) => (hasher, size),
        None => (Hasher::sha256(), 0),
    };
    while at < size {
        if app.draining.is_cancelled() {
            return Err(Error::unavailable("The service", "it stops; another process takes the digest"));
        }
        let reading = app.storage.digest(hold.id, at, (size - at).min(READ_BACK), hasher);
        let (next, read) = hold.during(size, reading).await?;
        if read == 0 {
            return Err(Error::internal("stored bytes cannot be read back"));
        }
        (hasher, at) = (next, at + read);
    }
    let sha256 = hasher.finish();
    match &upload.sha256_expected {
        Some(expected) if *expected != sha256 => {
            let detail =
                "The file does not have the SHA-256 that its metadata announced. It was erased; upload it again.";
            Err(Error::new(Code::ChecksumMismatch, detail))
        }
        _ => Ok(Some(sha256)),
    }
}

/// Erases an upload whose bytes are not to be kept.
pub async fn reject(app: &App, hold: Hold) -> Result<(), Error> {
    let id = hold.id;
    // the row first: bytes without a row are swept
    if store::in_time(store::upload::sweep::bury_held(&app.db, id, hold.token, UploadState::Rejected)).await? {
        hold.ended();
        app.storage.remove(id).await?;
    }
    Ok(())
}

/// Finishes what other processes, or this one, left unfinished. Runs until the process drains.
pub async fn run(app: Arc<App>) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = app.draining.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = round(&app).await {
            tracing::debug!(%error, "unfinished uploads are looked for again");
        }
    }
}

async fn round(app: &Arc<App>) -> Result<(), Error> {
    for found in store::in_time(store::upload::sweep::list_finishable(&app.db, ROUND)).await? {
        let Some((hold, upload)) = Hold::take_free(app, found.tenant, found.id).await? else { continue };
        let outcome = if upload.is_final() {
            assemble::assemble(app, hold, upload).await
        } else {
            finish(app, hold, &upload, None).await
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, upload.id = %found.id, "an upload could not be finished");
        }
    }
    Ok(())
}
