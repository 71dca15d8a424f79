//! Is the service well? Live (the process answers), ready (it can take requests), whole (the checklist's `/health`),
//! and what the workers are like.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use shared::storage::Storage;
use shared::store;
use shared::store::worker::Worker;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::App;
use crate::auth::{May, QueuesRead};
use crate::openapi::ReadProblems;
use crate::problem::Result;

/// A part that does not answer within this long counts as away.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most workers listed.
const MAX_WORKERS: i64 = 500;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    Healthy,
    /// It works, but slower or only in part.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// Looks at the upload volume, one at a time: a dead mount never answers, and each look costs a thread.
#[derive(Default)]
pub struct VolumeLook(Mutex<Option<JoinHandle<bool>>>);

impl VolumeLook {
    /// Whether the storage is there, as far as can be said within `patience`.
    pub async fn is_there(&self, storage: &Storage, patience: Duration) -> bool {
        let look = async {
            let mut pending = self.0.lock().await;
            let storage = storage.clone();
            let look = pending.get_or_insert_with(|| tokio::task::spawn_blocking(move || storage.is_there()));
            let seen = look.await.unwrap_or(false);
            *pending = None;
            seen
        };
        timeout(patience, look).await.unwrap_or(false)
    }
}

/// Whether this process can take requests, and what it depends on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// The whole.
    pub status: Health,
    /// Version of the build.
    pub version: &'static str,
    /// PostgreSQL: without it nothing works.
    pub database: Health,
    /// Redis: without it jobs start some seconds later.
    pub redis: Health,
    /// The upload volume: without it no uploads.
    pub storage: Health,
    /// Whether the process is about to stop.
    pub draining: bool,
}

/// Is the process alive?
#[utoipa::path(get, path = "/health/live", tag = "health", operation_id = "live",
    responses((status = 200, description = "The process answers.", body = String, content_type = "text/plain", example = "alive\n")), security(()))]
pub async fn live() -> &'static str {
    "alive\n"
}

/// Can this process take requests?
///
/// 503 while the database or the upload volume is away, or while the process is about to stop. Redis being away only
/// degrades: jobs are accepted and start some seconds later.
#[utoipa::path(get, path = "/health/ready", tag = "health", operation_id = "ready",
    responses((status = 200, description = "It can.", body = Readiness), (status = 503, description = "It cannot.", body = Readiness)), security(()))]
pub async fn ready(State(app): State<Arc<App>>) -> (StatusCode, axum::Json<Readiness>) {
    check(&app).await
}

/// Is the service well?
///
/// The same as `/health/ready`, at the address the production checklist names.
#[utoipa::path(get, path = "/health", tag = "health", operation_id = "health",
    responses((status = 200, description = "It is.", body = Readiness), (status = 503, description = "It is not.", body = Readiness)), security(()))]
pub async fn health(State(app): State<Arc<App>>) -> (StatusCode, axum::Json<Readiness>) {
    check(&app).await
}

async fn check(app: &App) -> (StatusCode, axum::Json<Readiness>) {
    let (database, redis, storage) = tokio::join!(
        timeout(PATIENCE, store::ping(&app.db)),
        timeout(PATIENCE, app.queue.ping()),
        app.volume.is_there(&app.storage, PATIENCE),
    );
    let database = if matches!(database, Ok(Ok(()))) { Health::Healthy } else { Health::Unhealthy };
    let redis = if matches!(redis, Ok(Ok(()))) { Health::Healthy } else { Health::Unhealthy };
    let storage = if storage { Health::Healthy } else { Health::Unhealthy };
    let draining = app.draining.is_cancelled();
    let status = match (database, storage, redis) {
        _ if draining => Health::Unhealthy,
        (Health::Healthy, Health::Healthy, Health::Healthy) => Health::Healthy,
        (Health::Healthy, Health::Healthy, _) => Health::Degraded,
        _ => Health::Unhealthy,
    };
    let code = if status == Health::Unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, axum::Json(Readiness { status, version: env!("CARGO_PKG_VERSION"), database, redis, storage, draining }))
}

