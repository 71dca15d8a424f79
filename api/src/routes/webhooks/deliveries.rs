//! `/api/v1/webhooks/{id}/deliveries`: what was sent to a webhook, attempt by attempt, and sending it once more.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse, Response};
use shared::id::{DeliveryId, WebhookId};
use shared::queue::Bell;
use shared::store::access::key::After;
use shared::store::delivery::Delivery;
use shared::{Error, delivery, store};

use super::request::{DeliveriesQuery, ReplayEvents};
use super::view::{DeliveryAttempt, DeliveryDetail, DeliveryPage, DeliveryView, ReplayView};
use crate::auth::{May, WebhooksRead, WebhooksWrite};
use crate::extract::{Id, Ids, Json, Query};
use crate::openapi::{ReadProblems, WriteProblems};
use crate::problem::{ProblemBody, Result};
use crate::{App, cursor, page};

/// List deliveries
///
/// Newest first, as long as the events are known (`EVENT_RETENTION_DAYS`).
#[utoipa::path(
    get, path = "/api/v1/webhooks/{id}/deliveries", tag = "webhooks", operation_id = "list_deliveries",
    params(("id" = WebhookId, Path, description = "The webhook."), DeliveriesQuery),
    responses(
        (status = 200, description = "A page of deliveries.", body = DeliveryPage, headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last."))),
        (status = 404, description = "There is no such webhook.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["webhooks:read"]), ("bearer" = ["webhooks:read"]))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksRead>,
    Id(id): Id<WebhookId>,
    uri: Uri,
    Query(query): Query<DeliveriesQuery>,
) -> Result<Response> {
    let limit = query.limit(app.limits.page)?;
    store::webhook::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("webhook"))?;
    let cursors = cursor::List::new(&app, &who, "deliveries", &(id, query.state));
    let after = query.cursor.as_deref().map(|c| cursors.decode(c)).transpose()?;
    let mut deliveries = store::delivery::list(&app.db, id, query.state, after, limit + 1).await?;
    let place = |delivery: &Delivery| After { created_at: delivery.created_at, id: delivery.id.0 };
    let next_cursor = page::cut(&mut deliveries, limit, &cursors, place);
    let next = next_cursor.as_deref().and_then(|c| cursor::link(&app, &uri, c));
    let data = deliveries.into_iter().map(DeliveryView::from).collect();
    let page = DeliveryPage { data, has_more: next_cursor.is_some(), next_cursor };
    Ok((AppendHeaders(next), axum::Json(page)).into_response())
}

/// Show a delivery
///
/// With its latest attempts: what the endpoint answered, and how long that took.
#[utoipa::path(
    get, path = "/api/v1/webhooks/{id}/deliveries/{delivery_id}", tag = "webhooks", operation_id = "show_delivery",
    params(
        ("id" = WebhookId, Path, description = "The webhook."),
        ("delivery_id" = DeliveryId, Path, description = "The delivery."),
    ),
    responses(
        (status = 200, description = "The delivery.", body = DeliveryDetail),
        (status = 404, description = "There is no such webhook or delivery.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["webhooks:read"]), ("bearer" = ["webhooks:read"]))
)]
pub async fn show(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksRead>,
    Ids(id, delivery): Ids<WebhookId, DeliveryId>,
) -> Result<axum::Json<DeliveryDetail>> {
    store::webhook::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("webhook"))?;
    let found = store::delivery::find(&app.db, who.tenant, id, delivery).await?;
    let delivery = found.ok_or_else(|| Error::not_found("delivery"))?;
    let history = store::delivery::list_attempts(&app.db, delivery.id).await?;
    let history = history.into_iter().map(DeliveryAttempt::from).collect();
    Ok(axum::Json(DeliveryDetail { delivery: delivery.into(), history }))
}

/// Send a delivery again
///
/// Whatever became of it, with a new round of tries and the same `webhook-id`. One that is on its way stays so.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/deliveries/{delivery_id}/redeliver", tag = "webhooks", operation_id = "redeliver",
    params(
        ("id" = WebhookId, Path, description = "The webhook."),
        ("delivery_id" = DeliveryId, Path, description = "The delivery."),
    ),
    responses(
        (status = 202, description = "The delivery as it is now.", body = DeliveryView),
        (status = 404, description = "There is no such webhook or delivery.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The webhook is disabled (`webhook_disabled`).", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["webhooks:write"]), ("bearer" = ["webhooks:write"]))
)]
pub async fn redeliver(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksWrite>,
    Ids(id, delivery): Ids<WebhookId, DeliveryId>,
) -> Result<(StatusCode, axum::Json<DeliveryView>)> {
    let delivery = delivery::redeliver(&app.db, who.tenant, id, delivery).await?;
    app.ring(Bell::Published).await;
    Ok((StatusCode::ACCEPTED, axum::Json(delivery.into())))
}

/// Replay events
///
/// Sends the events of a range of time once more, those that the webhook is told of, the oldest first and some 10,000 at
/// once; `more_since` says where to go on. Receivers tell by `webhook-id` what they had.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/replay", tag = "webhooks", operation_id = "replay_events",
    params(("id" = WebhookId, Path, description = "The webhook.")),
    request_body = ReplayEvents,
    responses(
        (status = 202, description = "The events are on their way.", body = ReplayView),
        (status = 404, description = "There is no such webhook.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The webhook is disabled (`webhook_disabled`).", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["webhooks:write"]), ("bearer" = ["webhooks:write"]))
)]
pub async fn replay(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksWrite>,
    Id(id): Id<WebhookId>,
    Json { value, .. }: Json<ReplayEvents>,
) -> Result<(StatusCode, axum::Json<ReplayView>)> {
    let replayed = delivery::replay(&app.db, who.tenant, id, value.check()?).await?;
    app.ring(Bell::Published).await;
    Ok((StatusCode::ACCEPTED, axum::Json(replayed.into())))
}
