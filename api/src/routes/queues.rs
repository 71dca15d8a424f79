//! `/api/v1/queues`: the two lanes jobs wait in. Pausing one is for those who run the platform: running jobs go on,
//! nothing new starts, everything waits.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::job::Lane;
use shared::queue::Bell;
use shared::store::lane::StoredLane;
use shared::{Code, Error, store};
use utoipa::ToSchema;

use crate::App;
use crate::auth::{May, QueuesRead, QueuesWrite};
use crate::extract::{Id, Json};
use crate::instant::check_instant;
use crate::openapi::{ReadProblems, WriteProblems};
use crate::problem::{ProblemBody, Result};

/// Longest reason, in characters.
const MAX_REASON: usize = 500;

/// A queue.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueView {
    /// Its name: `fast` for quick looks, `scan` for jobs that read whole files.
    pub name: Lane,
    /// Whether it is paused now.
    pub paused: bool,
    /// Why.
    pub reason: Option<String>,
    /// When it resumes by itself; null: when somebody resumes it.
    pub until: Option<DateTime<Utc>>,
}

impl From<StoredLane> for QueueView {
    fn from(lane: StoredLane) -> Self {
        let paused = lane.paused;
        Self {
            name: lane.name,
            paused,
            reason: lane.paused_reason.filter(|_| paused),
            until: lane.paused_until.filter(|_| paused),
        }
    }
}

/// The queues.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueList {
    /// Both of them.
    pub data: Vec<QueueView>,
}

/// How to pause a queue.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "the storage is being moved", "until": "2030-01-01T06:00:00Z"}))]
pub struct PauseQueue {
    /// Why, for people.
    #[schema(max_length = 500)]
    pub reason: Option<String>,
    /// When it resumes by itself (RFC 3339); without one, when somebody resumes it.
    pub until: Option<DateTime<Utc>>,
}

/// List the queues
#[utoipa::path(
    get, path = "/api/v1/queues", tag = "queues", operation_id = "list_queues",
    responses((status = 200, description = "The queues.", body = QueueList), ReadProblems),
    security(("api_key" = ["queues:read"]), ("bearer" = ["queues:read"]))
)]
pub async fn list(State(app): State<Arc<App>>, _: May<QueuesRead>) -> Result<axum::Json<QueueList>> {
    let lanes = store::lane::list(&app.db).await?;
    Ok(axum::Json(QueueList { data: lanes.into_iter().map(QueueView::from).collect() }))
}

/// Pause a queue
///
/// Needs a platform key. Running jobs go on; nothing new starts until the queue is resumed or `until` is over.
#[utoipa::path(
    post, path = "/api/v1/queues/{name}/pause", tag = "queues", operation_id = "pause_queue",
    params(("name" = Lane, Path, description = "The queue.")),
    request_body = PauseQueue,
    responses(
        (status = 200, description = "The queue is paused.", body = QueueView),
        (status = 404, description = "There is no such queue.", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["queues:write"]), ("bearer" = ["queues:write"]))
)]
pub async fn pause(
    State(app): State<Arc<App>>,
    May(who, _): May<QueuesWrite>,
    Id(lane): Id<Lane>,
    Json { value: body, .. }: Json<PauseQueue>,
) -> Result<axum::Json<QueueView>> {
    if let Some(until) = body.until {
        check_instant(until).map_err(|e| e.at("/until"))?;
    }
    if body.until.is_some_and(|until| until <= Utc::now()) {
        return Err(Error::new(Code::InvalidValue, "until is over already. Name a later instant, or none.")
            .at("/until")
            .into());
    }
    if body.reason.as_ref().is_some_and(|r| r.chars().count() > MAX_REASON || r.chars().any(char::is_control)) {
        let detail = format!("A reason has at most {MAX_REASON} characters and no control characters.");
        return Err(Error::new(Code::InvalidValue, detail).at("/reason").into());
    }
    let paused = store::lane::pause(&app.db, lane, body.reason.as_deref(), body.until).await?;
    tracing::warn!(queue = lane.as_str(), key = %who.key, reason = body.reason, "queue paused");
    Ok(axum::Json(paused.into()))
}

/// Resume a queue
///
/// Needs a platform key.
#[utoipa::path(
    post, path = "/api/v1/queues/{name}/resume", tag = "queues", operation_id = "resume_queue",
    params(("name" = Lane, Path, description = "The queue.")),
    responses(
        (status = 200, description = "The queue runs.", body = QueueView),
        (status = 404, description = "There is no such queue.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["queues:write"]), ("bearer" = ["queues:write"]))
)]
pub async fn resume(
    State(app): State<Arc<App>>,
    May(who, _): May<QueuesWrite>,
    Id(lane): Id<Lane>,
) -> Result<axum::Json<QueueView>> {
    let resumed = store::lane::resume(&app.db, lane).await?;
    tracing::warn!(queue = lane.as_str(), key = %who.key, "queue resumed");
    app.ring(Bell::Wake).await;
    Ok(axum::Json(resumed.into()))
}
