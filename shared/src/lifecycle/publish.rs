//! Publishing: gives each event its place in the order that clients see, once the change it tells of is in force, and makes
//! the deliveries to the webhooks that want it in the same transaction. One process at a time does it, and whoever comes
//! meanwhile need not wait. Called by the worker's role `deliver`, and by an API that has streams open.

use sqlx::PgPool;

use super::batch;
use crate::error::Result;
use crate::store;

/// Most events published in one transaction.
const BATCH: i64 = 500;

/// What a round of publishing did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Published {
    /// How many events were published.
    pub count: i64,
    /// Whether more wait, so that another round is due at once.
    pub more: bool,
}

/// One round of publishing.
pub async fn publish(db: &PgPool) -> Result<Published> {
    let mut tx = db.begin().await?;
    let Some(before) = store::event::take_turn(&mut tx).await? else { return Ok(Published::default()) };
    let numbered = store::event::number(&mut tx, before, BATCH).await?;
    let count = numbered.last - before;
    if count == 0 {
        return Ok(Published::default());
    }
    // the ends of batches follow in the next round, so that every end of a job is looked at once
    let completed = if numbered.ends { batch::complete_after(&mut tx, before).await? } else { 0 };
    store::delivery::insert_for(&mut tx, before, numbered.last).await?;
    tx.commit().await?;
    Ok(Published { count, more: count == BATCH || completed > 0 })
}
