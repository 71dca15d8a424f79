//! The job: what is probed, how deep, and the five states it can be in. Pure data and rules; the only writer of
//! `state` is [`crate::lifecycle`].

pub mod address;
pub mod failure;
pub mod options;
pub mod progress;
pub mod retry;
pub mod source;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use failure::{Failure, FailureClass, FailureCode};
pub use options::{Accept, Budget, Options, ReuseOf};
pub use progress::{Estimate, Progress};
pub use source::{Located, Source};

use crate::audit::Event;
use crate::id::{BatchId, JobId, LeaseToken, TenantId};

/// Where a job stands. Waiting for a retry is `queued` with a later `run_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a worker.
    Queued,
    /// A worker holds the lease.
    Running,
    /// There is a result.
    Succeeded,
    /// There will be no result; `failure` says why.
    Failed,
    /// Somebody did not want it any more.
    Canceled,
}

impl JobState {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Canceled];

    /// The word used in JSON, SQL and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether nothing more will happen by itself.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

/// How deep to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Profile {
    /// What the headers say; the smallest read. Fields that only the media itself tells may be missing.
    Quick,
    /// Format, streams, chapters, programs, and the first frame of video that may be HDR (its metadata often stands only
    /// there).
    #[default]
    Standard,
    /// `standard`, and every packet of the file: bit rates over time, groups of pictures, gaps, interleaving. Reads it all.
    Packets,
    /// `standard`, and the first frames and some windows of frames of one video stream, decoded.
    Frames,
}

impl Profile {
    /// All profiles, from the cheapest.
    pub const ALL: [Self; 4] = [Self::Quick, Self::Standard, Self::Packets, Self::Frames];

    /// The word used in JSON, SQL and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Packets => "packets",
            Self::Frames => "frames",
        }
    }

    /// Which lane its jobs wait in.
    pub fn lane(self) -> Lane {
        match self {
            Self::Quick | Self::Standard => Lane::Fast,
            Self::Packets | Self::Frames => Lane::Scan,
        }
    }
}

/// Where a job waits. Scans read whole files and may take an hour, so they have a lane of their own and never take a
/// worker's last slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Lane {
    /// Quick looks.
    Fast,
    /// Reads whole files.
    Scan,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Fast, Self::Scan];

    /// The word used in JSON, SQL, settings and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Scan => "scan",
        }
    }
}

impl std::str::FromStr for Lane {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == word).ok_or(())
    }
}

/// Which job goes first when several are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[repr(i16)]
pub enum Priority {
    /// Before all others.
    High = 0,
    /// The usual.
    #[default]
    Normal = 1,
    /// When there is nothing better to do.
    Low = 2,
}

impl Priority {
    /// How much waiting makes up for one step of priority: a normal job that has waited this long goes before a high
    /// one that just came, so that nothing waits for ever.
    pub const AGEING: Duration = Duration::from_secs(300);
}

/// Where a client wants the end of a job, or of a batch, to be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobWebhook {
    /// Scheme, host and port: what all jobs that name it share.
    pub origin: String,
    /// The whole URL, sealed.
    pub sealed: Vec<u8>,
    /// Given back with the events.
    pub metadata: Option<serde_json::Value>,
}

/// What a client asks for, checked and ready to be stored.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The owner.
    pub tenant: TenantId,
    /// Where the bytes are.
    pub source: Source,
    /// For a path: the media roots to look in. A worker without all of them never claims the job.
    pub located: Option<Located>,
    /// For a URL: the whole of it and the request headers, sealed. Only a worker opens it.
    pub sealed: Option<Vec<u8>>,
    /// How deep to look.
    pub profile: Profile,
    /// What else it may do and how much it may take.
    pub options: Options,
    /// Which job goes first.
    pub priority: Priority,
    /// The client's own name for the job, unique per tenant.
    pub external_id: Option<String>,
    /// The client's own JSON object, given back unchanged.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// How often it may be started before it is given up.
    pub max_attempts: i16,
    /// Nobody wants it started later than this.
    pub expires_at: Option<DateTime<Utc>>,
    /// Where its end is to be told.
    pub webhook: Option<JobWebhook>,
    /// The event that tells of it, kept with it or not at all.
    pub audit: Option<Event>,
}

/// A job as stored.
#[derive(Debug, Clone)]
pub struct Job {
    /// The job.
    pub id: JobId,
    /// The owner.
    pub tenant: TenantId,
    /// Where it stands.
    pub state: JobState,
    /// How deep to look.
    pub profile: Profile,
    /// Where the bytes are.
    pub source: Source,
    /// For a path: the media roots to look in.
    pub located: Option<Located>,
    /// What else it may do and how much it may take.
    pub options: Options,
    /// Where it waits.
    pub lane: Lane,
    /// Which job goes first.
    pub priority: Priority,
    /// How often it was started.
    pub attempt: i16,
    /// How often it may be started.
    pub max_attempts: i16,
    /// The client's own name for it.
    pub external_id: Option<String>,
    /// The client's own JSON object.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// What it was handed in with.
    pub batch: Option<BatchId>,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// Not before this instant (a retry's back-off).
    pub run_at: DateTime<Utc>,
    /// Nobody wants it started later than this.
    pub expires_at: Option<DateTime<Utc>>,
    /// When its latest attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Why its latest attempt failed.
    pub failure: Option<Failure>,
    /// How far the running attempt is.
    pub progress: Option<Progress>,
}

/// A claimed job: what a worker needs to run it and the fence for its writes.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The job as it stood right after the claim.
    pub job: Job,
    /// Every later write carries it.
    pub token: LeaseToken,
    /// How long the job is held without a sign of life.
    pub lease: Duration,
    /// The client's name for the upload, if the source is one.
    pub upload_name: Option<String>,
    /// SHA-256 of the upload's bytes, if the source is one and it is known.
    pub upload_sha256: Option<Vec<u8>>,
    /// The whole URL and its request headers, sealed, if the source is one.
    pub sealed: Option<Vec<u8>>,
}
