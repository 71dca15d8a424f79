//! Batches: accepted whole or not at all, canceled and retried in steps. Each job of one goes its own way afterwards;
//! the end of the last is the end of the batch (`lifecycle::publish`).

use std::pin::pin;

use futures::{Stream, TryStreamExt};
use sqlx::{PgConnection, PgPool};

use super::{canceled, upload, webhook};
use crate::audit::Event;
use crate::batch::{Batch, NewBatch};
use crate::error::{Code, Error, Result};
use crate::id::{BatchId, JobId, TenantId};
use crate::job::{FailureCode, JobState};
use crate::store;
use crate::store::idempotency::{Kept, Request};
use crate::store::job::Filter;
use crate::store::job::bulk::{self, Item};

/// Jobs canceled or queued again in one transaction.
const STEP: i64 = 1_000;

/// What became of a batch that was handed in.
#[derive(Debug)]
pub enum Submitted {
    /// It was accepted.
    New(Box<Batch>),
    /// The same request was answered before, with this.
    Repeated(Kept),
}

/// A batch about to be accepted.
pub struct Submission {
    /// The owner.
    pub tenant: TenantId,
    /// What it is, besides its jobs.
    pub new: NewBatch,
    /// The request, if it may be repeated.
    pub request: Option<Request>,
    /// The event that tells of it.
    pub audit: Option<Event>,
}

/// Accepts a batch with the jobs that `items` gives, some hundreds at a time, in one transaction. `items` must not wait for a
/// client. `answer` makes the body that repeated requests are given.
pub async fn submit(
    db: &PgPool,
    submission: Submission,
    items: impl Stream<Item = Result<Vec<Item>>> + Send,
    answer: impl FnOnce(&Batch) -> Result<String>,
) -> Result<Submitted> {
    let Submission { tenant, new, request, audit } = submission;
    let id = BatchId::new();
    let mut tx = db.begin().await?;
    if let Some(request) = &request
        && let Some(kept) = store::idempotency::begin(&mut tx, tenant, request, id.0).await?
    {
        return Ok(Submitted::Repeated(kept));
    }
    let batch = store::batch::insert(&mut *tx, id, tenant, &new).await?;
    if let Some(wish) = &new.webhook {
        webhook::note_batch(&mut tx, tenant, id, wish).await?;
    }
    let mut items = pin!(items);
    while let Some(some) = items.try_next().await? {
        accept(&mut tx, tenant, id, &some).await?;
    }
    if let Some(request) = request {
        store::idempotency::keep(&mut *tx, tenant, &request.key, &answer(&batch)?).await?;
    }
    if let Some(event) = audit {
        store::audit::insert(&mut *tx, &event.on("batch", id)).await?;
    }
    tx.commit().await?;
    Ok(Submitted::New(Box::new(batch)))
}

async fn accept(tx: &mut PgConnection, tenant: TenantId, batch: BatchId, items: &[Item]) -> Result<()> {
    let wanted: Vec<_> = items.iter().filter_map(|item| item.upload_id).collect();
    if !wanted.is_empty() {
        let found = store::upload::list_for_share(&mut *tx, tenant, &wanted).await?;
        for item in items {
            let Some(id) = item.upload_id else { continue };
            let usable = match found.iter().find(|upload| upload.id == id) {
                Some(upload) => upload::check_usable(upload),
                None => Err(Error::not_found("upload")),
            };
            usable.map_err(|e| at(e, item.batch_number, "/source/id"))?;
        }
    }
    let names: Vec<&str> = items.iter().filter_map(|item| item.external_id.as_deref()).collect();
    if let Some(taken) = bulk::find_taken(&mut *tx, tenant, &names).await? {
        let number = items.iter().find(|item| item.external_id.as_ref() == Some(&taken)).map_or(0, |i| i.batch_number);
        let detail = format!("Another job already has the external_id '{taken}'.");
        return Err(at(Error::new(Code::ExternalIdTaken, detail), number, "/external_id"));
    }
    bulk::insert(&mut *tx, tenant, batch, items).await?;
    let wishes: Vec<_> = items.iter().filter_map(|item| Some((item.id, item.webhook.as_ref()?))).collect();
    if wishes.is_empty() {
        return Ok(());
    }
    let first = items.iter().find(|item| item.webhook.is_some()).map_or(1, |item| item.batch_number);
    webhook::note(tx, tenant, &wishes).await.map_err(|e| at(e, first, "/webhook"))
}

/// What is wrong with the job at this place, from 1, of a batch.
pub fn at(error: Error, number: i32, pointer: &str) -> Error {
    let detail = format!("Job {number} of the batch: {}", error.detail());
    Error::new(error.code(), detail).at(format!("/jobs/{}{pointer}", number - 1))
}

/// Jobs that a wish to cancel a batch concerned.
#[derive(Debug, Default)]
pub struct Canceled {
    /// Canceled at once.
    pub done: Vec<JobId>,
    /// Running; their workers were asked to stop.
    pub requested: Vec<JobId>,
}

/// Cancels the jobs of a batch that have not ended. Done in steps; one that is interrupted can be asked for again.
pub async fn cancel(db: &PgPool, tenant: TenantId, id: BatchId) -> Result<Canceled> {
    find(db, tenant, id).await?;
    let mut jobs = Canceled::default();
    loop {
        let step = bulk::cancel_queued(db, id, &canceled(), STEP).await?;
        if step.is_empty() {
            break;
        }
        jobs.done.extend(step);
    }
    let (done, requested): (Vec<_>, Vec<_>) =
        bulk::cancel_rest(db, id, &canceled()).await?.into_iter().partition(|(_, state)| *state == JobState::Canceled);
    jobs.done.extend(done.into_iter().map(|(job, _)| job));
    jobs.requested = requested.into_iter().map(|(job, _)| job).collect();
    Ok(jobs)
}

/// Queues the failed jobs of a batch again, those that failed with `code` if one is given, each with `attempts` more. Done in
/// steps; one that is interrupted can be asked for again.
pub async fn retry(
    db: &PgPool,
    tenant: TenantId,
    id: BatchId,
    code: Option<FailureCode>,
    attempts: i16,
) -> Result<Vec<JobId>> {
    let batch = find(db, tenant, id).await?;
    let filter = Filter { batch: Some(id), ..Filter::default() };
    let mut revived = Vec::new();
    // as many steps as its jobs need: those that fail again meanwhile are left for another call
    for _ in 0..=i64::from(batch.total) / STEP {
        let step = super::retry_failed(db, tenant, &filter, code, attempts, STEP).await?;
        if step.is_empty() {
            break;
        }
        revived.extend(step);
    }
    Ok(revived)
}

/// Completes the batches of which a job ended with an event placed after `sequence`, if it was the last. Returns how many.
pub async fn complete_after(tx: &mut PgConnection, sequence: i64) -> Result<u64> {
    let ended = store::batch::lock_ended_after(tx, sequence).await?;
    store::batch::complete(tx, &ended).await
}

/// One round of completing batches whose last jobs were erased, or whose end was missed because they were locked in that moment.
/// Returns how many.
pub async fn complete_left(db: &PgPool, limit: i64) -> Result<u64> {
    let mut tx = db.begin().await?;
    let left = store::batch::lock_left(&mut tx, limit).await?;
    let completed = store::batch::complete(&mut tx, &left).await?;
    tx.commit().await?;
    Ok(completed)
}

/// The tenant's batch.
pub async fn find(db: &PgPool, tenant: TenantId, id: BatchId) -> Result<Batch> {
    store::batch::find(db, tenant, id).await?.ok_or_else(|| Error::not_found("batch"))
}