/// How well probing works.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProbeHealth {
    /// `unhealthy` when no worker that can probe is alive.
    pub status: Health,
    /// What only callers with credentials see.
    #[serde(flatten)]
    #[schema(value_type = ProbeDetails)]
    pub details: Option<ProbeDetails>,
}

/// What the queue and the workers are like. All of it or nothing is there, so no member is required.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProbeDetails {
    /// Jobs that wait; counted up to 10,001.
    #[schema(required = false)]
    pub queued: i64,
    /// Jobs that run; counted up to 10,001.
    #[schema(required = false)]
    pub running: i64,
    /// How long the longest-waiting due job has been due, in seconds.
    pub oldest_due_seconds: Option<f64>,
    /// Version of ffprobe on the workers; several if they differ.
    #[schema(required = false)]
    pub ffprobe_versions: Vec<String>,
    /// Live workers, newest first.
    #[schema(required = false)]
    pub workers: Vec<WorkerView>,
}

/// A live worker.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkerView {
    /// Host and process id.
    pub name: String,
    /// Version of the build.
    pub version: String,
    /// Version of its ffprobe.
    pub ffprobe_version: Option<String>,
    /// `probe`, `relay`, `upkeep`.
    pub roles: Vec<String>,
    /// Jobs it can run at once.
    pub slots: i32,
    /// Jobs it runs now.
    pub busy: i32,
    /// Media roots it has mounted.
    pub media_roots: Vec<String>,
    /// Whether it sees the upload volume.
    pub has_uploads: bool,
    /// S3 profiles it was given.
    pub s3_profiles: Vec<String>,
    /// What its sandbox does, by protection: `active`, `unavailable` with the reason, or `off`
    /// with how to switch it on.
    #[schema(value_type = Object)]
    pub protections: Value,
    /// Whether it is about to stop.
    pub draining: bool,
    /// Since when it runs.
    pub started_at: DateTime<Utc>,
    /// Its latest sign of life.
    pub beat_at: DateTime<Utc>,
}

impl From<Worker> for WorkerView {
    fn from(w: Worker) -> Self {
        Self {
            name: w.name,
            version: w.version,
            ffprobe_version: w.ffprobe_version,
            roles: w.roles,
            slots: w.slots,
            busy: w.busy,
            media_roots: w.media_roots,
            has_uploads: w.has_uploads,
            s3_profiles: w.s3_profiles,
            protections: w.protections.0,
            draining: w.draining,
            started_at: w.started_at,
            beat_at: w.beat_at,
        }
    }
}

/// How well does probing work?
///
/// Without credentials only `status`.
#[utoipa::path(
    get, path = "/api/v1/probe/health", tag = "health", operation_id = "probe_health",
    responses((status = 200, description = "How well probing works.", body = ProbeHealth), ReadProblems),
    security((), ("api_key" = ["queues:read"]), ("bearer" = ["queues:read"]))
)]
pub async fn probe_health(
    State(app): State<Arc<App>>,
    who: Option<May<QueuesRead>>,
) -> Result<axum::Json<ProbeHealth>> {
    let workers = store::worker::list_alive(&app.db, MAX_WORKERS).await?;
    let probing = |w: &&Worker| !w.draining && w.roles.iter().any(|r| r == "probe");
    let status = if workers.iter().any(|w| probing(&w)) { Health::Healthy } else { Health::Unhealthy };
    if who.is_none() {
        return Ok(axum::Json(ProbeHealth { status, details: None }));
    }
    let depth = store::job::dispatch::depth(&app.db).await?;
    let mut ffprobe_versions: Vec<String> = workers.iter().filter_map(|w| w.ffprobe_version.clone()).collect();
    ffprobe_versions.sort();
    ffprobe_versions.dedup();
    let details = ProbeDetails {
        queued: depth.queued,
        running: depth.running,
        oldest_due_seconds: depth.oldest_due_seconds,
        ffprobe_versions,
        workers: workers.into_iter().map(WorkerView::from).collect(),
    };
    Ok(axum::Json(ProbeHealth { status, details: Some(details) }))
}
