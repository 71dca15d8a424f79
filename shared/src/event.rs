//! What happened, in the words that webhooks and event streams send. Written by the database with the change itself
//! (`migrations/0012_event.sql`), published by `lifecycle::publish`, read through `store::event`. Pure.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::id::{BatchId, EventId, JobId, TenantId};
use crate::job::{Failure, Job, JobState, Profile, Progress, Source};

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[sqlx(type_name = "text")]
pub enum EventType {
    /// A job waits: it was accepted, or it is to be tried again.
    #[serde(rename = "job.queued")]
    #[sqlx(rename = "job.queued")]
    JobQueued,
    /// A worker began an attempt.
    #[serde(rename = "job.started")]
    #[sqlx(rename = "job.started")]
    JobStarted,
    /// A running job came further. Only of jobs that run for longer than some seconds.
    #[serde(rename = "job.progress")]
    #[sqlx(rename = "job.progress")]
    JobProgress,
    /// There is a result.
    #[serde(rename = "job.succeeded")]
    #[sqlx(rename = "job.succeeded")]
    JobSucceeded,
    /// There will be no result.
    #[serde(rename = "job.failed")]
    #[sqlx(rename = "job.failed")]
    JobFailed,
    /// Somebody did not want it any more.
    #[serde(rename = "job.canceled")]
    #[sqlx(rename = "job.canceled")]
    JobCanceled,
    /// All bytes of an upload are there.
    #[serde(rename = "upload.completed")]
    #[sqlx(rename = "upload.completed")]
    UploadCompleted,
    /// Every job of a batch has ended.
    #[serde(rename = "batch.completed")]
    #[sqlx(rename = "batch.completed")]
    BatchCompleted,
    /// A webhook gets nothing any more, because it failed for days or said that it is gone.
    #[serde(rename = "webhook.disabled")]
    #[sqlx(rename = "webhook.disabled")]
    WebhookDisabled,
    /// Somebody wanted to see whether it arrives.
    #[serde(rename = "ping")]
    #[sqlx(rename = "ping")]
    Ping,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::JobQueued,
        Self::JobStarted,
        Self::JobProgress,
        Self::JobSucceeded,
        Self::JobFailed,
        Self::JobCanceled,
        Self::UploadCompleted,
        Self::BatchCompleted,
        Self::WebhookDisabled,
        Self::Ping,
    ];

    /// The word used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobQueued => "job.queued",
            Self::JobStarted => "job.started",
            Self::JobProgress => "job.progress",
            Self::JobSucceeded => "job.succeeded",
            Self::JobFailed => "job.failed",
            Self::JobCanceled => "job.canceled",
            Self::UploadCompleted => "upload.completed",
            Self::BatchCompleted => "batch.completed",
            Self::WebhookDisabled => "webhook.disabled",
            Self::Ping => "ping",
        }
    }

    /// Whether a job has ended with it.
    pub fn ends_a_job(self) -> bool {
        matches!(self, Self::JobSucceeded | Self::JobFailed | Self::JobCanceled)
    }
}

impl std::str::FromStr for EventType {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or(())
    }
}

/// An event, as it is sent. Its JSON is the body of a webhook and the data of a stream's event.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Event {
    /// What receivers know it by: the same over all tries, and in every place.
    #[serde(skip)]
    pub id: EventId,
    /// Whom it is for.
    #[serde(skip)]
    pub tenant: TenantId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// When it happened.
    pub timestamp: DateTime<Utc>,
    /// Its place in the order of events: each event of a tenant has a higher one than those before it.
    pub sequence: i64,
    /// What it happened to.
    pub data: About,
}

impl Event {
    /// The job it is about.
    pub fn job(&self) -> Option<JobId> {
        match &self.data {
            About::Job { job } => Some(job.id),
            About::Other(_) => None,
        }
    }
}

/// What an event happened to.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = EventData)]
pub enum About {
    /// A job.
    Job {
        /// The job, as it was then.
        job: Box<EventJob>,
    },
    /// Anything else: an object with one member, named as the type begins.
    #[schema(value_type = Object)]
    Other(Map<String, Value>),
}

/// What a change made of a job: the part that is stored with the event.
#[derive(Debug, Clone, Deserialize)]
pub struct Change {
    /// Where it stood then.
    pub state: JobState,
    /// How often it had been started.
    pub attempt: i16,
    /// How often it could be started.
    pub max_attempts: i16,
    /// When its latest attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Why its latest attempt failed.
    pub failure: Option<Failure>,
    /// How far it was.
    pub progress: Option<Progress>,
}

/// A job in an event: as it was when that happened.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EventJob {
    /// The job.
    pub id: JobId,
    /// Where it stood.
    pub state: JobState,
    /// How deep it looks.
    pub profile: Profile,
    /// Where the bytes are.
    pub source: Source,
    /// How often it had been started.
    pub attempt: i16,
    /// How often it could be started.
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
    /// When its latest attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Why its latest attempt failed.
    pub failure: Option<Failure>,
    /// How far the running attempt was.
    pub progress: Option<Progress>,
}

impl EventJob {
    /// The job as the change left it.
    pub fn new(job: &Job, change: Change) -> Self {
        Self {
            id: job.id,
            state: change.state,
            profile: job.profile,
            source: job.source.clone(),
            attempt: change.attempt,
            max_attempts: change.max_attempts,
            external_id: job.external_id.clone(),
            metadata: job.metadata.clone(),
            batch_id: job.batch,
            created_at: job.created_at,
            started_at: change.started_at,
            finished_at: change.finished_at,
            failure: change.failure,
            progress: change.progress,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_one_word_everywhere() {
        for kind in EventType::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).expect("a word"), kind.as_str());
        }
        assert_eq!("job.lost".parse::<EventType>(), Err(()));
    }
}
