//! Uploads: who owns which bytes, and whether they are all there.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::error::Result;
use crate::id::{TenantId, UploadId};

/// An upload as stored.
#[derive(Debug, Clone, FromRow)]
pub struct Upload {
    /// The upload.
    pub id: UploadId,
    /// `receiving` or `complete`.
    pub state: String,
    /// The client's name for the file.
    pub filename: String,
    /// The client's word for what it is; never trusted.
    pub content_type: Option<String>,
    /// Null until complete.
    pub size_bytes: Option<i64>,
    /// When its first byte was awaited.
    pub created_at: DateTime<Utc>,
    /// When its last byte was durable.
    pub completed_at: Option<DateTime<Utc>>,
}

macro_rules! columns {
    () => {
        "id, state, filename, content_type, size_bytes, created_at, completed_at"
    };
}

/// Notes an upload before its first byte is stored, so that no bytes are ever without an owner.
pub async fn insert(
    db: impl PgExecutor<'_>,
    id: UploadId,
    tenant: TenantId,
    filename: &str,
    content_type: Option<&str>,
) -> Result<()> {
    let sql = "insert into upload (id, tenant_id, filename, content_type) values ($1, $2, $3, $4)";
    sqlx::query(sql).bind(id).bind(tenant).bind(filename).bind(content_type).execute(db).await?;
    Ok(())
}

/// Marks an upload complete; its bytes are durable. `None` if it is no longer being received.
pub async fn complete(db: impl PgExecutor<'_>, id: UploadId, size_bytes: i64) -> Result<Option<Upload>> {
    let sql = concat!(
        "update upload set state = 'complete', size_bytes = $2, completed_at = clock_timestamp()
        where id = $1 and state = 'receiving' returning ",
        columns!()
    );
    Ok(sqlx::query_as(sql).bind(id).bind(size_bytes).fetch_optional(db).await?)
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

/// Forgets an upload that was never completed.
pub async fn delete_unfinished(db: impl PgExecutor<'_>, id: UploadId) -> Result<bool> {
    let done = sqlx::query("delete from upload where id = $1 and state = 'receiving'").bind(id).execute(db).await?;
    Ok(done.rows_affected() == 1)
}

/// Unfinished uploads older than `age_seconds`, oldest first, at most `limit`.
pub async fn list_abandoned(db: impl PgExecutor<'_>, age_seconds: f64, limit: i64) -> Result<Vec<UploadId>> {
    let sql = "select id from upload where state = 'receiving'
        and created_at < clock_timestamp() - make_interval(secs => $1) order by created_at limit $2";
    Ok(sqlx::query_scalar(sql).bind(age_seconds).bind(limit).fetch_all(db).await?)
}

/// Forgets a complete upload unless some job still uses it. `false` if one does, or the upload is gone. Two statements
/// of one transaction: the first waits for a job that is just being accepted, the second then sees it.
pub async fn delete_unused(tx: &mut PgConnection, id: UploadId) -> Result<bool> {
    sqlx::query("select from upload where id = $1 for update").bind(id).execute(&mut *tx).await?;
    let sql =
        "delete from upload where id = $1 and state = 'complete' and not exists (select from job where upload_id = $1)";
    Ok(sqlx::query(sql).bind(id).execute(tx).await?.rows_affected() == 1)
}

/// Which of these uploads have a row.
pub async fn list_known(db: impl PgExecutor<'_>, ids: &[UploadId]) -> Result<Vec<UploadId>> {
    let ids: Vec<Uuid> = ids.iter().map(|u| u.0).collect();
    Ok(sqlx::query_scalar("select id from upload where id = any($1)").bind(ids).fetch_all(db).await?)
}

/// Complete uploads older than `age_seconds` that no job uses, oldest first, at most `limit`.
pub async fn list_orphans(db: impl PgExecutor<'_>, age_seconds: f64, limit: i64) -> Result<Vec<UploadId>> {
    let sql = "select id from upload u where state = 'complete'
        and completed_at < clock_timestamp() - make_interval(secs => $1)
        and not exists (select from job where upload_id = u.id) order by completed_at limit $2";
    Ok(sqlx::query_scalar(sql).bind(age_seconds).bind(limit).fetch_all(db).await?)
}
