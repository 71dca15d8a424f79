//! Uploads: who owns which bytes, how many are durable, and whether they are all there. Who may move them lies in `hold`,
//! what becomes of them when nobody wants them any more in `sweep`.

/// The columns of an [`Upload`], in its order.
macro_rules! columns {
    () => {
        "id, tenant_id as tenant, state, filename, content_type, size_bytes, length_bytes, received_bytes, sent_metadata,
         hash_wanted, sha256_expected, sha256, concat, concat_sent, parts, probe, job_id, expires_at, created_at, completed_at"
    };
}

pub mod hold;
pub mod sweep;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use super::audit::record;
use crate::audit::Event;
use crate::error::Result;
use crate::id::{JobId, LeaseToken, TenantId, UploadId};
use crate::job::Profile;
use crate::upload::{Concat, UploadState, Wanted};

/// An upload as stored.
#[derive(Debug, Clone, FromRow)]
pub struct Upload {
    /// The upload.
    pub id: UploadId,
    /// The owner.
    pub tenant: TenantId,
    /// Where it stands.
    pub state: UploadState,
    /// The client's name for the file.
    pub filename: String,
    /// The client's word for what it is; never trusted.
    pub content_type: Option<String>,
    /// Null until complete.
    pub size_bytes: Option<i64>,
    /// What was announced; null if it is said later.
    pub length_bytes: Option<i64>,
    /// Durable bytes.
    pub received_bytes: i64,
    /// `Upload-Metadata` as it came.
    pub sent_metadata: Option<String>,
    /// Whether a digest of the whole is wanted.
    pub hash_wanted: bool,
    /// What the digest must be.
    pub sha256_expected: Option<Vec<u8>>,
    /// What the digest is; null until complete, and without the wish.
    pub sha256: Option<Vec<u8>>,
    /// What it is to other uploads: `partial`, `final` or nothing.
    pub concat: Option<String>,
    /// `Upload-Concat` as it came.
    pub concat_sent: Option<String>,
    /// Of a final upload: its parts, in order.
    pub parts: Vec<UploadId>,
    /// The profile of the job to be made at its end.
    pub probe: Option<Profile>,
    /// The job that was made.
    pub job_id: Option<JobId>,
    /// When it is given up if nothing more comes; null once complete.
    pub expires_at: Option<DateTime<Utc>>,
    /// When its first byte was awaited.
    pub created_at: DateTime<Utc>,
    /// When its last byte was durable.
    pub completed_at: Option<DateTime<Utc>>,
}

impl Upload {
    /// Durable bytes.
    pub fn offset(&self) -> u64 {
        // complete ones of earlier versions know only their size
        u64::try_from(self.size_bytes.unwrap_or(self.received_bytes)).unwrap_or(0)
    }

    /// Bytes of the whole, once they are known.
    pub fn length(&self) -> Option<u64> {
        self.length_bytes.or(self.size_bytes).and_then(|length| u64::try_from(length).ok())
    }

    /// Whether it is put together from parts, and takes no bytes itself.
    pub fn is_final(&self) -> bool {
        self.concat.as_deref() == Some("final")
    }

    /// Whether it is part of another.
    pub fn is_partial(&self) -> bool {
        self.concat.as_deref() == Some("partial")
    }
}

/// An upload about to be stored.
#[derive(Debug, Clone)]
pub struct NewUpload {
    /// Its id.
    pub id: UploadId,
    /// The owner.
    pub tenant: TenantId,
    /// The client's name for the file, cleaned.
    pub filename: String,
    /// The client's word for what it is.
    pub content_type: Option<String>,
    /// What was announced.
    pub length: Option<u64>,
    /// `Upload-Metadata` as it came.
    pub sent_metadata: Option<String>,
    /// Whether a digest of the whole is wanted.
    pub checksum: Wanted,
    /// What it is to other uploads.
    pub concat: Concat,
    /// `Upload-Concat` as it came.
    pub concat_sent: Option<String>,
    /// The profile of the job to be made at its end.
    pub probe: Option<Profile>,
    /// Whoever creates it holds it.
    pub token: LeaseToken,
    /// How long it is held without a sign of life.
    pub lease: Duration,
    /// How long it is kept if nothing comes.
    pub expiry: Duration,
    /// The event that tells of it, kept with it or not at all.
    pub audit: Option<Event>,
}

/// What a tenant has, and how much it may have; `None` means as the settings say.
#[derive(Debug, Clone, Copy, FromRow)]
pub struct Usage {
    /// Unfinished uploads.
    pub open: i64,
    /// Bytes stored or announced.
    pub stored_bytes: i64,
    /// Most unfinished uploads.
    pub max_open: Option<i32>,
    /// Most stored bytes.
    pub max_stored_bytes: Option<i64>,
}

