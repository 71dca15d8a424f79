//! Webhooks, after the Standard Webhooks specification 1.0.0: the secret and the signature, the body, when a failed delivery
//! is tried again, and when a target is left alone for a while. Called by `delivery`, the API and the worker's deliverer, so
//! that all of it is tested without a server. Pure.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Sha256;
use utoipa::ToSchema;

use crate::event::{About, Event, EventJob, EventType};

/// Largest body that is sent, in bytes; what makes it larger is left out, and is there for asking.
pub const BODY_MAX_BYTES: usize = 64 * 1024;
/// Most of an answer that is kept, in bytes.
pub const RESPONSE_MAX_BYTES: usize = 4 * 1024;
/// Longest wait that an endpoint may ask for with `Retry-After`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// A webhook with nothing but failures for so long is disabled.
pub const FAILING_MAX: Duration = Duration::from_secs(5 * 24 * 3600);
/// After so long without one, a failure is the first of its row: longer than any wait between two tries.
pub const FAILING_QUIET: Duration = Duration::from_secs(30 * 3600);
/// Failures that it takes at least: as many as the tries of one delivery.
pub const FAILING_LEAST: i32 = SCHEDULE.len() as i32 + 1;
/// How long an old secret signs along when a client does not say: a day.
pub const OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// Most secrets that sign at once, the one in force and those that were rotated.
pub const SECRETS_MAX: i64 = 5;
/// Failures in a row after which a target's circuit opens.
pub const CIRCUIT_FAILURES: u32 = 5;

/// How a secret is written, before its base64.
const PREFIX: &str = "whsec_";
/// Bytes of a secret; the specification asks for 24 to 64.
const SECRET_BYTES: usize = 32;
/// Waits before the second and each later try, in seconds, as the specification proposes: 75 hours and 35 minutes together.
pub const SCHEDULE: [u32; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Waits differ by so much to both sides, so that what failed together does not come back together.
const JITTER: f64 = 0.2;
/// The first pause of a circuit that opens.
const PAUSE_FIRST: Duration = Duration::from_secs(10);
/// Longest pause of a target.
pub const PAUSE_MAX: Duration = Duration::from_secs(300);

/// Why a webhook gets nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum DisabledReason {
    /// Somebody wanted it so.
    ByHand,
    /// It answered 410: it is gone.
    Gone,
    /// It failed for days.
    Failing,
}

impl DisabledReason {
    /// The word used in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ByHand => "by_hand",
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum DeliveryState {
    /// It waits for its time.
    Pending,
    /// It is on its way.
    Sending,
    /// The endpoint took it.
    Succeeded,
    /// It was tried as often as it is.
    Failed,
    /// The webhook was disabled, or what it tells of erased, before it was taken.
    Canceled,
}

/// What signs: shown once to whoever verifies.
pub struct Secret(SecretString);

impl Secret {
    /// A secret of these random bytes.
    pub fn from_random(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(format!("{PREFIX}{}", BASE64_STANDARD.encode(bytes)).into())
    }

    /// The secret as it was sealed; `None` if that is none.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        String::from_utf8(bytes).ok().filter(|text| text.starts_with(PREFIX)).map(|text| Self(text.into()))
    }

    /// As it is shown and sealed: `whsec_` and base64.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The signature of a message: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. `timestamp` is in seconds.
    /// `None` if the secret is not base64.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<String> {
        let key = BASE64_STANDARD.decode(self.expose().strip_prefix(PREFIX)?).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
    }
}

/// How long to wait after the try of this number, counted from 1; `None` after the last. `dice` in `0.0..1.0` spreads.
pub fn retry_wait(tries: u32, dice: f64) -> Option<Duration> {
    let at = usize::try_from(tries.checked_sub(1)?).ok()?;
    let seconds = Duration::from_secs((*SCHEDULE.get(at)?).into());
    Some(seconds.mul_f64(1.0 + JITTER * (2.0 * dice.clamp(0.0, 1.0) - 1.0)))
}

/// How long a target is left alone after so many failures in a row; nothing before [`CIRCUIT_FAILURES`].
pub fn circuit_pause(failures: u32) -> Duration {
    match failures.checked_sub(CIRCUIT_FAILURES) {
        None => Duration::ZERO,
        Some(more) => PAUSE_FIRST.saturating_mul(1 << more.min(16)).min(PAUSE_MAX),
    }
}

/// What goes beside the event of a job.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// The normalised description, if there is a result and it is not too large.
    pub media: Option<Value>,
    /// Where the result is.
    pub result_url: Option<String>,
    /// What the job's own webhook was given to be given back.
    pub metadata: Option<Value>,
}

/// The body of a delivery.
#[derive(Debug, Serialize)]
struct Body<'a> {
    r#type: EventType,
    timestamp: chrono::DateTime<chrono::Utc>,
    sequence: i64,
    data: Data<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Job {
        job: &'a EventJob,
        media: Option<&'a Value>,
        result_url: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a Value>,
    },
    Other {
        #[serde(flatten)]
        about: &'a Map<String, Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a Value>,
    },
}

/// The body that tells of `event`, as it is signed and sent. `media` is null if it would make it larger than
/// [`BODY_MAX_BYTES`].
///
/// # Errors
/// If the event cannot be written as JSON, which none of them is.
pub fn body(event: &Event, beside: &Beside) -> serde_json::Result<String> {
    let with = |media: Option<&Value>| {
        let data = match &event.data {
            About::Job { job } => {
                Data::Job { job, media, result_url: beside.result_url.as_deref(), metadata: beside.metadata.as_ref() }
            }
            About::Other(about) => Data::Other { about, metadata: beside.metadata.as_ref() },
        };
        let (r#type, timestamp, sequence) = (event.kind, event.timestamp, event.sequence);
        serde_json::to_string(&Body { r#type, timestamp, sequence, data })
    };
    let whole = with(beside.media.as_ref())?;
    if whole.len() <= BODY_MAX_BYTES || beside.media.is_none() { Ok(whole) } else { with(None) }
}

#[cfg(test)]
mod tests;
