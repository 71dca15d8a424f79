//! One sample request for each operation of openapi.json; a row for each right's least caller. To add a route, add a row: its
//! path, method and right are read from the document. [`super`] asks every row as everybody.

/// What a request is about: the parameter `{id}` or `{name}` of the path, or `$object` in body and headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    /// Nothing that exists before.
    Nothing,
    /// A job that is queued.
    Job,
    /// A batch of one job that is queued.
    Batch,
    /// An upload with all its bytes.
    Upload,
    /// An upload of five bytes that has none yet.
    OpenUpload,
    /// An API key that can do no more than manage keys.
    Key,
    /// A session, begun with a key that may manage all of its tenant or by the asker itself.
    Session,
    /// A webhook.
    Webhook,
    /// A delivery to a webhook, as `WEBHOOK/DELIVERY`.
    Delivery,
    /// A tenant. It belongs to the platform, so none is foreign.
    Tenant,
    /// A queue. It belongs to the platform, too.
    Queue,
}

impl Object {
    /// Whether one of another tenant must look as if it did not exist.
    pub(super) fn is_owned(self) -> bool {
        !matches!(self, Self::Nothing | Self::Tenant | Self::Queue)
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body {
    /// Nothing.
    Nothing,
    /// JSON; `$object` stands for the object, `$unique` for a word that was never used.
    Json(&'static str),
    /// Bytes of this content type.
    Bytes(&'static str, &'static str),
}

/// A sample request.
#[derive(Debug)]
pub(super) struct Row {
    /// Its `operationId`.
    pub(super) operation: &'static str,
    /// What it is about.
    pub(super) object: Object,
    /// Headers besides the credentials.
    pub(super) headers: &'static [(&'static str, &'static str)],
    /// What is sent.
    pub(super) body: Body,
    /// The status if the credentials are good, the right is there, and the object is one's own.
    pub(super) done: u16,
}

const fn row(operation: &'static str, object: Object, body: Body, done: u16) -> Row {
    Row { operation, object, headers: &[], body, done }
}

const fn tus(
    operation: &'static str,
    object: Object,
    headers: &'static [(&'static str, &'static str)],
    body: Body,
    done: u16,
) -> Row {
    Row { operation, object, headers, body, done }
}

use Body::{Bytes, Json};
use Object::{Batch, Delivery, Job, Key, OpenUpload, Queue, Session, Tenant, Upload, Webhook};

const VERSION: (&str, &str) = ("tus-resumable", "1.0.0");
const PIECE: &str = "application/offset+octet-stream";
const NONE: Body = Body::Nothing;
const NO_OBJECT: Object = Object::Nothing;
const PATH: &str = r#"{"source": {"type": "path", "path": "/a.wav"}}"#;
const BATCH: &str = r#"{"jobs": [{"source": {"type": "path", "path": "/a.wav"}}]}"#;
const NEW_KEY: &str = r#"{"name": "x", "role": "admin", "scopes": ["keys:write"]}"#;
const NEW_WEBHOOK: &str = r#"{"url": "https://example.com/hook"}"#;
const FIRST_KEY: &str = r#"{"name": "x", "role": "admin", "platform": true, "scopes": ["tenants:write"]}"#;

/// The sample requests, in the order of the document.
pub(super) const ROWS: &[Row] = &[
    row("list_api_keys", NO_OBJECT, NONE, 200),
    row("create_api_key", NO_OBJECT, Json(NEW_KEY), 201),
    row("show_api_key", Key, NONE, 200),
    row("revoke_api_key", Key, NONE, 204),
    row("change_api_key", Key, Json(r#"{"name": "y"}"#), 200),
    row("rotate_api_key", Key, Json(r#"{"overlap_seconds": 5}"#), 201),
    row("list_audit_events", NO_OBJECT, NONE, 200),
    row("show_me", NO_OBJECT, NONE, 200),
    row("revoke_token", NO_OBJECT, Json(r#"{"token": "ffr_nonsense"}"#), 200),
    row("list_sessions", NO_OBJECT, NONE, 200),
    row("delete_session", Session, NONE, 204),
    row("create_token", NO_OBJECT, Json(r#"{"grant_type": "api_key"}"#), 200),
    row("list_batches", NO_OBJECT, NONE, 200),
    row("create_batch", NO_OBJECT, Json(BATCH), 202),
    row("show_batch", Batch, NONE, 200),
    row("cancel_batch", Batch, NONE, 200),
    row("read_batch_results", Batch, NONE, 200),
    row("retry_batch", Batch, Json("{}"), 200),
    row("follow_events", NO_OBJECT, NONE, 200),
    row("list_jobs", NO_OBJECT, NONE, 200),
    row("create_job", NO_OBJECT, Json(PATH), 202),
    row("create_job", Upload, Json(r#"{"source": {"type": "upload", "id": "$object"}}"#), 202),
    row("retry_failed_jobs", NO_OBJECT, Json("{}"), 200),
    row("show_job", Job, NONE, 200),
    row("delete_job", Job, NONE, 204),
    row("list_job_attempts", Job, NONE, 200),
    row("cancel_job", Job, NONE, 200),
    row("follow_job_events", Job, NONE, 200),
    row("show_job_result", Job, NONE, 409),
    row("retry_job", Job, NONE, 409),
    row("show_job_series", Job, NONE, 404),
    row("list_file_probes", NO_OBJECT, NONE, 200),
    row("probe_file", NO_OBJECT, Json(r#"{"file_path": "/../a.wav"}"#), 400),
    row("probe_health", NO_OBJECT, NONE, 200),
    row("probe_url", NO_OBJECT, Json(r#"{"url": "ftp://example.com/a.wav"}"#), 400),
    row("list_queues", NO_OBJECT, NONE, 200),
    row("pause_queue", Queue, Json("{}"), 200),
    row("resume_queue", Queue, NONE, 200),
    row("list_tenants", NO_OBJECT, NONE, 200),
    row("create_tenant", NO_OBJECT, Json(r#"{"name": "$unique"}"#), 201),
    row("show_current_tenant", NO_OBJECT, NONE, 200),
    row("show_tenant", Tenant, NONE, 200),
    row("change_tenant", Tenant, Json(r#"{"limits": {"max_running": 4}}"#), 200),
    row("create_tenant_api_key", Tenant, Json(FIRST_KEY), 201),
    row("create_upload", NO_OBJECT, Bytes("application/octet-stream", "hello"), 201),
    row("upload_options", NO_OBJECT, NONE, 200),
    row("show_upload", Upload, NONE, 200),
    tus("override_upload", Upload, &[VERSION, ("x-http-method-override", "DELETE")], NONE, 204),
    tus("delete_upload", Upload, &[VERSION], NONE, 204),
    row("upload_options_of", OpenUpload, NONE, 200),
    tus("head_upload", OpenUpload, &[VERSION], NONE, 200),
    tus("append_upload", OpenUpload, &[VERSION, ("upload-offset", "0")], Bytes(PIECE, "hello"), 204),
    row("list_webhooks", NO_OBJECT, NONE, 200),
    row("create_webhook", NO_OBJECT, Json(NEW_WEBHOOK), 201),
    row("rotate_default_webhook_secret", NO_OBJECT, Json("{}"), 200),
    row("show_webhook", Webhook, NONE, 200),
    row("change_webhook", Webhook, Json(r#"{"description": "y"}"#), 200),
    row("delete_webhook", Webhook, NONE, 204),
    row("rotate_webhook_secret", Webhook, Json("{}"), 200),
    row("test_webhook", Webhook, NONE, 202),
    row("replay_events", Webhook, Json(r#"{"since": "2026-01-01T00:00:00Z"}"#), 202),
    row("list_deliveries", Webhook, NONE, 200),
    row("show_delivery", Delivery, NONE, 200),
    row("redeliver", Delivery, NONE, 202),
    row("show_docs", NO_OBJECT, NONE, 200),
    row("show_docs_file", NO_OBJECT, NONE, 200),
    row("show_openapi", NO_OBJECT, NONE, 200),
    row("health", NO_OBJECT, NONE, 200),
    row("live", NO_OBJECT, NONE, 200),
    row("ready", NO_OBJECT, NONE, 200),
];

/// Who may ask, the least first; each may what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Caller {
    /// Reads.
    Viewer,
    /// Also submits and uploads.
    Submitter,
    /// Also manages the tenant.
    Admin,
    /// Also runs the platform.
    Platform,
}

impl Caller {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Viewer, Self::Submitter, Self::Admin, Self::Platform];
}

/// The least that carries each right: the rule once more, by hand, so that the code is not compared with itself.
pub(super) const LEAST: &[(&str, Caller)] = &[
    ("jobs:read", Caller::Viewer),
    ("jobs:write", Caller::Submitter),
    ("uploads:read", Caller::Viewer),
    ("uploads:write", Caller::Submitter),
    ("queues:read", Caller::Viewer),
    ("keys:read", Caller::Admin),
    ("keys:write", Caller::Admin),
    ("webhooks:read", Caller::Admin),
    ("webhooks:write", Caller::Admin),
    ("audit:read", Caller::Admin),
    ("queues:write", Caller::Platform),
    ("tenants:read", Caller::Platform),
    ("tenants:write", Caller::Platform),
];
