//! What clients send to `/api/v1/jobs`, and the checks it must pass.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::access::Principal;
use shared::frames;
use shared::id::BatchId;
use shared::job::{Accept, Budget, JobState, NewJob, Options, Priority, Profile, ReuseOf};
use shared::store::job::{Filter, SourceKind};
use shared::{Code, Error};
use utoipa::{IntoParams, ToSchema};

use super::source::{Checked, SourceRequest};
use crate::App;
use crate::extract::{object, object_or_null};
use crate::instant::check_instant;
use crate::routes::webhooks::request::JobWebhookRequest;

/// Jobs on a page when the client does not say.
const DEFAULT_PAGE: i64 = 50;

/// A job to be accepted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"source": {"type": "path", "path": "/test/sample.mp4"}, "profile": "standard"}))]
pub struct CreateJob {
    /// Where the bytes are.
    #[serde(deserialize_with = "object")]
    pub source: SourceRequest,
    /// How deep to look.
    #[serde(default)]
    pub profile: Profile,
    /// Kinds of input to take besides audio and video; without it, images, subtitles and text fail as `blocked_format`.
    #[serde(default)]
    #[schema(example = json!(["image"]))]
    pub accept: Vec<Accept>,
    /// The most it may take; without it, the profile's own limits count.
    #[serde(default, deserialize_with = "object")]
    pub budget: Budget,
    /// `result` takes the result of an earlier job of yours for the same bytes, profile, options and version of ffprobe, at
    /// once. Two such jobs at the same time run once. The bytes are the same if they are the same upload, an upload with the
    /// same SHA-256, or a file of the same size, time of change and inode; objects behind URLs and in S3 are always looked at.
    pub reuse: Option<ReuseOf>,
    /// Which frames to look at; only with the profile `frames`.
    #[serde(default, deserialize_with = "object_or_null")]
    pub frames: Option<frames::Request>,
    /// Which job goes first.
    #[serde(default)]
    pub priority: Priority,
    /// Your own name for the job, unique in your tenant.
    #[schema(min_length = 1, max_length = 200)]
    pub external_id: Option<String>,
    /// Your own JSON object, given back with the job; at most 16 KiB. Its members may come back in another order, and
    /// numbers beyond 64 bits lose digits.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// Where its end is to be told: `job.succeeded`, `job.failed` or `job.canceled` is posted there, signed with your tenant's
    /// default secret.
    #[serde(default, deserialize_with = "object_or_null")]
    pub webhook: Option<JobWebhookRequest>,
    /// Do not start it later than this instant (RFC 3339); a job that is not started by then is canceled.
    pub expires_at: Option<DateTime<Utc>>,
}

impl CreateJob {
    /// A job with nothing but its source said.
    pub fn of(source: SourceRequest) -> Self {
        Self {
            source,
            profile: Profile::default(),
            accept: Vec::new(),
            budget: Budget::default(),
            reuse: None,
            frames: None,
            priority: Priority::default(),
            external_id: None,
            metadata: Map::new(),
            webhook: None,
            expires_at: None,
        }
    }

    /// The job ready to be stored, if everything in it is as it must be.
    pub fn check(self, who: &Principal, app: &App) -> Result<NewJob, Error> {
        let limits = &app.limits;
        if let Some(id) = &self.external_id {
            check_external_id(id, limits.external_id_chars)?;
        }
        check_metadata(&self.metadata, limits.metadata_bytes)?;
        if let Some(at) = self.expires_at {
            check_instant(at).map_err(|e| e.at("/expires_at"))?;
        }
        if self.frames.is_some() && self.profile != Profile::Frames {
            let detail =
                "'frames' says which frames the profile 'frames' looks at. Choose that profile, or leave it out.";
            return Err(Error::new(Code::InvalidValue, detail).at("/frames"));
        }
        let mut options = Options { accept: self.accept, budget: self.budget, reuse: self.reuse, frames: self.frames };
        options.accept.sort_unstable();
        options.accept.dedup();
        options.check()?;
        let Checked { source, located, sealed } = self.source.check(who, app)?;
        let webhook = self.webhook.map(|webhook| webhook.check(who, app)).transpose()?;
        Ok(NewJob {
            tenant: who.tenant,
            source,
            located,
            sealed,
            options,
            profile: self.profile,
            priority: self.priority,
            external_id: self.external_id,
            metadata: self.metadata,
            max_attempts: limits.max_attempts,
            expires_at: self.expires_at,
            webhook,
            audit: None,
        })
    }
}

/// Checks a client's own name for something.
pub fn check_external_id(id: &str, max_chars: usize) -> Result<(), Error> {
    let length = id.chars().count();
    if length == 0 || length > max_chars || id.chars().any(char::is_control) {
        let detail = format!("An external_id has 1 to {max_chars} characters and no control characters.");
        return Err(Error::new(Code::InvalidValue, detail).at("/external_id"));
    }
    Ok(())
}

/// Checks an object of a client's own: its size as compact JSON, and that PostgreSQL can hold it.
pub fn check_metadata(metadata: &Map<String, Value>, max_bytes: usize) -> Result<(), Error> {
    let text = serde_json::to_string(metadata).map_err(Error::internal)?;
    if text.len() > max_bytes {
        let detail = format!("The metadata has {} bytes as compact JSON; at most {max_bytes} are kept.", text.len());
        return Err(Error::new(Code::InvalidValue, detail).at("/metadata"));
    }
    // a JSON text writes NUL only in this way; PostgreSQL's jsonb cannot hold one
    if text.contains("\\u0000") && metadata.iter().any(|(k, v)| k.contains('\0') || holds_nul(v)) {
        return Err(Error::new(
            Code::InvalidValue,
            "The metadata contains a NUL character, which cannot be stored. Remove it.",
        )
        .at("/metadata"));
    }
    Ok(())
}

