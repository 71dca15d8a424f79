//! What clients see of an upload, and what they may ask for.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::id::UploadId;
use shared::store::upload::Upload;
use utoipa::{IntoParams, ToSchema};

/// An upload.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadView {
    /// The upload; a job names it as its source.
    pub id: UploadId,
    /// `receiving` or `complete`.
    #[schema(example = "complete")]
    pub state: String,
    /// Your name for the file.
    pub filename: String,
    /// Your word for what it is.
    pub content_type: Option<String>,
    /// Null until complete.
    pub size_bytes: Option<i64>,
    /// When its first byte was awaited.
    pub created_at: DateTime<Utc>,
    /// When its last byte was stored.
    pub completed_at: Option<DateTime<Utc>>,
}

impl From<Upload> for UploadView {
    fn from(upload: Upload) -> Self {
        Self {
            id: upload.id,
            state: upload.state,
            filename: upload.filename,
            content_type: upload.content_type,
            size_bytes: upload.size_bytes,
            created_at: upload.created_at,
            completed_at: upload.completed_at,
        }
    }
}

/// Query of an upload.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// Your name for the file; the result carries it.
    #[param(max_length = 1024, example = "holiday.mp4")]
    pub filename: Option<String>,
}
