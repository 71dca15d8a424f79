//! Uploads nobody wants any more: which they are, and how they are forgotten. The callers erase the bytes, always after the
//! row: bytes without a row are swept, a complete upload without bytes would be a lie.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::error::Result;
use crate::id::{LeaseToken, TenantId, UploadId};
use crate::upload::UploadState;

/// An upload that has all of its bytes, or all of its parts, and is not complete yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Finishable {
    /// The upload.
    pub id: UploadId,
    /// The owner.
    pub tenant: TenantId,
}

/// Uploads whose bytes are all there, or are to be put together from parts, and that nobody is at: a process died between
/// the last byte and the end. At most `limit`.
pub async fn list_finishable(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<Finishable>> {
    let sql = "select id, tenant_id as tenant from upload where state = 'receiving'
        and (received_bytes = length_bytes or concat = 'final')
        and (lock_token is null or lock_until < clock_timestamp()) order by created_at limit $1";
    Ok(sqlx::query_as(sql).bind(limit).fetch_all(db).await?)
}

/// Unfinished uploads whose time is over, or that are older than `age_seconds` and have none; oldest first, at most `limit`.
pub async fn list_abandoned(db: impl PgExecutor<'_>, age_seconds: f64, limit: i64) -> Result<Vec<UploadId>> {
    let sql = "select id from upload where state = 'receiving'
        and coalesce(expires_at, created_at + make_interval(secs => $1)) < clock_timestamp()
        and (lock_token is null or lock_until < clock_timestamp()) order by created_at limit $2";
    Ok(sqlx::query_scalar(sql).bind(age_seconds).bind(limit).fetch_all(db).await?)
}

/// Complete uploads that no job has used for `age`, and parts that were put together; oldest first, at most `limit`.
pub async fn list_unused(db: impl PgExecutor<'_>, age: Duration, limit: i64) -> Result<Vec<UploadId>> {
    let sql = "select id from upload u where state = 'complete'
        and (completed_at < clock_timestamp() - make_interval(secs => $1) or expires_at < clock_timestamp())
        and not exists (select from job where upload_id = u.id
            and (finished_at is null or finished_at > clock_timestamp() - make_interval(secs => $1)))
        order by completed_at limit $2";
    Ok(sqlx::query_scalar(sql).bind(age.as_secs_f64()).bind(limit).fetch_all(db).await?)
}

/// Lets these parts go in a while: they were put together.
pub async fn let_go(db: impl PgExecutor<'_>, parts: &[UploadId], after: Duration) -> Result<()> {
    let ids: Vec<Uuid> = parts.iter().map(|u| u.0).collect();
    let sql = "update upload set expires_at = clock_timestamp() + make_interval(secs => $2)
        where id = any($1) and state = 'complete'";
    sqlx::query(sql).bind(ids).bind(after.as_secs_f64()).execute(db).await?;
    Ok(())
}

/// Turns an upload that nobody holds into a memory of it. `false` if somebody holds it, a job that has not ended uses it,
/// or it is gone already. Two statements of one transaction: the first waits for a job that is just being accepted, the
/// second then sees it.
pub async fn bury(tx: &mut PgConnection, id: UploadId, state: UploadState) -> Result<bool> {
    sqlx::query("select from upload where id = $1 for update").bind(id).execute(&mut *tx).await?;
    let sql = "update upload set state = $2, gone_at = clock_timestamp(), size_bytes = null, completed_at = null,
            expires_at = null, lock_token = null, lock_until = null, lock_wanted = false
        where id = $1 and state in ('receiving', 'complete')
        and (lock_token is null or lock_until < clock_timestamp())
        and not exists (select from job where upload_id = $1 and finished_at is null)";
    Ok(sqlx::query(sql).bind(id).bind(state).execute(tx).await?.rows_affected() == 1)
}

/// Turns an unfinished upload into a memory of it, by its holder. `false` if the hold is lost.
pub async fn bury_held(db: impl PgExecutor<'_>, id: UploadId, token: LeaseToken, state: UploadState) -> Result<bool> {
    let sql = "update upload set state = $3, gone_at = clock_timestamp(), expires_at = null, lock_token = null,
            lock_until = null, lock_wanted = false
        where id = $1 and lock_token = $2 and state = 'receiving'";
    Ok(sqlx::query(sql).bind(id).bind(token).bind(state).execute(db).await?.rows_affected() == 1)
}

/// Forgets an unfinished upload without a memory, by its holder: nobody knows its id. `false` if the hold is lost.
pub async fn delete_held(db: impl PgExecutor<'_>, id: UploadId, token: LeaseToken) -> Result<bool> {
    let sql = "delete from upload where id = $1 and lock_token = $2 and state = 'receiving'";
    Ok(sqlx::query(sql).bind(id).bind(token).execute(db).await?.rows_affected() == 1)
}

/// Forgets up to `limit` memories of uploads that were gone for `age` and that no job names.
pub async fn prune(db: impl PgExecutor<'_>, age: Duration, limit: i64) -> Result<u64> {
    let sql = "delete from upload where id in (select id from upload u
        where gone_at < clock_timestamp() - make_interval(secs => $1)
        and not exists (select from job where upload_id = u.id) limit $2)";
    Ok(sqlx::query(sql).bind(age.as_secs_f64()).bind(limit).execute(db).await?.rows_affected())
}

/// Forgets a complete upload unless some job still uses it. `false` if one does, or the upload is gone. Two statements
/// of one transaction: the first waits for a job that is just being accepted, the second then sees it.
pub async fn delete_unused(tx: &mut PgConnection, id: UploadId) -> Result<bool> {
    sqlx::query("select from upload where id = $1 for update").bind(id).execute(&mut *tx).await?;
    let sql =
        "delete from upload where id = $1 and state = 'complete' and not exists (select from job where upload_id = $1)";
    Ok(sqlx::query(sql).bind(id).execute(tx).await?.rows_affected() == 1)
}

/// Which of these uploads have a row and may have bytes.
pub async fn list_known(db: impl PgExecutor<'_>, ids: &[UploadId]) -> Result<Vec<UploadId>> {
    let ids: Vec<Uuid> = ids.iter().map(|u| u.0).collect();
    let sql = "select id from upload where id = any($1) and gone_at is null";
    Ok(sqlx::query_scalar(sql).bind(ids).fetch_all(db).await?)
}

/// Complete uploads after the one with id `after`, in the order of their ids, at most `limit`: for a walk over all.
pub async fn list_complete(db: impl PgExecutor<'_>, after: Option<UploadId>, limit: i64) -> Result<Vec<UploadId>> {
    let sql = "select id from upload where state = 'complete' and ($1::uuid is null or id > $1) order by id limit $2";
    Ok(sqlx::query_scalar(sql).bind(after).bind(limit).fetch_all(db).await?)
}
