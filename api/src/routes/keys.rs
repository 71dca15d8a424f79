//! `/api/v1/api-keys`: the keys of the caller's own tenant. Nobody gives or changes more than they have; the decisions are
//! `tenancy::key`'s.

pub mod request;
pub mod view;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse, Response};
use shared::config::network;
use shared::id::{ApiKeyId, TenantId};
use shared::store::access::key::{After, KeyRecord};
use shared::tenancy::key::{MadeKey, Maker};
use shared::tenancy::{self, Beside, Made};
use shared::{Code, Error, store};

use crate::auth::{KeysRead, KeysWrite, May};
use crate::client::ClientAddress;
use crate::extract::{Id, Json, Query};
use crate::openapi::{ReadProblems, WriteProblems};
use crate::problem::{ProblemBody, Result};
use crate::routes::jobs::request::PageQuery;
use crate::{App, audit, cursor, idempotency, page};
use request::{ChangeKey, CreateKey, RotateKey};
use view::{KeyPage, KeyView};

/// What a new key is called in the trail.
pub const CREATE: &str = "key.create";
const CHANGE: &str = "key.change";
const REVOKE: &str = "key.revoke";
const ROTATE: &str = "key.rotate";

/// Make an API key
///
/// The answer holds the whole key, once: it is stored nowhere. A repeated request with the same `Idempotency-Key` makes no
/// second key, and shows the first one without its secret. No key has more rights than the one that made it.
#[utoipa::path(
    post, path = "/api/v1/api-keys", tag = "api-keys", operation_id = "create_api_key",
    request_body = CreateKey,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your word for this request. Repeated with the same body within 24 hours, it makes no second key.")),
    responses(
        (status = 201, description = "The key was made.", body = KeyView, headers(("Location" = String, description = "The key."))),
        (status = 409, description = "The tenant has as many keys as it may (`too_many_keys`), or the first request with this Idempotency-Key is still in progress.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key was used for another request.", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["keys:write"]), ("bearer" = ["keys:write"]))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    May(who, _): May<KeysWrite>,
    Json { value, repeatable }: Json<CreateKey>,
) -> Result<Response> {
    let wish = value.check()?;
    let once = repeatable.of("POST /api/v1/api-keys");
    let maker = Maker { who: &who, pepper: &app.pepper, request: once.as_ref() };
    let made = tenancy::key::create(&app.db, maker, who.tenant, &wish, beside(CREATE, who.tenant)).await?;
    Ok(answer(&app, CREATE, made))
}

/// List API keys
///
/// Newest first, revoked and expired ones too. Follow `next_cursor` (or the `Link` header) for older ones.
#[utoipa::path(
    get, path = "/api/v1/api-keys", tag = "api-keys", operation_id = "list_api_keys",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of keys.", body = KeyPage, headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last."))),
        ReadProblems,
    ),
    security(("api_key" = ["keys:read"]), ("bearer" = ["keys:read"]))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    May(who, _): May<KeysRead>,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Response> {
    let limit = query.limit(app.limits.page)?;
    let cursors = cursor::List::new(&app, &who, "api-keys", &());
    let after = query.cursor.as_deref().map(|c| cursors.decode(c)).transpose()?;
    let mut keys = store::access::key::list(&app.db, who.tenant, after, limit + 1).await?;
    let place = |key: &KeyRecord| After { created_at: key.created_at, id: key.id.0 };
    let next_cursor = page::cut(&mut keys, limit, &cursors, place);
    let next = next_cursor.as_deref().and_then(|c| cursor::link(&app, &uri, c));
    let data = keys.into_iter().map(KeyView::from).collect();
    Ok((AppendHeaders(next), axum::Json(KeyPage { data, has_more: next_cursor.is_some(), next_cursor }))
        .into_response())
}

/// Show an API key
#[utoipa::path(
    get, path = "/api/v1/api-keys/{id}", tag = "api-keys", operation_id = "show_api_key",
    params(("id" = ApiKeyId, Path, description = "The key.")),
    responses(
        (status = 200, description = "The key.", body = KeyView),
        (status = 404, description = "There is no such key.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["keys:read"]), ("bearer" = ["keys:read"]))
)]
pub async fn show(
    State(app): State<Arc<App>>,
    May(who, _): May<KeysRead>,
    Id(id): Id<ApiKeyId>,
) -> Result<axum::Json<KeyView>> {
    let key = store::access::key::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("API key"))?;
    Ok(axum::Json(key.into()))
}

/// Change an API key
///
/// What is left out stays as it is. In force within a second, on every replica. Role and reach of a key never change.
#[utoipa::path(
    patch, path = "/api/v1/api-keys/{id}", tag = "api-keys", operation_id = "change_api_key",
    params(("id" = ApiKeyId, Path, description = "The key.")),
    request_body = ChangeKey,
    responses(
        (status = 200, description = "The key as it is now.", body = KeyView),
        (status = 404, description = "There is no such key.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The key was revoked or has expired (`key_not_in_force`), or nobody could manage the platform afterwards (`last_admin_key`).", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["keys:write"]), ("bearer" = ["keys:write"]))
)]
pub async fn change(
    State(app): State<Arc<App>>,
    May(who, _): May<KeysWrite>,
    Id(id): Id<ApiKeyId>,
    Extension(ClientAddress(from)): Extension<ClientAddress>,
    Json { value, .. }: Json<ChangeKey>,
) -> Result<axum::Json<KeyView>> {
    let change = value.check()?;
    if id == who.key {
        stays_in(change.networks.as_deref().unwrap_or_default(), from)?;
    }
    let event = audit::change(CHANGE, StatusCode::OK, who.tenant);
    let changed = tenancy::key::change(&app.db, &who, id, change, &event).await?;
    audit::kept(CHANGE);
    app.forget_access(who.tenant).await;
    tracing::info!(key = changed.public_id, by = who.key_public_id, "API key changed");
    Ok(axum::Json(changed.into()))
}

