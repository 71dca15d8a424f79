//! `/api/v1/tenants`: for those who run the platform, and `current` for every tenant about itself. Grants and limits are
//! members of a tenant; the decisions are `tenancy`'s.

pub mod request;
pub mod view;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{AppendHeaders, IntoResponse, Response};
use shared::id::TenantId;
use shared::store::access::key::After;
use shared::store::access::tenant::Tenant;
use shared::tenancy::key::Maker;
use shared::tenancy::{self, Beside, Made};
use shared::{Error, store};

use super::keys;
use super::keys::request::CreateKey;
use super::keys::view::KeyView;
use crate::auth::{JobsRead, May, TenantsRead, TenantsWrite};
use crate::extract::{Id, Json, Query};
use crate::openapi::{ReadProblems, WriteProblems};
use crate::problem::{ProblemBody, Result};
use crate::routes::jobs::request::PageQuery;
use crate::{App, audit, cursor, idempotency, page};
use request::{ChangeTenant, CreateTenant};
use view::{CurrentTenantView, TenantPage, TenantView};

/// Most things of a kind that are counted for a tenant's usage.
const MOST_COUNTED: i64 = 100_000;

const CREATE: &str = "tenant.create";
const CHANGE: &str = "tenant.change";

/// Make a tenant
///
/// Needs a platform key. Give it a first key next, with `POST /api/v1/tenants/{id}/api-keys`.
#[utoipa::path(
    post, path = "/api/v1/tenants", tag = "tenants", operation_id = "create_tenant",
    request_body = CreateTenant,
    params(("Idempotency-Key" = Option<String>, Header, description = "Your word for this request. Repeated with the same body within 24 hours, it gives the same answer and makes no second tenant.")),
    responses(
        (status = 201, description = "The tenant was made.", body = TenantView, headers(("Location" = String, description = "The tenant."))),
        (status = 409, description = "The name is taken (`tenant_name_taken`), there are as many tenants as there may be (`too_many_tenants`), or the first request with this Idempotency-Key is still in progress.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key was used for another request.", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["tenants:write"]), ("bearer" = ["tenants:write"]))
)]
pub async fn create(
    State(app): State<Arc<App>>,
    May(who, _): May<TenantsWrite>,
    Json { value, repeatable }: Json<CreateTenant>,
) -> Result<Response> {
    let terms = value.check(&app)?;
    let once = repeatable.of("POST /api/v1/tenants");
    let beside = |tenant: &Tenant| {
        audit::target("tenant", tenant.id);
        let event = audit::change(CREATE, StatusCode::CREATED, who.tenant);
        Ok(Beside { event, answer: idempotency::keep(&TenantView::from(tenant.clone()))? })
    };
    let at = |id: TenantId| format!("{}/api/v1/tenants/{id}", app.base_url);
    Ok(match tenancy::tenant::create(&app.db, &who, &terms, once.as_ref(), beside).await? {
        Made::New(tenant) => {
            audit::kept(CREATE);
            tracing::info!(tenant.id = %tenant.id, by = who.key_public_id, "tenant made");
            idempotency::first(StatusCode::CREATED, at(tenant.id), &TenantView::from(tenant))
        }
        Made::Repeated(kept) => {
            audit::target("tenant", kept.made);
            audit::detail("repeated", true);
            idempotency::again(StatusCode::CREATED, at(TenantId(kept.made)), kept)
        }
    })
}

/// List tenants
///
/// Needs a platform key. Newest first. Follow `next_cursor` (or the `Link` header) for older ones.
#[utoipa::path(
    get, path = "/api/v1/tenants", tag = "tenants", operation_id = "list_tenants",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of tenants.", body = TenantPage, headers(("Link" = String, description = "The next page, `rel=\"next\"`; absent on the last."))),
        ReadProblems,
    ),
    security(("api_key" = ["tenants:read"]), ("bearer" = ["tenants:read"]))
)]
pub async fn list(
    State(app): State<Arc<App>>,
    May(who, _): May<TenantsRead>,
    uri: Uri,
    Query(query): Query<PageQuery>,
) -> Result<Response> {
    let limit = query.limit(app.limits.page)?;
    let cursors = cursor::List::new(&app, &who, "tenants", &());
    let after = query.cursor.as_deref().map(|c| cursors.decode(c)).transpose()?;
    let mut tenants = store::access::tenant::list(&app.db, after, limit + 1).await?;
    let place = |tenant: &Tenant| After { created_at: tenant.created_at, id: tenant.id.0 };
    let next_cursor = page::cut(&mut tenants, limit, &cursors, place);
    let next = next_cursor.as_deref().and_then(|c| cursor::link(&app, &uri, c));
    let data = tenants.into_iter().map(TenantView::from).collect();
    let page = TenantPage { data, has_more: next_cursor.is_some(), next_cursor };
    Ok((AppendHeaders(next), axum::Json(page)).into_response())
}

