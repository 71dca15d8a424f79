//! `/api/v1/webhooks`: who is told of events in the caller's own tenant. What was sent to them lies in `deliveries`; the
//! decisions are `shared::delivery`'s. Nothing is sent from here.

pub mod deliveries;
pub mod request;
pub mod view;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse, Response};
use shared::delivery::{Created, Maker};
use shared::id::WebhookId;
use shared::queue::Bell;
use shared::store::access::key::After;
use shared::store::webhook::{Kind, Webhook};
use shared::{Error, delivery, store};

use crate::auth::{May, WebhooksRead, WebhooksWrite};
use crate::extract::{Id, Json, Query};
use crate::openapi::{ReadProblems, WriteProblems};
use crate::problem::{ProblemBody, Result};
use crate::{App, audit, cursor, idempotency, page};
use request::{ChangeWebhook, CreateWebhook, KindRequest, RotateSecret, WebhooksQuery};
use view::{SentPing, WebhookPage, WebhookSecret, WebhookView};

/// Make a webhook
///
/// Events are posted to its URL from now on, signed by the Standard Webhooks specification. The answer holds the secret, once.
/// A repeated request with the same `Idempotency-Key` makes no second webhook, and shows the first one without its secret.
#[utoipa::path(
    post, path = "/api/v1/webhooks", tag = "webhooks", operation_id = "create_webhook",
    request_body = CreateWebhook,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your word for this request. Repeated with the same body within 24 hours, it makes no second webhook.")),
    responses(
        (status = 201, description = "The webhook was made.", body = WebhookView, headers(("Location" = String, description = "The webhook."))),
        (status = 409, description = "The tenant has as many webhooks as it may (`too_many_webhooks`), or the first request with this Idempotency-Key is still in progress.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key was used for another request.", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["webhooks:write"]), ("bearer" = ["webhooks:write"]))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksWrite>,
    Json { value, repeatable }: Json<CreateWebhook>,
) -> Result<Response> {
    let new = value.check(&who, &app)?;
    let once = repeatable.of("POST /api/v1/webhooks");
    let maker = Maker { keys: &app.keys, request: once.as_ref() };
    let answer = |webhook: &Webhook| idempotency::keep(&WebhookView::from(webhook.clone()));
    let at = |id: WebhookId| format!("{}/api/v1/webhooks/{id}", app.base_url);
    Ok(match delivery::create(&app.db, maker, &new, answer).await? {
        Created::New(webhook, secret) => {
            tracing::info!(webhook.id = %webhook.id, tenant = %who.tenant, "webhook made");
            audit::target("webhook", webhook.id);
            audit::detail("url", webhook.url.as_str());
            let view = WebhookView { secret: Some(secret.expose().to_owned()), ..webhook.into() };
            idempotency::first(StatusCode::CREATED, at(view.id), &view)
        }
        Created::Repeated(kept) => {
            audit::target("webhook", kept.made);
            audit::detail("repeated", true);
            idempotency::again(StatusCode::CREATED, at(WebhookId(kept.made)), kept)
        }
    })
}

/// List webhooks
///
/// Newest first. With `kind=job`, the origins that single jobs named in `webhook`, whose deliveries can be looked at, too.
#[utoipa::path(
    get, path = "/api/v1/webhooks", tag = "webhooks", operation_id = "list_webhooks",
    params(WebhooksQuery),
    responses(
        (status = 200, description = "A page of webhooks.", body = WebhookPage, headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last."))),
        ReadProblems,
    ),
    security(("api_key" = ["webhooks:read"]), ("bearer" = ["webhooks:read"]))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksRead>,
    uri: Uri,
    Query(query): Query<WebhooksQuery>,
) -> Result<Response> {
    let limit = query.limit(app.limits.page)?;
    let kind = match query.kind {
        None | Some(KindRequest::Endpoint) => Kind::Endpoint,
        Some(KindRequest::Job) => Kind::Job,
    };
    let cursors = cursor::List::new(&app, &who, "webhooks", &kind);
    let after = query.cursor.as_deref().map(|c| cursors.decode(c)).transpose()?;
    let mut webhooks = store::webhook::list(&app.db, who.tenant, kind, after, limit + 1).await?;
    let place = |webhook: &Webhook| After { created_at: webhook.created_at, id: webhook.id.0 };
    let next_cursor = page::cut(&mut webhooks, limit, &cursors, place);
    let next = next_cursor.as_deref().and_then(|c| cursor::link(&app, &uri, c));
    let data = webhooks.into_iter().map(WebhookView::from).collect();
    let page = WebhookPage { data, has_more: next_cursor.is_some(), next_cursor };
    Ok((AppendHeaders(next), axum::Json(page)).into_response())
}

