//! What clients send to `/api/v1/batches`.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::batch::NewBatch;
use shared::job::{FailureCode, JobWebhook};
use shared::{Code, Error};
use utoipa::{IntoParams, ToSchema};

use crate::App;
use crate::extract::object_or_null;
use crate::routes::jobs::request::{CreateJob, check_external_id, check_metadata};
use crate::routes::webhooks::request::JobWebhookRequest;

/// A batch to be accepted, as one JSON object.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"external_id": "nightly-2026-11-24", "jobs": [{"source": {"type": "path", "path": "/test/a.mp4"}}, {"source": {"type": "path", "path": "/test/b.mp4"}, "profile": "quick"}]}))]
pub struct CreateBatch {
    /// The jobs, each as in `POST /api/v1/jobs`: 1 to 10,000, as long as the body has at most 4 MiB.
    #[schema(min_items = 1, max_items = 10_000, value_type = Vec<CreateJob>)]
    pub jobs: Vec<Box<RawValue>>,
    /// Your own name for the batch, unique in your tenant.
    #[schema(min_length = 1, max_length = 200)]
    pub external_id: Option<String>,
    /// Your own JSON object, given back with the batch; at most 16 KiB.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// Where its end is to be told, besides your webhooks: `batch.completed`, signed with your tenant's default secret.
    #[serde(default, deserialize_with = "object_or_null")]
    pub webhook: Option<JobWebhookRequest>,
}

/// Query of a batch that comes as lines.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CreateQuery {
    /// Your own name for a batch that comes as lines, unique in your tenant.
    #[param(min_length = 1, max_length = 200)]
    pub external_id: Option<String>,
}

/// The batch ready to be stored, if its own members are as they must be.
pub fn check(
    app: &App,
    external_id: Option<String>,
    metadata: Map<String, Value>,
    total: i32,
    webhook: Option<JobWebhook>,
) -> Result<NewBatch, Error> {
    if let Some(id) = &external_id {
        check_external_id(id, app.limits.external_id_chars)?;
    }
    check_metadata(&metadata, app.limits.metadata_bytes)?;
    Ok(NewBatch { external_id, metadata, total, webhook })
}

/// Which failed jobs of a batch to run again.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"failure_code": "storage_error"}))]
pub struct RetryBatch {
    /// Only those that failed for this reason.
    pub failure_code: Option<FailureCode>,
}

/// How the results of a batch are written.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ResultsQuery {
    /// `ndjson` or `csv`; without it, what the Accept header asks for, or `ndjson`.
    #[param(inline)]
    pub format: Option<crate::export::Format>,
}

/// One job of many, as in `POST /api/v1/jobs`.
pub fn job(text: &[u8]) -> Result<CreateJob, Error> {
    crate::extract::read_object(text)
        .map_err(|e| Error::new(Code::InvalidJson, e.detail().replacen("The body", "It", 1)))
}
