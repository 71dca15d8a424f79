//! The registry of worker processes: who is alive, what it can reach, how much it can take.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{FromRow, PgExecutor};

use crate::error::Result;
use crate::id::WorkerId;
use crate::job::Lane;

/// A worker counts as alive for this many seconds after its last beat.
pub const ALIVE_SECONDS: f64 = 15.0;

/// What a worker says of itself at its start.
#[derive(Debug, Clone)]
pub struct NewWorker {
    /// This run of the process.
    pub id: WorkerId,
    /// Host and process id.
    pub name: String,
    /// Version of the build.
    pub version: String,
    /// Version of its ffprobe; null without the probe role.
    pub ffprobe_version: Option<String>,
    /// `probe`, `relay`, `upkeep`.
    pub roles: Vec<String>,
    /// Lanes it serves; none without the probe role.
    pub lanes: Vec<String>,
    /// Jobs it runs at once.
    pub slots: i32,
    /// What the sandbox canary saw, by protection.
    pub protections: serde_json::Value,
    /// S3 profiles it was given.
    pub s3_profiles: Vec<String>,
}

/// What changes while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Jobs it runs now.
    pub busy: i32,
    /// Media roots it has mounted.
    pub media_roots: Vec<String>,
    /// Whether it sees the upload volume of this installation.
    pub has_uploads: bool,
    /// Whether it takes no new jobs because it is about to stop.
    pub draining: bool,
}

/// A worker as shown to people.
#[derive(Debug, Clone, FromRow)]
pub struct Worker {
    /// Host and process id.
    pub name: String,
    /// Version of the build.
    pub version: String,
    /// Version of its ffprobe.
    pub ffprobe_version: Option<String>,
    /// Its roles.
    pub roles: Vec<String>,
    /// Lanes it serves.
    pub lanes: Vec<String>,
    /// Jobs it can run at once.
    pub slots: i32,
    /// Jobs it runs now.
    pub busy: i32,
    /// Media roots it has mounted.
    pub media_roots: Vec<String>,
    /// Whether it sees the upload volume.
    pub has_uploads: bool,
    /// What the sandbox canary saw, by protection.
    pub protections: Json<serde_json::Value>,
    /// S3 profiles it was given.
    pub s3_profiles: Vec<String>,
    /// Whether it is about to stop.
    pub draining: bool,
    /// Since when it runs.
    pub started_at: DateTime<Utc>,
    /// Its latest sign of life.
    pub beat_at: DateTime<Utc>,
}

/// What all live workers of a lane can take together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
pub struct Capacity {
    /// Live workers that are not draining.
    pub workers: i64,
    /// Their free slots.
    pub free_slots: i64,
}

/// Writes the worker's row or, after the row was pruned, writes it again; the beat of its life.
pub async fn beat(db: impl PgExecutor<'_>, worker: &NewWorker, now: &Condition) -> Result<()> {
    let sql = "insert into worker (id, name, version, ffprobe_version, roles, lanes, slots, protections, busy, media_roots, has_uploads, draining, s3_profiles)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        on conflict on constraint worker_pkey do update set busy = excluded.busy, media_roots = excluded.media_roots,
            has_uploads = excluded.has_uploads, draining = excluded.draining, beat_at = clock_timestamp()";
    sqlx::query(sql)
        .bind(worker.id)
        .bind(&worker.name)
        .bind(&worker.version)
        .bind(&worker.ffprobe_version)
        .bind(&worker.roles)
        .bind(&worker.lanes)
        .bind(worker.slots)
        .bind(&worker.protections)
        .bind(now.busy)
        .bind(&now.media_roots)
        .bind(now.has_uploads)
        .bind(now.draining)
        .bind(&worker.s3_profiles)
        .execute(db)
        .await?;
    Ok(())
}

/// Signs the worker off.
pub async fn delete(db: impl PgExecutor<'_>, id: WorkerId) -> Result<()> {
    sqlx::query("delete from worker where id = $1").bind(id).execute(db).await?;
    Ok(())
}

/// Forgets workers that have been silent for an hour. Returns how many.
pub async fn prune(db: impl PgExecutor<'_>) -> Result<u64> {
    let sql = "delete from worker where beat_at < clock_timestamp() - interval '1 hour'";
    Ok(sqlx::query(sql).execute(db).await?.rows_affected())
}

/// Live workers, newest first, at most `limit`.
pub async fn list_alive(db: impl PgExecutor<'_>, limit: i64) -> Result<Vec<Worker>> {
    let sql = "select name, version, ffprobe_version, roles, lanes, slots, busy, media_roots, has_uploads, protections, s3_profiles, draining, started_at, beat_at
        from worker where beat_at > clock_timestamp() - make_interval(secs => $1) order by started_at desc limit $2";
    Ok(sqlx::query_as(sql).bind(ALIVE_SECONDS).bind(limit).fetch_all(db).await?)
}

/// What all live workers of a lane can take together.
pub async fn capacity(db: impl PgExecutor<'_>, lane: Lane) -> Result<Capacity> {
    let sql = "select count(*) as workers, coalesce(sum(greatest(slots - busy, 0)), 0)::bigint as free_slots
        from worker where beat_at > clock_timestamp() - make_interval(secs => $1) and $2 = any(lanes) and not draining";
    Ok(sqlx::query_as(sql).bind(ALIVE_SECONDS).bind(lane).fetch_one(db).await?)
}
