//! What clients see of a job and its result.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::completeness::Completeness;
use shared::frames;
use shared::id::{BatchId, JobId};
use shared::job::{Accept, Budget, Failure, Job, JobState, Priority, Profile, Progress, ReuseOf, Source};
use shared::media::Media;
use shared::packets::Packets;
use shared::store::job::dispatch::{Place, WaitingFor};
use shared::store::result::{SqlJson, StoredResult};
use utoipa::ToSchema;

/// A job.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobView {
    /// The job.
    pub id: JobId,
    /// Where it stands.
    pub state: JobState,
    /// How deep it looks.
    pub profile: Profile,
    /// Where the bytes are.
    pub source: Source,
    /// Kinds of input it takes besides audio and video.
    pub accept: Vec<Accept>,
    /// The most it may take.
    pub budget: Budget,
    /// What of an earlier job's work it may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reuse: Option<ReuseOf>,
    /// Which frames it looks at, if it was asked to look at others than usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<frames::Request>,
    /// Which job goes first.
    pub priority: Priority,
    /// How often it was started.
    pub attempt: i16,
    /// How often it may be started.
    pub max_attempts: i16,
    /// Your own name for it.
    pub external_id: Option<String>,
    /// Your own JSON object.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// The batch it was handed in with.
    pub batch_id: Option<BatchId>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// It is not started later than this.
    pub expires_at: Option<DateTime<Utc>>,
    /// Where it stands in its queue; only while it is queued, and only where a single job is shown. May be null there, too,
    /// if it could not be found out in time.
    pub queue: Option<QueuePlace>,
    /// When its latest attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Why its latest attempt failed.
    pub failure: Option<Failure>,
    /// How far the running attempt is.
    pub progress: Option<Progress>,
    /// The result, if it was asked for and is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultView>,
}

impl JobView {
    /// The job as clients see it, with its result inside if given.
    pub fn new(job: Job, result: Option<StoredResult>) -> Self {
        Self {
            id: job.id,
            state: job.state,
            profile: job.profile,
            source: job.source,
            accept: job.options.accept,
            budget: job.options.budget,
            reuse: job.options.reuse,
            frames: job.options.frames,
            priority: job.priority,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            external_id: job.external_id,
            metadata: job.metadata,
            batch_id: job.batch,
            created_at: job.created_at,
            expires_at: job.expires_at,
            queue: None,
            started_at: job.started_at,
            finished_at: job.finished_at,
            failure: job.failure,
            progress: job.progress,
            result: result.map(ResultView::from),
        }
    }
}

/// Where a job stands in its queue.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueuePlace {
    /// Its place among your due jobs of the same queue, from 1, counted up to 10,001; null before it is due. Tenants
    /// take turns, so the jobs of others do not count.
    pub position: Option<i64>,
    /// What it waits for.
    pub waiting_for: WaitingFor,
}

impl From<Place> for QueuePlace {
    fn from(place: Place) -> Self {
        Self { position: place.position, waiting_for: place.waiting_for }
    }
}

/// A page of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct JobPage {
    /// The jobs, newest first.
    pub data: Vec<JobView>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// For the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// What was found in the media.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResultView {
    /// The job.
    pub job_id: JobId,
    /// The normalised description.
    #[schema(value_type = Media)]
    pub media: Shaped<Media>,
    /// Whether the file is all there, with evidence; null for results of earlier versions.
    #[schema(value_type = Option<Completeness>)]
    pub completeness: Option<Shaped<Completeness>>,
    /// Reasons to doubt what was found, although the probe succeeded; usually empty.
    pub suspicious: Vec<String>,
    /// The summary of every packet, with the profile `packets`. Bit rates over time are read with
    /// `GET /api/v1/jobs/{id}/series/{stream}`.
    #[schema(value_type = Option<Packets>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<Shaped<Packets>>,
    /// What was seen in the frames, with the profile `frames`.
    #[schema(value_type = Option<frames::Frames>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<Shaped<frames::Frames>>,
    /// ffprobe's own JSON, verbatim except for `format.filename`, which is your name for the file.
    #[schema(value_type = Object)]
    pub ffprobe: Box<RawValue>,
    /// How it came about: versions, arguments, cost.
    #[schema(value_type = Object)]
    pub provenance: Value,
    /// What ffprobe complained of.
    pub warnings: Vec<String>,
    /// Whether a limit bit, so that something may be missing.
    pub degraded: bool,
    /// The job whose result this is a copy of; null if ffprobe ran for this one.
    pub reused_from: Option<JobId>,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}

/// A part of the result with its members in the order they are documented in: jsonb forgets it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Shaped<T> {
    /// One that this build knows.
    Known(Box<T>),
    /// One that another build wrote; given as it is.
    Other(Value),
}

impl<T: DeserializeOwned> From<SqlJson<Value>> for Shaped<T> {
    fn from(stored: SqlJson<Value>) -> Self {
        match T::deserialize(&stored.0) {
            Ok(known) => Self::Known(Box::new(known)),
            Err(_) => Self::Other(stored.0),
        }
    }
}

impl From<StoredResult> for ResultView {
    fn from(stored: StoredResult) -> Self {
        Self {
            job_id: stored.job_id,
            media: stored.media.into(),
            completeness: stored.completeness.map(Shaped::from),
            suspicious: stored.suspicious,
            packets: stored.packets.map(Shaped::from),
            frames: stored.frames.map(Shaped::from),
            // the text was checked to be JSON before it was stored
            ffprobe: RawValue::from_string(stored.ffprobe).unwrap_or_else(|_| RawValue::NULL.to_owned()),
            provenance: stored.provenance.0,
            warnings: stored.warnings,
            degraded: stored.degraded,
            reused_from: stored.reused_from,
            created_at: stored.created_at,
        }
    }
}