/// Recursion is bounded: serde_json reads at most 128 levels.
fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(s) => s.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(map) => map.iter().any(|(k, v)| k.contains('\0') || holds_nul(v)),
        _ => false,
    }
}

/// What else to show of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Include {
    /// Its result.
    Result,
}

/// Query of a single job.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ShowQuery {
    /// Answer when the job has ended, or after this many seconds.
    #[param(minimum = 0, maximum = 30)]
    wait: Option<u64>,
    /// `result` puts the result inside the job.
    #[param(inline)]
    pub include: Option<Include>,
}

impl ShowQuery {
    /// How long to wait, if it says.
    pub fn wait(&self, max_seconds: u64) -> Result<Option<Duration>, Error> {
        if let Some(seconds) = self.wait.filter(|seconds| *seconds > max_seconds) {
            return Err(Error::new(
                Code::BadRequest,
                format!("wait={seconds} is too long; ask for at most {max_seconds} seconds and repeat."),
            ));
        }
        Ok(self.wait.map(Duration::from_secs))
    }
}

/// Query of a list of jobs. All filters must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only these states, joined by commas.
    #[param(
        example = "queued,running",
        pattern = "^(queued|running|succeeded|failed|canceled)?(,(queued|running|succeeded|failed|canceled)?)*$"
    )]
    state: Option<String>,
    /// Only this profile.
    profile: Option<Profile>,
    /// Only the job with this external id.
    #[param(pattern = "^[^\\x00]*$")]
    external_id: Option<String>,
    /// Only jobs of this batch.
    batch_id: Option<BatchId>,
    /// Only jobs created at this instant (RFC 3339) or later.
    created_from: Option<DateTime<Utc>>,
    /// Only jobs created before this instant (RFC 3339).
    created_before: Option<DateTime<Utc>>,
    /// Jobs on a page; with `include=result` there are never more than 20, and fewer if their results are large.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// `result` puts each result inside its job.
    #[param(inline)]
    pub include: Option<Include>,
}

impl ListQuery {
    /// The filters.
    pub fn filter(&self) -> Result<Filter, Error> {
        let words = self.state.as_deref().unwrap_or_default().split(',').filter(|w| !w.is_empty());
        let states = words.map(state).collect::<Result<Vec<_>, _>>()?;
        for at in [self.created_from, self.created_before].into_iter().flatten() {
            check_instant(at)?;
        }
        if self.external_id.as_ref().is_some_and(|id| id.contains('\0')) {
            return Err(Error::new(Code::InvalidValue, "An external_id has no control characters."));
        }
        Ok(Filter {
            states,
            profile: self.profile,
            external_id: self.external_id.clone(),
            created_from: self.created_from,
            created_before: self.created_before,
            source: None,
            batch: self.batch_id,
        })
    }

    /// The filters, and only jobs whose source is a path.
    pub fn filter_paths(&self) -> Result<Filter, Error> {
        Ok(Filter { source: Some(SourceKind::Path), ..self.filter()? })
    }

    /// How many jobs to show.
    pub fn limit(&self, max: i64) -> Result<i64, Error> {
        page_limit(self.limit, max)
    }
}

/// Query of a list without filters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Items on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageQuery {
    /// How many items to show.
    pub fn limit(&self, max: i64) -> Result<i64, Error> {
        page_limit(self.limit, max)
    }
}

/// How many items a page shows, if it may show so many.
pub fn page_limit(asked: Option<i64>, max: i64) -> Result<i64, Error> {
    match asked {
        None => Ok(DEFAULT_PAGE.min(max)),
        Some(limit) if (1..=max).contains(&limit) => Ok(limit),
        Some(limit) => {
            Err(Error::new(Code::BadRequest, format!("limit={limit} is out of range; here it is 1 to {max}.")))
        }
    }
}

/// Points in an answer when the client does not say.
const DEFAULT_POINTS: u32 = 500;

/// Which part of a series, and how coarse.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SeriesQuery {
    /// First second that is wanted; from the start without it.
    #[param(example = 0)]
    from: Option<f64>,
    /// Second that is not wanted any more; to the end without it.
    #[param(example = 3600)]
    to: Option<f64>,
    /// Most points; neighbours are added up until no more are left.
    #[param(minimum = 1, maximum = 5_000, default = 500)]
    points: Option<u32>,
}

impl SeriesQuery {
    /// The part that is wanted, in seconds, and the most points.
    pub fn part(&self, most: u32) -> Result<(f64, f64, usize), Error> {
        let bad = |detail: String| Err(Error::new(Code::BadRequest, detail));
        let points = self.points.unwrap_or(DEFAULT_POINTS);
        if !(1..=most).contains(&points) {
            return bad(format!("points={points} is out of range; here it is 1 to {most}."));
        }
        let (from, to) = (self.from.unwrap_or(f64::NEG_INFINITY), self.to.unwrap_or(f64::INFINITY));
        if from.is_nan() || to.is_nan() || from >= to {
            return bad("'from' must be before 'to', both in seconds. Leave them out for the whole series.".into());
        }
        Ok((from, to, usize::try_from(points).unwrap_or(1)))
    }
}

fn state(word: &str) -> Result<JobState, Error> {
    JobState::ALL.into_iter().find(|s| s.as_str() == word).ok_or_else(|| {
        let known = JobState::ALL.map(JobState::as_str).join(", ");
        Error::new(Code::BadRequest, format!("state={word} is not known; the states are {known}."))
    })
}
