//! Endpoints as clients manage them: create, change, remove, rotate the secret, test, send again. A secret leaves this module
//! once, in the answer that made it; it is stored sealed.

use std::time::Duration;

use serde_json::json;
use sqlx::{PgConnection, PgPool};

use crate::error::{Code, Error, Result};
use crate::event::EventType;
use crate::id::{DeliveryId, EventId, TenantId, WebhookId};
use crate::sealed::KeyRing;
use crate::store;
use crate::store::delivery::{Delivery, Range, Replayed};
use crate::store::idempotency::{Kept, Request};
use crate::store::webhook::{Change, Kind, NewWebhook, Webhook};
use crate::webhook::Secret;

/// Most endpoints of a tenant.
pub const WEBHOOKS_MAX: i64 = 50;
/// Most events that are sent again at one wish.
const REPLAY_MAX: i64 = 10_000;

/// What endpoints are made with.
#[derive(Clone, Copy)]
pub struct Maker<'a> {
    /// For what is encrypted at rest.
    pub keys: &'a KeyRing,
    /// The request, if it may be repeated.
    pub request: Option<&'a Request>,
}

/// What became of a wish for an endpoint.
pub enum Created {
    /// It was made, with this secret.
    New(Webhook, Secret),
    /// The same request was answered before, with this.
    Repeated(Kept),
}

/// Makes an endpoint with a fresh secret. `answer` makes the body that repeated requests are given; it must not hold the
/// secret.
///
/// # Errors
/// `too_many_webhooks`.
pub async fn create(
    db: &PgPool,
    maker: Maker<'_>,
    new: &NewWebhook,
    answer: impl FnOnce(&Webhook) -> Result<String>,
) -> Result<Created> {
    let (id, mut tx) = (WebhookId::new(), db.begin().await?);
    if let Some(request) = maker.request
        && let Some(kept) = store::idempotency::begin(&mut tx, new.tenant, request, id.0).await?
    {
        return Ok(Created::Repeated(kept));
    }
    // one at a time, so that two cannot both take the last place
    store::access::tenant::find_for_update(&mut *tx, new.tenant).await?;
    if store::webhook::count(&mut *tx, new.tenant, WEBHOOKS_MAX).await? >= WEBHOOKS_MAX {
        let detail = format!("The tenant has {WEBHOOKS_MAX} webhooks, which is the most. Delete some first.");
        return Err(Error::new(Code::TooManyWebhooks, detail));
    }
    let webhook = store::webhook::insert(&mut *tx, id, new).await?;
    let secret = renew(&mut tx, maker.keys, new.tenant, Some(id), Duration::ZERO).await?;
    if let Some(request) = maker.request {
        store::idempotency::keep(&mut *tx, new.tenant, &request.key, &answer(&webhook)?).await?;
    }
    tx.commit().await?;
    Ok(Created::New(webhook, secret))
}

/// Changes an endpoint. One that is enabled again begins with a clean slate; what it missed can be replayed.
pub async fn change(db: &PgPool, tenant: TenantId, id: WebhookId, change: &Change) -> Result<Webhook> {
    let mut tx = db.begin().await?;
    find(&mut tx, tenant, id).await?;
    let webhook = store::webhook::update(&mut *tx, id, change).await?;
    tx.commit().await?;
    Ok(webhook)
}

/// Takes an endpoint away, with its secrets and deliveries.
pub async fn remove(db: &PgPool, tenant: TenantId, id: WebhookId) -> Result<()> {
    if store::webhook::delete(db, tenant, id).await? { Ok(()) } else { Err(unknown()) }
}

/// Puts a fresh secret in force: of an endpoint, or the tenant's default where none is named. The one before signs along for
/// `overlap`.
pub async fn rotate(
    db: &PgPool,
    keys: &KeyRing,
    tenant: TenantId,
    id: Option<WebhookId>,
    overlap: Duration,
) -> Result<Secret> {
    let mut tx = db.begin().await?;
    match id {
        Some(id) => drop(find(&mut tx, tenant, id).await?),
        None => drop(store::access::tenant::find_for_update(&mut *tx, tenant).await?),
    }
    let secret = renew(&mut tx, keys, tenant, id, overlap).await?;
    tx.commit().await?;
    Ok(secret)
}

async fn renew(
    tx: &mut PgConnection,
    keys: &KeyRing,
    tenant: TenantId,
    id: Option<WebhookId>,
    overlap: Duration,
) -> Result<Secret> {
    let secret = Secret::from_random(rand::random());
    let sealed = keys.seal(rand::random(), tenant, secret.expose().as_bytes());
    let sealed = sealed.ok_or_else(|| Error::internal("nothing was sealed"))?;
    store::webhook::insert_secret(tx, tenant, id, &sealed, overlap).await?;
    Ok(secret)
}

/// Sends a `ping` to an endpoint, and to no other. Returns the event.
///
/// # Errors
/// `webhook_disabled`.
pub async fn test(db: &PgPool, tenant: TenantId, id: WebhookId) -> Result<EventId> {
    enabled(&look(db, tenant, id).await?)?;
    let data = json!({"ping": {"webhook_id": id}});
    store::event::insert(db, tenant, EventType::Ping, &data).await
}

/// Sends a delivery once more, whatever became of it, with a new round of tries. One that is on its way stays so.
///
/// # Errors
/// `webhook_disabled`.
pub async fn redeliver(db: &PgPool, tenant: TenantId, id: WebhookId, delivery: DeliveryId) -> Result<Delivery> {
    let mut tx = db.begin().await?;
    enabled(&store::webhook::find(&mut *tx, tenant, id).await?.ok_or_else(unknown)?)?;
    store::delivery::find(&mut *tx, tenant, id, delivery).await?.ok_or_else(|| Error::not_found("delivery"))?;
    store::delivery::revive(&mut *tx, delivery).await?;
    let delivery = store::delivery::find(&mut *tx, tenant, id, delivery).await?;
    tx.commit().await?;
    delivery.ok_or_else(|| Error::not_found("delivery"))
}

/// Sends the events of a range of time once more to an endpoint, the oldest first and [`REPLAY_MAX`] at most.
///
/// # Errors
/// `webhook_disabled`.
pub async fn replay(db: &PgPool, tenant: TenantId, id: WebhookId, range: Range) -> Result<Replayed> {
    // not locked: whoever ends an attempt locks the delivery first and then its webhook
    enabled(&look(db, tenant, id).await?)?;
    store::delivery::replay(db, tenant, id, range, REPLAY_MAX).await
}

async fn look(db: &PgPool, tenant: TenantId, id: WebhookId) -> Result<Webhook> {
    let webhook = store::webhook::find(db, tenant, id).await?;
    webhook.filter(|webhook| webhook.kind == Kind::Endpoint).ok_or_else(unknown)
}

async fn find(tx: &mut PgConnection, tenant: TenantId, id: WebhookId) -> Result<Webhook> {
    store::webhook::find_for_update(tx, tenant, id).await?.ok_or_else(unknown)
}

fn unknown() -> Error {
    Error::not_found("webhook")
}

fn enabled(webhook: &Webhook) -> Result<()> {
    match webhook.disabled_reason {
        Some(reason) if webhook.kind == Kind::Endpoint => {
            let detail = format!(
                "The webhook is disabled ({}), so nothing is sent to it. Enable it first, with PATCH and enabled: true.",
                reason.as_str()
            );
            Err(Error::new(Code::WebhookDisabled, detail))
        }
        _ => Ok(()),
    }
}
