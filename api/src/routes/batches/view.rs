//! What clients see of a batch.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::batch::{Batch, Counts};
use shared::id::BatchId;
use utoipa::ToSchema;

/// Where a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Some of its jobs have not ended.
    Running,
    /// All of its jobs have ended. Running failed ones again makes it `running` again.
    Completed,
}

/// A batch of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchView {
    /// The batch.
    pub id: BatchId,
    /// Where it stands.
    pub state: BatchState,
    /// Your own name for it.
    pub external_id: Option<String>,
    /// Your own JSON object.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// How many jobs were handed in.
    pub total: i32,
    /// How they stand; once it is completed, how they stood at its end. Jobs that were erased before are not counted.
    pub counts: Counts,
    /// How much of it is done, from 0 to 100.
    pub percent: f64,
    /// When it was accepted.
    pub created_at: DateTime<Utc>,
    /// When its last job ended.
    pub completed_at: Option<DateTime<Utc>>,
}

impl From<Batch> for BatchView {
    fn from(batch: Batch) -> Self {
        Self {
            id: batch.id,
            state: if batch.completed_at.is_some() { BatchState::Completed } else { BatchState::Running },
            external_id: batch.external_id,
            metadata: batch.metadata,
            total: batch.total,
            percent: if batch.completed_at.is_some() { 100.0 } else { batch.counts.percent(batch.total) },
            counts: batch.counts,
            created_at: batch.created_at,
            completed_at: batch.completed_at,
        }
    }
}

/// A page of batches.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchPage {
    /// The batches, newest first.
    pub data: Vec<BatchView>,
    /// Whether there are older ones.
    pub has_more: bool,
    /// For the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// Jobs that were asked to stop.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchCanceled {
    /// Jobs canceled at once.
    pub canceled: usize,
    /// Running jobs whose workers were asked to stop; they end within some seconds.
    pub requested: usize,
}

/// Jobs that were queued again.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchRetried {
    /// How many.
    pub count: usize,
}
