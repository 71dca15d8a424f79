//! Publishing: gives each event its place in the order that clients see, once the change it tells of is in force, and makes
//! the deliveries to the webhooks that want it in the same transaction. One process at a time does it, and whoever comes
//! meanwhile need not wait. Called by the worker's role `deliver`, and by an API that has streams open.

use sqlx::PgPool;

use crate::error::Result;
use crate::store;

/// Most events published in one transaction.
pub const PUBLISH_BATCH: i64 = 500;

/// One round of publishing. Returns how many events were; call again while it is a full batch.
pub async fn publish(db: &PgPool) -> Result<i64> {
    let mut tx = db.begin().await?;
    let Some(last) = store::event::take_turn(&mut tx).await? else { return Ok(0) };
    let numbered = store::event::number(&mut tx, last, PUBLISH_BATCH).await?;
    let mut published = numbered.count;
    if published == 0 {
        return Ok(0);
    }
    if numbered.ends && store::batch::complete_after(&mut *tx, last).await? > 0 {
        // the ends of batches follow those of their last jobs at once
        published += store::event::number(&mut tx, last + published, PUBLISH_BATCH).await?.count;
    }
    store::delivery::insert_for(&mut tx, last, last + published).await?;
    tx.commit().await?;
    Ok(published)
}
