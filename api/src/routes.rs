//! The list of routes: the table of contents of the product. A handler translates, checks the right, and calls
//! `lifecycle` or `store`; it decides nothing about a job.

pub mod audit;
pub mod auth;
pub mod batches;
pub mod docs;
pub mod events;
pub mod health;
pub mod jobs;
pub mod keys;
pub mod probe;
pub mod queues;
pub mod tenants;
pub mod uploads;
pub mod webhooks;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::App;

/// Every route. Nothing is reachable that is not named here.
pub fn all() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(jobs::create, jobs::list))
        .routes(routes!(jobs::show, jobs::change::remove))
        .routes(routes!(jobs::show_result))
        .routes(routes!(jobs::series::show))
        .routes(routes!(jobs::attempts::list))
        .routes(routes!(events::of_job))
        .routes(routes!(jobs::change::cancel))
        .routes(routes!(jobs::change::retry))
        .routes(routes!(jobs::change::retry_failed))
        .routes(routes!(batches::create, batches::list))
        .routes(routes!(batches::show))
        .routes(routes!(batches::results))
        .routes(routes!(batches::cancel))
        .routes(routes!(batches::retry))
        .routes(routes!(events::of_tenant))
        .routes(routes!(queues::list))
        .routes(routes!(queues::pause))
        .routes(routes!(queues::resume))
        .routes(routes!(probe::probe_file, probe::list_file_probes))
        .routes(routes!(probe::probe_url))
        .routes(routes!(uploads::create, uploads::options))
        .routes(routes!(
            uploads::show,
            uploads::head,
            uploads::append,
            uploads::remove,
            uploads::by_post,
            uploads::options_of
        ))
        .routes(routes!(audit::list))
        .routes(routes!(docs::page))
        .routes(routes!(docs::file))
        .routes(routes!(docs::document))
        .routes(routes!(auth::create))
        .routes(routes!(auth::revoke))
        .routes(routes!(auth::me))
        .routes(routes!(auth::sessions::list))
        .routes(routes!(auth::sessions::remove))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::show, keys::change, keys::remove))
        .routes(routes!(keys::rotate))
        .routes(routes!(tenants::create, tenants::list))
        .routes(routes!(tenants::show_current))
        .routes(routes!(tenants::show, tenants::change))
        .routes(routes!(tenants::create_key))
        .routes(routes!(webhooks::create, webhooks::list))
        .routes(routes!(webhooks::rotate_default))
        .routes(routes!(webhooks::show, webhooks::change, webhooks::remove))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::deliveries::list))
        .routes(routes!(webhooks::deliveries::show))
        .routes(routes!(webhooks::deliveries::redeliver))
        .routes(routes!(webhooks::deliveries::replay))
        .routes(routes!(health::probe_health))
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
}
