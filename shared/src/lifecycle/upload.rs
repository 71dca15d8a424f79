//! The end of an upload: complete, and then its job in the same transaction, or gone. Called by the API and by upkeep. Each
//! of these happens once, however often it is asked for; whoever is late is told so.

use sqlx::PgPool;

use crate::audit::Event;
use crate::error::{Code, Error, Result};
use crate::id::{AuditEventId, JobId, LeaseToken, TenantId, UploadId};
use crate::job::{Job, NewJob, Options, Priority, Source};
use crate::store;
use crate::store::upload::{NewUpload, Upload, Usage};
use crate::upload::{Concat, UploadState};

/// What became of a finished upload.
#[derive(Debug)]
pub struct Completed {
    /// The upload, complete.
    pub upload: Upload,
    /// The job it asked for.
    pub job: Option<Job>,
}

/// Completes an upload of `size` durable and checked bytes, and accepts the job it asked for, started at most
/// `max_attempts` times; `event` tells of it, and with another id of the job. `None` if it is not, or not any more, held with this token.
pub async fn complete(
    db: &PgPool,
    id: UploadId,
    token: LeaseToken,
    size: u64,
    sha256: Option<&[u8]>,
    max_attempts: i16,
    event: Option<Event>,
) -> Result<Option<Completed>> {
    let mut tx = db.begin().await?;
    let Some(mut upload) = store::upload::complete(&mut *tx, id, token, size, sha256).await? else { return Ok(None) };
    let mut job = None;
    if let Some(profile) = upload.probe.filter(|_| !upload.is_partial()) {
        let new = NewJob {
            tenant: upload.tenant,
            source: Source::Upload { id },
            located: None,
            sealed: None,
            profile,
            options: Options::default(),
            priority: Priority::default(),
            external_id: None,
            metadata: serde_json::Map::new(),
            max_attempts,
            expires_at: None,
            webhook: None,
            audit: event.as_ref().map(|e| Event { id: AuditEventId::new(), action: "job.create", ..e.clone() }),
        };
        let accepted = super::accept(&mut tx, JobId::new(), &new).await?;
        store::upload::set_job(&mut *tx, id, accepted.id).await?;
        upload.job_id = Some(accepted.id);
        job = Some(accepted);
    }
    if let Some(event) = &event {
        store::audit::insert(&mut *tx, event).await?;
    }
    tx.commit().await?;
    Ok(Some(Completed { upload, job }))
}

/// Turns an upload into a memory of it. `false` if a request holds it, a job that has not ended uses it, or it is gone
/// already. The caller erases its bytes.
pub async fn bury(db: &PgPool, id: UploadId, state: UploadState) -> Result<bool> {
    let mut tx = db.begin().await?;
    let done = store::upload::sweep::bury(&mut tx, id, state).await?;
    tx.commit().await?;
    Ok(done)
}

/// Whether a job may read it.
pub(super) fn check_usable(upload: &Upload) -> Result<()> {
    match upload.state {
        UploadState::Complete if upload.is_partial() => {
            let detail = "The upload is a part of another. Put the parts together, then create the job.";
            Err(Error::new(Code::UploadIncomplete, detail))
        }
        UploadState::Complete => Ok(()),
        UploadState::Receiving => {
            let detail = "The upload has not received all of its bytes. Finish it, then create the job.";
            Err(Error::new(Code::UploadIncomplete, detail))
        }
        gone => Err(self::gone(gone)),
    }
}

/// Why an upload is not to be had any more.
pub fn gone(state: UploadState) -> Error {
    let why = match state {
        UploadState::Expired => "nobody sent or used it for too long",
        UploadState::Terminated => "it was given up",
        _ => "its bytes were not what was announced or allowed",
    };
    Error::new(Code::UploadGone, format!("The upload is gone: {why}. Upload the file again."))
}

/// How much a tenant may have, where its own row says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Most unfinished uploads.
    pub open: u32,
    /// Most stored bytes; 0 for no limit.
    pub stored_bytes: u64,
    /// Largest upload, in bytes.
    pub upload_bytes: u64,
}

/// Stores a new upload, if the tenant has room for it. One put together from parts gets their length; they must be the
/// tenant's, and whole.
pub async fn begin(db: &PgPool, mut new: NewUpload, quota: Quota) -> Result<Upload> {
    let mut tx = db.begin().await?;
    let usage = store::upload::usage(&mut tx, new.tenant).await?;
    if let Concat::Final(parts) = &new.concat {
        let found = store::upload::list_for_share(&mut *tx, new.tenant, parts).await?;
        new.length = Some(sum(parts, &found)?);
    }
    if new.length.is_some_and(|length| length > quota.upload_bytes) {
        return Err(crate::upload::too_large(quota.upload_bytes));
    }
    let open = usage.max_open.map_or(i64::from(quota.open), i64::from);
    if usage.open >= open {
        let detail = format!(
            "The tenant has {} unfinished uploads, and at most {open} at a time. Finish some, or erase them with DELETE.",
            usage.open
        );
        return Err(Error::new(Code::TooManyUploads, detail));
    }
    if room(&usage, quota) < new.length.unwrap_or(0) {
        let detail = format!(
            "The tenant stores {} bytes, and this upload would go beyond what it may. Erase uploads, or jobs with theirs.",
            usage.stored_bytes
        );
        return Err(Error::new(Code::QuotaExceeded, detail));
    }
    let upload = store::upload::insert(&mut *tx, &new).await?;
    tx.commit().await?;
    Ok(upload)
}

/// How many more bytes the tenant may store.
pub async fn free_quota(db: &PgPool, tenant: TenantId, quota: Quota) -> Result<u64> {
    let mut tx = db.begin().await?;
    let usage = store::upload::usage(&mut tx, tenant).await?;
    tx.commit().await?;
    Ok(room(&usage, quota))
}

fn room(usage: &Usage, quota: Quota) -> u64 {
    let most = usage.max_stored_bytes.and_then(|most| u64::try_from(most).ok());
    let most = most.or((quota.stored_bytes > 0).then_some(quota.stored_bytes)).unwrap_or(u64::MAX);
    most.saturating_sub(u64::try_from(usage.stored_bytes).unwrap_or(0))
}

/// Bytes of all parts, each counted as often as it is named.
fn sum(parts: &[UploadId], found: &[Upload]) -> Result<u64> {
    let bad = |detail: &str| Error::new(Code::BadRequest, detail);
    let mut sum = 0_u64;
    for id in parts {
        let part = found.iter().find(|p| p.id == *id).ok_or_else(|| Error::not_found("part"))?;
        match part.state {
            UploadState::Complete if part.is_partial() => sum = sum.saturating_add(part.offset()),
            UploadState::Receiving if part.is_partial() => {
                return Err(bad("A part has not received all of its bytes."));
            }
            UploadState::Complete | UploadState::Receiving => {
                return Err(bad("Only uploads with Upload-Concat: partial can be put together."));
            }
            state => return Err(gone(state)),
        }
    }
    Ok(sum)
}
