//! What clients send to make and change webhooks, and the checks that need no database. URLs are judged by the words that
//! `egress` judges at every connection, and sealed here.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::access::Principal;
use shared::event::EventType;
use shared::job::{JobWebhook, address};
use shared::store::delivery::Range;
use shared::store::webhook::{Address, Change, NewWebhook};
use shared::webhook::{DeliveryState, OVERLAP_DEFAULT};
use shared::{Code, Error, egress};
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::given::{given, present};
use crate::instant::check_instant;
use crate::routes::jobs::request::{check_metadata, page_limit};

/// Longest description, in characters.
const MAX_DESCRIPTION: usize = 500;
/// Most of what a job's webhook is given back, in bytes of compact JSON: with the job's own it must fit into a body.
const MAX_METADATA: usize = 4 * 1024;
/// Longest overlap of two secrets, in seconds: 30 days.
const MAX_OVERLAP: u64 = 2_592_000;
/// What a webhook is told of when the client does not say: how jobs end.
const DEFAULT_EVENTS: [EventType; 3] = [EventType::JobSucceeded, EventType::JobFailed, EventType::JobCanceled];

/// A webhook to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://example.com/hooks/ffprobe?token=abc", "events": ["job.succeeded", "job.failed"], "description": "ingest"}))]
pub struct CreateWebhook {
    /// Where events are posted to: an https URL (http where the operator allows it). User, password and query are kept
    /// encrypted and never shown.
    #[schema(max_length = 8192)]
    url: String,
    /// What it is told of; without it, of the ends of jobs. `ping` always comes when it is asked for.
    #[schema(min_items = 1, max_items = 20)]
    events: Option<Vec<EventType>>,
    /// Words for people.
    #[schema(max_length = 500)]
    description: Option<String>,
}

impl CreateWebhook {
    /// The webhook that is wanted, if everything in it is as it must be.
    pub fn check(self, who: &Principal, app: &App) -> Result<NewWebhook, Error> {
        Ok(NewWebhook {
            tenant: who.tenant,
            address: seal(&self.url, "/url", who, app)?,
            description: self.description.map(check_description).transpose()?,
            events: self.events.map_or_else(|| Ok(DEFAULT_EVENTS.into()), check_events)?,
        })
    }
}

/// What to change of a webhook. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"events": ["job.succeeded"], "enabled": true}))]
pub struct ChangeWebhook {
    /// Where events are posted to.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = String, max_length = 8192)]
    url: Option<String>,
    /// What it is told of.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Vec<EventType>, min_items = 1, max_items = 20)]
    events: Option<Vec<EventType>>,
    /// Words for people; null for none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 500)]
    description: Option<Option<String>>,
    /// Whether it is told of anything. Enabling begins with a clean slate; what was missed can be replayed.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = bool)]
    enabled: Option<bool>,
}

impl ChangeWebhook {
    /// The change that is wanted, if everything in it is as it must be.
    pub fn check(self, who: &Principal, app: &App) -> Result<Change, Error> {
        Ok(Change {
            address: self.url.map(|url| seal(&url, "/url", who, app)).transpose()?,
            description: self.description.map(|words| words.map(check_description).transpose()).transpose()?,
            events: self.events.map(check_events).transpose()?,
            enabled: self.enabled,
        })
    }
}

/// How to rotate a secret.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap_seconds": 3600}))]
pub struct RotateSecret {
    /// Seconds for which the old secret signs along, at most 30 days; a day if left out. 0 ends it at once.
    #[schema(minimum = 0, maximum = 2_592_000, default = 86_400)]
    overlap_seconds: Option<u64>,
}

impl RotateSecret {
    /// For how long the old secret signs along.
    pub fn check(&self) -> Result<Duration, Error> {
        match self.overlap_seconds {
            None => Ok(OVERLAP_DEFAULT),
            Some(seconds) if seconds <= MAX_OVERLAP => Ok(Duration::from_secs(seconds)),
            Some(_) => {
                let detail = format!("An overlap has at most {MAX_OVERLAP} seconds, which is 30 days.");
                Err(Error::new(Code::InvalidValue, detail).at("/overlap_seconds"))
            }
        }
    }
}

