//! What clients see of an upload, and what they may ask for.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::id::{JobId, UploadId};
use shared::store::upload::Upload;
use shared::upload::UploadState;
use utoipa::{IntoParams, ToSchema};

use crate::openapi::FileBytes;

/// An upload.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadView {
    /// The upload; a job names it as its source.
    pub id: UploadId,
    /// Where it stands.
    #[schema(example = "complete")]
    pub state: UploadState,
    /// Your name for the file.
    pub filename: String,
    /// Your word for what it is.
    pub content_type: Option<String>,
    /// Null until complete.
    pub size_bytes: Option<i64>,
    /// Bytes of the whole as announced; null if that comes later.
    pub length_bytes: Option<u64>,
    /// Bytes that are stored for good.
    pub received_bytes: u64,
    /// SHA-256 of the file in hexadecimal, if it was asked for with the metadata `checksum`; null until complete.
    #[schema(example = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9")]
    pub sha256: Option<String>,
    /// `partial` for a part of another upload, `final` for one put together from parts.
    pub concat: Option<String>,
    /// The job that the metadata `probe` asked for, made when the last byte was stored.
    pub job_id: Option<JobId>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When its last byte was stored.
    pub completed_at: Option<DateTime<Utc>>,
    /// An unfinished upload is erased then, unless more comes; null once complete.
    pub expires_at: Option<DateTime<Utc>>,
}

impl From<Upload> for UploadView {
    fn from(upload: Upload) -> Self {
        let hex = |bytes: &Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect();
        Self {
            id: upload.id,
            state: upload.state,
            size_bytes: upload.size_bytes,
            length_bytes: upload.length(),
            received_bytes: upload.offset(),
            sha256: upload.sha256.as_ref().map(hex),
            expires_at: upload.expires_at.filter(|_| upload.state == UploadState::Receiving),
            filename: upload.filename,
            content_type: upload.content_type,
            concat: upload.concat,
            job_id: upload.job_id,
            created_at: upload.created_at,
            completed_at: upload.completed_at,
        }
    }
}

/// A form with a file.
#[derive(ToSchema)]
pub struct UploadForm {
    /// The file.
    pub file: FileBytes,
}

/// The versions of tus that are spoken.
#[derive(ToSchema)]
pub enum TusVersion {
    /// The only one.
    #[schema(rename = "1.0.0")]
    One,
}

/// The methods that may be meant by a POST.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
pub enum Meant {
    /// Continue it.
    Patch,
    /// Where does it stand?
    Head,
    /// Erase it.
    Delete,
}

/// Query of an upload.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// Your name for the file; the result carries it. At most 1024 bytes.
    #[param(min_length = 1, max_length = 1024, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$", example = "holiday.mp4")]
    pub filename: Option<String>,
}