/// Refuses networks that would shut out the very key that sets them, from where it is now.
fn stays_in(networks: &[String], from: IpAddr) -> shared::Result<()> {
    let mut ranges = networks.iter().filter_map(|n| network(n).ok());
    if networks.is_empty() || ranges.any(|range| range.contains(&from)) {
        return Ok(());
    }
    let detail =
        format!("The key would shut itself out: it is used from {from}. Add that, or set them with another key.");
    Err(Error::new(Code::InvalidValue, detail).at("/networks"))
}

/// Revoke an API key
///
/// For good, and within a second on every replica. The key stays in the list.
#[utoipa::path(
    delete, path = "/api/v1/api-keys/{id}", tag = "api-keys", operation_id = "revoke_api_key",
    params(("id" = ApiKeyId, Path, description = "The key.")),
    responses(
        (status = 204, description = "The key opens nothing any more."),
        (status = 404, description = "There is no such key.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Nobody could manage the platform afterwards (`last_admin_key`).", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["keys:write"]), ("bearer" = ["keys:write"]))
)]
pub async fn remove(
    State(app): State<Arc<App>>,
    May(who, _): May<KeysWrite>,
    Id(id): Id<ApiKeyId>,
) -> Result<StatusCode> {
    let event = audit::change(REVOKE, StatusCode::NO_CONTENT, who.tenant);
    tenancy::key::revoke(&app.db, &who, id, &event).await?;
    audit::kept(REVOKE);
    app.forget_access(who.tenant).await;
    tracing::info!(key.id = %id, by = who.key_public_id, "API key revoked");
    Ok(StatusCode::NO_CONTENT)
}

/// Rotate an API key
///
/// Makes a key with the same properties, shown once. The old one goes on for the overlap, so that both work while the new
/// one is brought to where it is needed.
#[utoipa::path(
    post, path = "/api/v1/api-keys/{id}/rotate", tag = "api-keys", operation_id = "rotate_api_key",
    params(
        ("id" = ApiKeyId, Path, description = "The key."),
        ("Idempotency-Key" = Option<String>, Header, description = "Your word for this request. Repeated with the same body within 24 hours, it makes no second key."),
    ),
    request_body = RotateKey,
    responses(
        (status = 201, description = "The new key.", body = KeyView, headers(("Location" = String, description = "The new key."))),
        (status = 404, description = "There is no such key.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The key was revoked, has expired or was rotated (`key_not_in_force`), the tenant has as many keys as it may (`too_many_keys`), or the first request with this Idempotency-Key is still in progress.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key was used for another request.", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["keys:write"]), ("bearer" = ["keys:write"]))
)]
pub async fn rotate(
    State(app): State<Arc<App>>,
    May(who, _): May<KeysWrite>,
    Id(id): Id<ApiKeyId>,
    Json { value, repeatable }: Json<RotateKey>,
) -> Result<Response> {
    let overlap = value.check()?;
    audit::detail("rotated", id.to_string());
    let once = repeatable.of(format!("POST /api/v1/api-keys/{id}/rotate"));
    let maker = Maker { who: &who, pepper: &app.pepper, request: once.as_ref() };
    let made = tenancy::key::rotate(&app.db, maker, id, overlap, beside(ROTATE, who.tenant)).await?;
    let answer = answer(&app, ROTATE, made);
    app.forget_access(who.tenant).await;
    Ok(answer)
}

/// What is stored beside a new key: its event, in the trail of `tenant`, and the answer to repeated requests, without its
/// secret.
pub fn beside(action: &'static str, tenant: TenantId) -> impl FnOnce(&KeyRecord) -> shared::Result<Beside> {
    move |key| {
        audit::target("key", key.id);
        audit::detail("public_id", key.public_id.as_str());
        let event = audit::change(action, StatusCode::CREATED, tenant);
        Ok(Beside { event, answer: idempotency::keep(&KeyView::from(key.clone()))? })
    }
}

/// 201 with the key, whole if it was made just now.
pub fn answer(app: &App, action: &'static str, made: Made<MadeKey>) -> Response {
    let at = |id: ApiKeyId| format!("{}/api/v1/api-keys/{id}", app.base_url);
    match made {
        Made::New(MadeKey { key, record }) => {
            audit::kept(action);
            let by = record.created_by.map(tracing::field::display);
            tracing::info!(key = record.public_id, tenant = %record.tenant, by, "API key made");
            let (location, secret) = (at(record.id), key.expose().to_owned());
            idempotency::first(StatusCode::CREATED, location, &KeyView { key: Some(secret), ..record.into() })
        }
        Made::Repeated(kept) => {
            audit::target("key", kept.made);
            audit::detail("repeated", true);
            idempotency::again(StatusCode::CREATED, at(ApiKeyId(kept.made)), kept)
        }
    }
}
