//! Webhooks and what is sent to them: each verb is one transaction. Endpoints are made and changed here for the API's routes;
//! deliveries are claimed and ended here for the worker's deliverer. The one place that decides what an answer of an endpoint
//! means for the delivery and for the endpoint. It sends nothing itself.

mod endpoint;

use std::time::Duration;

use serde_json::json;
use sqlx::{PgConnection, PgPool};

pub use endpoint::{Created, Maker, WEBHOOKS_MAX, change, create, redeliver, remove, replay, rotate, test};

use crate::error::{Error, Result};
use crate::event::EventType;
use crate::id::{TenantId, WebhookId};
use crate::sealed::KeyRing;
use crate::store;
use crate::store::delivery::turn::{self, Attempted, Claimed, Failing, Next, Room};
use crate::store::webhook::Kind;
use crate::store::webhook::seal::{self, Sealed};
use crate::webhook::{self, DisabledReason, FAILING_LEAST, FAILING_MAX, FAILING_QUIET, RETRY_AFTER_MAX};

/// Most targets that are looked at in one walk.
const WALK: i64 = 256;
/// Most deliveries that are rescued, or canceled, in one statement.
const BATCH: i64 = 1_000;
/// The answer of an endpoint that is no more (RFC 9110 section 15.5.11).
const GONE: i16 = 410;

/// What a round of claiming found.
#[derive(Debug)]
pub struct Found {
    /// Deliveries that are ours now.
    pub claimed: Vec<Claimed>,
    /// Where the next walk goes on; none: it begins anew.
    pub place: Option<WebhookId>,
}

/// Claims what is due, target after target, from `place` on.
pub async fn claim(db: &PgPool, place: Option<WebhookId>, room: &Room) -> Result<Found> {
    let full = room.running.iter().filter(|(_, running)| *running >= room.per_tenant);
    let full: Vec<TenantId> = full.map(|(tenant, _)| *tenant).collect();
    let walked = turn::walk(db, place, &full, WALK).await?;
    let full = walked.len() >= usize::try_from(WALK).unwrap_or(usize::MAX);
    let mut next = walked.last().map(|target| target.id).filter(|_| full);
    let mut ready: Vec<WebhookId> = walked.iter().filter(|target| target.ready).map(|target| target.id).collect();
    let most = usize::try_from(room.slots).unwrap_or(0);
    if ready.len() > most {
        // whoever finds no room now is first the next time
        ready.truncate(most);
        next = ready.last().copied();
    }
    if ready.is_empty() {
        return Ok(Found { claimed: Vec::new(), place: next });
    }
    let mut tx = db.begin().await?;
    let ours = turn::lock(&mut tx, &ready).await?;
    let claimed = if ours.is_empty() { Vec::new() } else { turn::claim(&mut tx, &ours, room).await? };
    tx.commit().await?;
    Ok(Found { claimed, place: next })
}

/// How an attempt ended, and what the endpoint asked for.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What is remembered of it.
    pub attempted: Attempted,
    /// How long the endpoint wants to be left alone.
    pub retry_after: Option<Duration>,
}

/// What an end came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint took it.
    Succeeded,
    /// It is tried again.
    Again,
    /// It was tried for the last time.
    Failed,
    /// And the webhook gets nothing any more.
    Disabled,
    /// Nothing was sent: it waits as if nobody had claimed it.
    Unsent,
    /// There is nothing to be sent any more.
    Canceled,
    /// Somebody else has it by now.
    Lost,
}

/// Why nothing was sent. The endpoint has nothing to do with it, so no try and no failure is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// The service itself could not, for this reason; it may be claimed again after so long.
    Fault(&'static str, Duration),
    /// What it tells of, or where that was to be told, was erased.
    Void,
}

/// Gives a delivery back of which nothing was sent.
pub async fn give_back(db: &PgPool, claimed: &Claimed, unsent: Unsent) -> Result<Outcome> {
    let (reason, wait, outcome) = match unsent {
        Unsent::Fault(reason, wait) => (reason, Some(wait), Outcome::Unsent),
        Unsent::Void => ("what it tells of was erased", None, Outcome::Canceled),
    };
    let ours = turn::give_back(db, claimed.id, claimed.token, reason, wait).await?;
    Ok(if ours { outcome } else { Outcome::Lost })
}