/// Which events to send once more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"since": "2026-11-24T08:00:00Z", "until": "2026-11-24T09:00:00Z"}))]
pub struct ReplayEvents {
    /// Events of this instant (RFC 3339) or later.
    since: DateTime<Utc>,
    /// Events before this instant; until now if left out.
    until: Option<DateTime<Utc>>,
}

impl ReplayEvents {
    /// The range that is wanted, if it is one.
    pub fn check(&self) -> Result<Range, Error> {
        check_instant(self.since).map_err(|e| e.at("/since"))?;
        if let Some(until) = self.until {
            check_instant(until).map_err(|e| e.at("/until"))?;
            if until <= self.since {
                return Err(Error::new(Code::InvalidValue, "'until' must be later than 'since'.").at("/until"));
            }
        }
        Ok(Range { since: self.since, until: self.until })
    }
}

/// Where a job's end is to be told.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://example.com/hooks/asset-17", "metadata": {"asset": 17}}))]
pub struct JobWebhookRequest {
    /// An https URL (http where the operator allows it). Kept encrypted and never shown, but for its origin.
    #[schema(max_length = 8192)]
    url: String,
    /// Your own JSON object, given back in `data.metadata`; at most 4 KiB.
    #[serde(default)]
    #[schema(value_type = Object)]
    metadata: Option<Map<String, Value>>,
}

impl JobWebhookRequest {
    /// The wish, if everything in it is as it must be.
    pub fn check(self, who: &Principal, app: &App) -> Result<JobWebhook, Error> {
        if let Some(metadata) = &self.metadata {
            check_metadata(metadata, MAX_METADATA).map_err(|e| e.at("/webhook/metadata"))?;
        }
        let Address { sealed, .. } = seal(&self.url, "/webhook/url", who, app)?;
        let url = egress::parse(&self.url).map_err(Error::internal)?;
        let origin = url.origin().ascii_serialization();
        Ok(JobWebhook { origin, sealed, metadata: self.metadata.map(Value::Object) })
    }
}

/// Query of a list of deliveries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveriesQuery {
    /// Only those in this state.
    #[param(inline)]
    pub state: Option<DeliveryState>,
    /// Items on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl DeliveriesQuery {
    /// How many items to show.
    pub fn limit(&self, max: i64) -> Result<i64, Error> {
        page_limit(self.limit, max)
    }
}

/// Which webhooks a list shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KindRequest {
    /// Those that were made here.
    Endpoint,
    /// Where single jobs wanted their end to be told, one for each origin.
    Job,
}

/// Query of a list of webhooks.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct WebhooksQuery {
    /// `endpoint` (if left out) for those that were made here, `job` for the origins that single jobs named.
    #[param(inline)]
    pub kind: Option<KindRequest>,
    /// Items on a page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl WebhooksQuery {
    /// How many items to show.
    pub fn limit(&self, max: i64) -> Result<i64, Error> {
        page_limit(self.limit, max)
    }
}

fn seal(url: &str, pointer: &str, who: &Principal, app: &App) -> Result<Address, Error> {
    let refused = |e: egress::Refused| Error::new(Code::UrlNotAllowed, e.to_string()).at(pointer);
    let parsed = egress::parse(url).map_err(refused)?;
    app.egress.check(&parsed).map_err(refused)?;
    let sealed = app.keys.seal(rand::random(), who.tenant, url.as_bytes());
    let sealed = sealed.ok_or_else(|| Error::internal("nothing was sealed"))?;
    Ok(Address { shown: address::redact(&parsed), sealed })
}

fn check_events(mut events: Vec<EventType>) -> Result<Vec<EventType>, Error> {
    let wrong = |detail: &str| Err(Error::new(Code::InvalidValue, detail).at("/events"));
    if events.is_empty() {
        return wrong("A webhook that is told of nothing is none. Name an event, or disable it with enabled: false.");
    }
    if events.contains(&EventType::Ping) {
        return wrong("'ping' cannot be chosen: it comes to the webhook that it was asked for. Leave it out.");
    }
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

fn check_description(words: String) -> Result<String, Error> {
    if words.chars().count() > MAX_DESCRIPTION || words.chars().any(char::is_control) {
        let detail = format!("A description has at most {MAX_DESCRIPTION} characters and no control characters.");
        return Err(Error::new(Code::InvalidValue, detail).at("/description"));
    }
    Ok(words)
}
