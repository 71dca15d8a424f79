//! Where jobs and batches want their ends to be told: noted in the transaction that accepts them. What is sent there is
//! `delivery`'s.

use std::collections::HashMap;

use sqlx::PgConnection;

use crate::error::{Code, Error, Result};
use crate::id::{BatchId, JobId, TenantId};
use crate::job::JobWebhook;
use crate::store;
use crate::store::webhook::ForJob;

/// Notes the wishes of jobs that were just stored.
///
/// # Errors
/// `no_webhook_secret` if the tenant has no default secret to sign with.
pub(super) async fn note(tx: &mut PgConnection, tenant: TenantId, wishes: &[(JobId, &JobWebhook)]) -> Result<()> {
    check_secret(tx, tenant).await?;
    let mut targets = HashMap::new();
    let mut rows = Vec::with_capacity(wishes.len());
    for (job, wish) in wishes {
        let target = match targets.get(&wish.origin) {
            Some(target) => *target,
            None => store::webhook::target(&mut *tx, tenant, &wish.origin).await?,
        };
        targets.insert(&wish.origin, target);
        rows.push(ForJob { job: *job, target, sealed: &wish.sealed, metadata: wish.metadata.as_ref() });
    }
    store::webhook::insert_for_jobs(tx, &rows).await
}

/// Notes the wish of a batch that was just stored.
///
/// # Errors
/// As above.
pub(super) async fn note_batch(tx: &mut PgConnection, tenant: TenantId, id: BatchId, wish: &JobWebhook) -> Result<()> {
    check_secret(tx, tenant).await?;
    let target = store::webhook::target(&mut *tx, tenant, &wish.origin).await?;
    store::batch::set_webhook(tx, id, target, &wish.sealed, wish.metadata.as_ref()).await
}

async fn check_secret(tx: &mut PgConnection, tenant: TenantId) -> Result<()> {
    if store::webhook::has_default_secret(tx, tenant).await? {
        return Ok(());
    }
    let detail = "The tenant has no default secret to sign the webhooks of jobs with. Make one with \
                  POST /api/v1/webhooks/default-secret, and keep it where they are verified.";
    Err(Error::new(Code::NoWebhookSecret, detail).at("/webhook"))
}