/// Show your own tenant
///
/// Its name, what it is granted, how much it may have and how much it has.
#[utoipa::path(
    get, path = "/api/v1/tenants/current", tag = "tenants", operation_id = "show_current_tenant",
    responses((status = 200, description = "The tenant of the key.", body = CurrentTenantView), ReadProblems),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn show_current(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
) -> Result<axum::Json<CurrentTenantView>> {
    let tenant = find(&app, who.tenant).await?;
    let usage = store::access::tenant::usage(&app.db, who.tenant, MOST_COUNTED).await?;
    Ok(axum::Json(CurrentTenantView {
        id: tenant.id,
        name: tenant.name,
        media_roots: tenant.media_roots,
        s3_profiles: tenant.s3_profiles,
        limits: tenant.limits.into(),
        usage: usage.into(),
    }))
}

/// Show a tenant
///
/// Needs a platform key.
#[utoipa::path(
    get, path = "/api/v1/tenants/{id}", tag = "tenants", operation_id = "show_tenant",
    params(("id" = TenantId, Path, description = "The tenant.")),
    responses(
        (status = 200, description = "The tenant.", body = TenantView),
        (status = 404, description = "There is no such tenant.", body = ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["tenants:read"]), ("bearer" = ["tenants:read"]))
)]
pub async fn show(
    State(app): State<Arc<App>>,
    _: May<TenantsRead>,
    Id(id): Id<TenantId>,
) -> Result<axum::Json<TenantView>> {
    Ok(axum::Json(find(&app, id).await?.into()))
}

/// Change a tenant
///
/// Needs a platform key. Name, limits, grants of media roots and S3 profiles, suspend and resume. What is left out stays as
/// it is. In force within a second, on every replica.
#[utoipa::path(
    patch, path = "/api/v1/tenants/{id}", tag = "tenants", operation_id = "change_tenant",
    params(("id" = TenantId, Path, description = "The tenant.")),
    request_body = ChangeTenant,
    responses(
        (status = 200, description = "The tenant as it is now.", body = TenantView),
        (status = 404, description = "There is no such tenant.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The name is taken (`tenant_name_taken`), or nobody could manage the platform afterwards (`last_admin_key`).", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["tenants:write"]), ("bearer" = ["tenants:write"]))
)]
pub async fn change(
    State(app): State<Arc<App>>,
    May(who, _): May<TenantsWrite>,
    Id(id): Id<TenantId>,
    Json { value, .. }: Json<ChangeTenant>,
) -> Result<axum::Json<TenantView>> {
    let event = audit::change(CHANGE, StatusCode::OK, who.tenant);
    let changed = tenancy::tenant::change(&app.db, id, value.check(&app)?, &event).await?;
    audit::kept(CHANGE);
    app.forget_access(id).await;
    let suspended = changed.suspended_at.is_some();
    tracing::info!(tenant.id = %id, suspended, by = who.key_public_id, "tenant changed");
    Ok(axum::Json(changed.into()))
}

/// Make a key of a tenant
///
/// Needs a platform key. For the first key of a tenant; its admins make the others themselves. As with
/// `POST /api/v1/api-keys`, the key is shown once and has no more rights than the one that makes it.
#[utoipa::path(
    post, path = "/api/v1/tenants/{id}/api-keys", tag = "tenants", operation_id = "create_tenant_api_key",
    params(
        ("id" = TenantId, Path, description = "The tenant."),
        ("Idempotency-Key" = Option<String>, Header, description = "Your word for this request. Repeated with the same body within 24 hours, it makes no second key."),
    ),
    request_body = CreateKey,
    responses(
        (status = 201, description = "The key was made.", body = KeyView, headers(("Location" = String, description = "The key, for keys of that tenant."))),
        (status = 404, description = "There is no such tenant.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The tenant has as many keys as it may (`too_many_keys`), or the first request with this Idempotency-Key is still in progress.", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The Idempotency-Key was used for another request.", body = ProblemBody, content_type = "application/problem+json"),
        WriteProblems,
    ),
    security(("api_key" = ["tenants:write"]), ("bearer" = ["tenants:write"]))
)]
pub async fn create_key(
    State(app): State<Arc<App>>,
    May(who, _): May<TenantsWrite>,
    Id(id): Id<TenantId>,
    Json { value, repeatable }: Json<CreateKey>,
) -> Result<Response> {
    let wish = value.check()?;
    let once = repeatable.of(format!("POST /api/v1/tenants/{id}/api-keys"));
    let maker = Maker { who: &who, pepper: &app.pepper, request: once.as_ref() };
    let made = tenancy::key::create(&app.db, maker, id, &wish, keys::beside(keys::CREATE, who.tenant)).await?;
    Ok(keys::answer(&app, keys::CREATE, made))
}

async fn find(app: &App, id: TenantId) -> Result<Tenant> {
    Ok(store::access::tenant::find(&app.db, id).await?.ok_or_else(|| Error::not_found("tenant"))?)
}