/// Show a webhook
#[utoipa::path(
    get, path = "/api/v1/webhooks/{id}", tag = "webhooks", operation_id = "show_webhook",
    params(("id" = WebhookId, Path, description = "The webhook.")),
    responses(
        (status = 200, description = "The webhook.", body = WebhookView),
        (status = 404, description = "There is no such webhook.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["webhooks:read"]), ("bearer" = ["webhooks:read"]))
)]
pub async fn show(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksRead>,
    Id(id): Id<WebhookId>,
) -> Result<axum::Json<WebhookView>> {
    let webhook = store::webhook::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("webhook"))?;
    Ok(axum::Json(webhook.into()))
}

/// Change a webhook
///
/// What is left out stays as it is. Enabling one that was disabled begins with a clean slate; replay what it missed.
#[utoipa::path(
    patch, path = "/api/v1/webhooks/{id}", tag = "webhooks", operation_id = "change_webhook",
    params(("id" = WebhookId, Path, description = "The webhook.")),
    request_body = ChangeWebhook,
    responses(
        (status = 200, description = "The webhook as it is now.", body = WebhookView),
        (status = 404, description = "There is no such webhook.", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["webhooks:write"]), ("bearer" = ["webhooks:write"]))
)]
pub async fn change(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksWrite>,
    Id(id): Id<WebhookId>,
    Json { value, .. }: Json<ChangeWebhook>,
) -> Result<axum::Json<WebhookView>> {
    let change = value.check(&who, &app)?;
    let webhook = delivery::change(&app.db, who.tenant, id, &change).await?;
    audit::detail("url", webhook.url.as_str());
    Ok(axum::Json(webhook.into()))
}

/// Delete a webhook
///
/// With its secrets and deliveries, for good.
#[utoipa::path(
    delete, path = "/api/v1/webhooks/{id}", tag = "webhooks", operation_id = "delete_webhook",
    params(("id" = WebhookId, Path, description = "The webhook.")),
    responses(
        (status = 204, description = "The webhook gets nothing any more."),
        (status = 404, description = "There is no such webhook.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["webhooks:write"]), ("bearer" = ["webhooks:write"]))
)]
pub async fn remove(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksWrite>,
    Id(id): Id<WebhookId>,
) -> Result<StatusCode> {
    delivery::remove(&app.db, who.tenant, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Rotate a webhook's secret
///
/// The answer holds the new secret, once. Until the overlap ends, each delivery carries a signature of either.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/rotate-secret", tag = "webhooks", operation_id = "rotate_webhook_secret",
    params(("id" = WebhookId, Path, description = "The webhook.")),
    request_body = RotateSecret,
    responses(
        (status = 200, description = "The new secret.", body = WebhookSecret),
        (status = 404, description = "There is no such webhook.", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["webhooks:write"]), ("bearer" = ["webhooks:write"]))
)]
pub async fn rotate(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksWrite>,
    Id(id): Id<WebhookId>,
    Json { value, .. }: Json<RotateSecret>,
) -> Result<axum::Json<WebhookSecret>> {
    let secret = delivery::rotate(&app.db, &app.keys, who.tenant, Some(id), value.check()?).await?;
    Ok(axum::Json(WebhookSecret { secret: secret.expose().to_owned() }))
}

/// Make or rotate the default secret
///
/// It signs what is sent to the `webhook` of single jobs. The answer holds it, once. One that was there before signs along until
/// the overlap ends.
#[utoipa::path(
    post, path = "/api/v1/webhooks/default-secret", tag = "webhooks", operation_id = "rotate_default_webhook_secret",
    request_body = RotateSecret,
    responses(
        (status = 200, description = "The new secret.", body = WebhookSecret),
        WriteProblems,
    ),
    security(("api_key" = ["webhooks:write"]), ("bearer" = ["webhooks:write"]))
)]
pub async fn rotate_default(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksWrite>,
    Json { value, .. }: Json<RotateSecret>,
) -> Result<axum::Json<WebhookSecret>> {
    let secret = delivery::rotate(&app.db, &app.keys, who.tenant, None, value.check()?).await?;
    Ok(axum::Json(WebhookSecret { secret: secret.expose().to_owned() }))
}

/// Test a webhook
///
/// Sends it a `ping`, which is signed, tried again and listed as any other event.
#[utoipa::path(
    post, path = "/api/v1/webhooks/{id}/test", tag = "webhooks", operation_id = "test_webhook",
    params(("id" = WebhookId, Path, description = "The webhook.")),
    responses(
        (status = 202, description = "The ping is on its way.", body = SentPing),
        (status = 404, description = "There is no such webhook.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The webhook is disabled (`webhook_disabled`).", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["webhooks:write"]), ("bearer" = ["webhooks:write"]))
)]
pub async fn test(
    State(app): State<Arc<App>>,
    May(who, _): May<WebhooksWrite>,
    Id(id): Id<WebhookId>,
) -> Result<(StatusCode, axum::Json<SentPing>)> {
    let event_id = delivery::test(&app.db, who.tenant, id).await?;
    app.ring(Bell::Wake).await;
    Ok((StatusCode::ACCEPTED, axum::Json(SentPing { event_id })))
}