/// Ends an attempt: the delivery waits, or has ended; its target is cleared, counted against, left alone or disabled.
/// `dice` in `0.0..1.0` spreads.
pub async fn end(db: &PgPool, claimed: &Claimed, ended: &Ended, dice: f64) -> Result<Outcome> {
    let success = ended.attempted.error.is_none();
    let gone = ended.attempted.status == Some(GONE);
    let next = match webhook::retry_wait(u32::try_from(claimed.tries).unwrap_or(0), dice) {
        _ if success => Next::Succeeded,
        Some(wait) if !gone => Next::After(wait.max(ended.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX))),
        _ => Next::Failed,
    };
    if success {
        let ours = turn::end(db, claimed, &ended.attempted, next).await?;
        return Ok(if ours { Outcome::Succeeded } else { Outcome::Lost });
    }
    let mut tx = db.begin().await?;
    if !turn::end(&mut *tx, claimed, &ended.attempted, next).await? {
        return Ok(Outcome::Lost);
    }
    let failing = turn::count_failure(&mut *tx, claimed.webhook, claimed.generation, FAILING_QUIET).await?;
    let Some(failing) = failing else {
        tx.rollback().await?;
        let reason = "the webhook was changed while it was sent to where that was before";
        return give_back(db, claimed, Unsent::Fault(reason, Duration::ZERO)).await;
    };
    let disabled = judge(&mut tx, claimed, ended, failing, dice).await?;
    tx.commit().await?;
    Ok(match next {
        _ if disabled => Outcome::Disabled,
        Next::Succeeded => Outcome::Succeeded,
        Next::After(_) => Outcome::Again,
        Next::Failed => Outcome::Failed,
    })
}

/// What a failure means for its target. Whether it was disabled for it. The target of jobs never is: each of them names it anew.
async fn judge(tx: &mut PgConnection, claimed: &Claimed, ended: &Ended, failing: Failing, dice: f64) -> Result<bool> {
    let reason = if claimed.kind == Kind::Job || failing.disabled_at.is_some() {
        None
    } else if ended.attempted.status == Some(GONE) {
        Some(DisabledReason::Gone)
    } else {
        let goes_on = failing.failures >= FAILING_LEAST && failing.seconds >= FAILING_MAX.as_secs_f64();
        goes_on.then_some(DisabledReason::Failing)
    };
    if let Some(reason) = reason {
        if store::webhook::disable(&mut *tx, claimed.webhook, reason).await? {
            tell_disabled(tx, claimed.tenant, claimed.webhook, reason).await?;
        }
        return Ok(true);
    }
    let own = webhook::circuit_pause(u32::try_from(failing.failures).unwrap_or(0));
    // it asked for a pause, which holds for all of its deliveries, but is not believed for hours
    let asked = ended.retry_after.unwrap_or_default().min(webhook::PAUSE_MAX);
    // spread to the shorter side, so that the longest pause stays the longest
    let own = own.mul_f64(1.0 - dice.clamp(0.0, 1.0) / 5.0);
    if !own.is_zero() || !asked.is_zero() {
        turn::pause(tx, claimed.webhook, own, asked).await?;
    }
    Ok(false)
}

async fn tell_disabled(tx: &mut PgConnection, tenant: TenantId, id: WebhookId, reason: DisabledReason) -> Result<()> {
    let Some(webhook) = store::webhook::find(&mut *tx, tenant, id).await? else { return Ok(()) };
    let data = json!({"webhook": {
        "id": id, "url": webhook.url, "description": webhook.description, "reason": reason.as_str(),
        "failing_since": webhook.failing_since, "disabled_at": webhook.disabled_at,
    }});
    store::event::insert(tx, tenant, EventType::WebhookDisabled, &data).await.map(drop)
}

/// One round of keeping house: takes deliveries from deliverers that fell silent, and ends those that wait for webhooks that
/// were disabled. Returns how many of both; call again while there are many.
pub async fn tidy(db: &PgPool) -> Result<u64> {
    let rescued = turn::rescue(db, &webhook::SCHEDULE.map(i64::from), BATCH).await?;
    Ok(rescued + store::delivery::cancel_idle(db, BATCH).await?)
}

/// One round of erasing what nobody asks for any more: deleted webhooks, targets that no job names. Returns how many rows
/// went or were looked at; call again while there are many.
pub async fn prune(db: &PgPool) -> Result<u64> {
    let mut tx = db.begin().await?;
    let erased = store::webhook::erase(&mut tx, BATCH).await?;
    tx.commit().await?;
    Ok(erased + store::webhook::prune_targets(db, BATCH).await?)
}

/// What sealing anew came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resealed {
    /// How many are under the first key now.
    pub done: u64,
    /// How many none of the keys opens.
    pub left: u64,
}

/// Seals URLs and secrets anew that were sealed under another key than the first one, so that the operator can drop that.
pub async fn reseal(db: &PgPool, keys: &KeyRing) -> Result<Resealed> {
    let Some(head) = keys.head() else { return Ok(Resealed::default()) };
    let mut resealed = Resealed::default();
    for what in [Sealed::Urls, Sealed::Secrets] {
        let mut after = None;
        loop {
            let found = seal::list_stale(db, what, &head, after.as_deref(), BATCH).await?;
            let Some(last) = found.last() else { break };
            after = Some(last.place.clone());
            let mut renewed = Vec::with_capacity(found.len());
            for stale in found {
                match keys.open(stale.tenant, &stale.sealed) {
                    Ok(plain) => {
                        let sealed = keys.seal(rand::random(), stale.tenant, &plain);
                        renewed.push((stale, sealed.ok_or_else(|| Error::internal("nothing was sealed"))?));
                    }
                    Err(_) => resealed.left += 1,
                }
            }
            resealed.done += seal::replace(db, what, &renewed).await?;
        }
    }
    Ok(resealed)
}
