//! Webhooks and deliveries as clients see them. A secret is in the answer that made it, and in no other.

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::event::EventType;
use shared::id::{DeliveryId, EventId, JobId, WebhookId};
use shared::store::delivery::{Attempt, Delivery, Replayed};
use shared::store::webhook::Webhook;
use shared::webhook::{DeliveryState, DisabledReason};
use utoipa::ToSchema;

/// A webhook.
#[derive(Serialize, ToSchema)]
pub struct WebhookView {
    /// Its id, for calls about it.
    pub id: WebhookId,
    /// Where events are posted to, without user, password and query.
    pub url: String,
    /// Words for people.
    pub description: Option<String>,
    /// What it is told of; empty for the origin of single jobs.
    pub events: Vec<EventType>,
    /// What signs. It is in the answer that made it and never again, not even if that request is repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub secret: Option<String>,
    /// Whether it is told of anything.
    pub enabled: bool,
    /// Since when it is not.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Why it is not: `by_hand`, `gone` (it answered 410) or `failing` (for five days).
    pub disabled_reason: Option<DisabledReason>,
    /// The first failure since something was delivered; null if the latest attempt was a success.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        Self {
            id: webhook.id,
            url: webhook.url,
            description: webhook.description,
            events: webhook.events,
            secret: None,
            enabled: webhook.disabled_at.is_none(),
            disabled_at: webhook.disabled_at,
            disabled_reason: webhook.disabled_reason,
            failing_since: webhook.failing_since,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

/// A page of webhooks.
#[derive(Serialize, ToSchema)]
pub struct WebhookPage {
    /// The webhooks, the newest first.
    pub data: Vec<WebhookView>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// For the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// A secret that was just made.
#[derive(Serialize, ToSchema)]
pub struct WebhookSecret {
    /// What signs from now on, shown this once: `whsec_` and base64, as the libraries of Standard Webhooks take it.
    pub secret: String,
}

/// A ping that was sent.
#[derive(Serialize, ToSchema)]
pub struct SentPing {
    /// The event; it stands among the webhook's deliveries within a second.
    pub event_id: EventId,
}

/// What is sent once more.
#[derive(Serialize, ToSchema)]
pub struct ReplayView {
    /// Events that are sent again.
    pub events: i64,
    /// Set if there may be more: ask again with this as `since`.
    pub more_since: Option<DateTime<Utc>>,
}

impl From<Replayed> for ReplayView {
    fn from(replayed: Replayed) -> Self {
        Self { events: replayed.events, more_since: replayed.more_since }
    }
}

/// What a delivery tells of.
#[derive(Serialize, ToSchema)]
pub struct DeliveredEvent {
    /// The event: the header `webhook-id` of every attempt.
    pub id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Its place in the order of events; null for a moment after it happened.
    pub sequence: Option<i64>,
    /// When it happened.
    pub timestamp: DateTime<Utc>,
    /// The job it is about.
    pub job_id: Option<JobId>,
}

/// One event on its way to one webhook.
#[derive(Serialize, ToSchema)]
pub struct DeliveryView {
    /// The delivery.
    pub id: DeliveryId,
    /// What it tells of.
    pub event: DeliveredEvent,
    /// Where it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i32,
    /// When it is tried next at the earliest, if it is.
    pub next_at: Option<DateTime<Utc>>,
    /// The status of the latest answer; null if none came.
    pub last_status: Option<i16>,
    /// Why the latest attempt was no success.
    pub last_error: Option<String>,
    /// Milliseconds until the latest answer.
    pub last_latency_ms: Option<i32>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id,
            event: DeliveredEvent {
                id: delivery.event_id,
                kind: delivery.event_type,
                sequence: delivery.sequence,
                timestamp: delivery.occurred_at,
                job_id: delivery.job,
            },
            state: delivery.state,
            attempts: delivery.attempts,
            next_at: delivery.next_at,
            last_status: delivery.last_status,
            last_error: delivery.last_error,
            last_latency_ms: delivery.last_latency_ms,
            created_at: delivery.created_at,
            ended_at: delivery.ended_at,
        }
    }
}

/// A page of deliveries.
#[derive(Serialize, ToSchema)]
pub struct DeliveryPage {
    /// The deliveries, the newest first.
    pub data: Vec<DeliveryView>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// For the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// One attempt of a delivery.
#[derive(Serialize, ToSchema)]
pub struct DeliveryAttempt {
    /// Which one, from 1: the header `webhook-attempt`.
    pub number: i32,
    /// When it began.
    pub at: DateTime<Utc>,
    /// The status of the answer; null if none came.
    pub status: Option<i16>,
    /// Why it was no success; null if it was.
    pub error: Option<String>,
    /// Milliseconds until the answer.
    pub latency_ms: Option<i32>,
    /// The beginning of the answer's body, at most 4 KiB.
    pub response: Option<String>,
}

impl From<Attempt> for DeliveryAttempt {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at,
            status: attempt.status,
            error: attempt.error,
            latency_ms: attempt.latency_ms,
            response: attempt.response,
        }
    }
}

/// A delivery with its attempts.
#[derive(Serialize, ToSchema)]
pub struct DeliveryDetail {
    /// The delivery.
    #[serde(flatten)]
    pub delivery: DeliveryView,
    /// Its attempts, the first first; the latest 30.
    pub history: Vec<DeliveryAttempt>,
}