/// What the tenant has. Its uploads are begun one at a time until the transaction ends, so that two cannot both take the
/// last place.
pub async fn usage(tx: &mut PgConnection, tenant: TenantId) -> Result<Usage> {
    sqlx::query("select from tenant where id = $1 for no key update").bind(tenant).execute(&mut *tx).await?;
    let sql = "select count(*) filter (where u.state = 'receiving') as open,
        coalesce(sum(coalesce(u.size_bytes, greatest(u.received_bytes, u.length_bytes))), 0)::bigint as stored_bytes,
        t.max_open_uploads as max_open, t.max_stored_bytes
        from tenant t left join upload u on u.tenant_id = t.id and u.state in ('receiving', 'complete')
        where t.id = $1 group by t.max_open_uploads, t.max_stored_bytes";
    Ok(sqlx::query_as(sql).bind(tenant).fetch_one(tx).await?)
}

/// Notes an upload before its first byte is stored, so that no bytes are ever without an owner.
pub async fn insert(db: impl PgExecutor<'_>, new: &NewUpload) -> Result<Upload> {
    let (concat, parts): (_, &[UploadId]) = match &new.concat {
        Concat::None => (None, &[]),
        Concat::Partial => (Some("partial"), &[]),
        Concat::Final(parts) => (Some("final"), parts),
    };
    let expected = match &new.checksum {
        Wanted::Verify(digest) => Some(digest.as_slice()),
        Wanted::No | Wanted::Report => None,
    };
    let sql = concat!(
        "with audited as (",
        record!("$16"),
        ") insert into upload (id, tenant_id, filename, content_type, length_bytes, sent_metadata, hash_wanted,
            sha256_expected, concat, concat_sent, parts, probe, lock_token, lock_until, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, clock_timestamp() + make_interval(secs => $14),
            clock_timestamp() + make_interval(secs => $15)) returning ",
        columns!()
    );
    Ok(sqlx::query_as(sql)
        .bind(new.id)
        .bind(new.tenant)
        .bind(&new.filename)
        .bind(&new.content_type)
        .bind(new.length.map(bigint))
        .bind(&new.sent_metadata)
        .bind(new.checksum != Wanted::No)
        .bind(expected)
        .bind(concat)
        .bind(&new.concat_sent)
        .bind(parts.iter().map(|p| p.0).collect::<Vec<Uuid>>())
        .bind(new.probe)
        .bind(new.token)
        .bind(new.lease.as_secs_f64())
        .bind(new.expiry.as_secs_f64())
        .bind(super::audit::of(new.audit.as_ref()))
        .fetch_one(db)
        .await?)
}

/// Marks an upload complete; its bytes are durable and checked. `None` if it is not, or not any more, held with this token.
pub async fn complete(
    db: impl PgExecutor<'_>,
    id: UploadId,
    token: LeaseToken,
    size: u64,
    sha256: Option<&[u8]>,
) -> Result<Option<Upload>> {
    let sql = concat!(
        "update upload set state = 'complete', size_bytes = $3, length_bytes = $3, received_bytes = $3, sha256 = $4,
            completed_at = clock_timestamp(), expires_at = null, lock_token = null, lock_until = null, lock_wanted = false
        where id = $1 and lock_token = $2 and state = 'receiving' returning ",
        columns!()
    );
    Ok(sqlx::query_as(sql).bind(id).bind(token).bind(bigint(size)).bind(sha256).fetch_optional(db).await?)
}

/// Notes the job that was made of it.
pub async fn set_job(db: impl PgExecutor<'_>, id: UploadId, job: JobId) -> Result<()> {
    sqlx::query("update upload set job_id = $2 where id = $1").bind(id).bind(job).execute(db).await?;
    Ok(())
}

/// The tenant's upload.
pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, id: UploadId) -> Result<Option<Upload>> {
    let sql = concat!("select ", columns!(), " from upload where id = $1 and tenant_id = $2");
    Ok(sqlx::query_as(sql).bind(id).bind(tenant).fetch_optional(db).await?)
}

/// The tenant's upload, kept from vanishing until the transaction ends.
pub async fn find_for_share(db: impl PgExecutor<'_>, tenant: TenantId, id: UploadId) -> Result<Option<Upload>> {
    let sql = concat!("select ", columns!(), " from upload where id = $1 and tenant_id = $2 for share");
    Ok(sqlx::query_as(sql).bind(id).bind(tenant).fetch_optional(db).await?)
}

/// Those of these uploads that are the tenant's, kept from vanishing until the transaction ends.
pub async fn list_for_share(db: impl PgExecutor<'_>, tenant: TenantId, ids: &[UploadId]) -> Result<Vec<Upload>> {
    let sql =
        concat!("select ", columns!(), " from upload where id = any($1) and tenant_id = $2 order by id for share");
    let ids: Vec<Uuid> = ids.iter().map(|u| u.0).collect();
    Ok(sqlx::query_as(sql).bind(ids).bind(tenant).fetch_all(db).await?)
}

/// Bytes beyond what a bigint holds do not occur: they were refused when they were announced.
fn bigint(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
