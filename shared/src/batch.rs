//! A batch: jobs that were handed in together, and how they stand. Pure.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::id::{BatchId, TenantId};
use crate::job::JobWebhook;

/// How the jobs of a batch stand, or stood at its end. Jobs that were erased before are in none of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = BatchCounts)]
pub struct Counts {
    /// Waiting for a worker.
    pub queued: i64,
    /// Running now.
    pub running: i64,
    /// With a result.
    pub succeeded: i64,
    /// Without one.
    pub failed: i64,
    /// Not wanted any more.
    pub canceled: i64,
}

impl Counts {
    /// Jobs that have not ended.
    pub fn open(self) -> i64 {
        self.queued + self.running
    }

    /// Jobs that have ended.
    pub fn ended(self) -> i64 {
        self.succeeded + self.failed + self.canceled
    }

    /// How much of the batch is done, from 0 to 100; erased jobs count as done.
    pub fn percent(self, total: i32) -> f64 {
        let total = i64::from(total.max(1));
        // a batch has at most some thousands of jobs, far below what a double holds exactly
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let share = (total - self.open()).clamp(0, total) as f64 / total as f64;
        (share * 1_000.0).round() / 10.0
    }
}

/// A batch as stored.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The batch.
    pub id: BatchId,
    /// The owner.
    pub tenant: TenantId,
    /// The client's own name for it, unique per tenant.
    pub external_id: Option<String>,
    /// The client's own JSON object.
    pub metadata: Map<String, Value>,
    /// How many jobs were handed in.
    pub total: i32,
    /// How they stand.
    pub counts: Counts,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When its last job ended.
    pub completed_at: Option<DateTime<Utc>>,
}

/// What a client asks for, besides its jobs.
#[derive(Debug, Clone, Default)]
pub struct NewBatch {
    /// The client's own name for it, unique per tenant.
    pub external_id: Option<String>,
    /// The client's own JSON object, given back unchanged.
    pub metadata: Map<String, Value>,
    /// How many jobs there are.
    pub total: i32,
    /// Where its end is to be told.
    pub webhook: Option<JobWebhook>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_goes_from_nothing_to_all() {
        let counts = |queued, running, succeeded| Counts { queued, running, succeeded, ..Counts::default() };
        assert_eq!(counts(3, 0, 0).percent(3), 0.0);
        assert_eq!(counts(1, 1, 1).percent(3), 33.3);
        assert_eq!(counts(0, 0, 2).percent(3), 100.0, "one was erased");
        assert_eq!(counts(9, 0, 0).percent(3), 0.0);
        assert_eq!(Counts::default().percent(0), 100.0);
    }
}
