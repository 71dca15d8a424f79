//! How a request can end when it does not end well.
//!
//! An [`Error`] is a stable [`Code`], a sentence that says what to do, and (for our own faults) a cause that goes to
//! the log and never to the client. The api crate turns it into RFC 9457 problem+json in one place. Why a *file* could
//! not be probed is data on the job and lives in [`crate::job::failure`].

use std::fmt;

/// A boxed cause, kept for the log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Shorthand for what store, storage, queue and lifecycle return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal $word:literal $title:literal,)*) => {
        /// A stable, documented way for a request to end. Clients may match on [`Code::as_str`]; it never changes meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word clients match on.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The HTTP status it travels with (RFC 9110 section 15).
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// One short phrase, the same for every occurrence (RFC 9457 section 3.1.3).
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

codes! {
    /// The request is not understood as sent: a bad header, query or path parameter.
    BadRequest = 400 "bad_request" "Bad request",
    /// The body is not the JSON this route takes.
    InvalidJson = 400 "invalid_json" "Invalid JSON",
    /// A value is out of its range or form.
    InvalidValue = 400 "invalid_value" "Invalid value",
    /// A path contains `..`, a NUL or is too long.
    PathNotAllowed = 400 "path_not_allowed" "Path not allowed",
    /// The path is in no media root that the tenant was granted.
    NoMediaRoot = 400 "no_media_root" "Not in a media root",
    /// The URL is not one the service may connect to, or is none.
    UrlNotAllowed = 400 "url_not_allowed" "URL not allowed",
    /// The file's extension is not among those the operator allows.
    ExtensionNotAllowed = 400 "extension_not_allowed" "Extension not allowed",
    /// No S3 profile of this name was granted to the tenant.
    NoS3Profile = 400 "no_s3_profile" "No such S3 profile",
    /// The bucket or key lies outside of what the S3 profile opens.
    ObjectNotAllowed = 400 "object_not_allowed" "Object not allowed",
    /// The cursor was not made by this service or was made for other filters.
    InvalidCursor = 400 "invalid_cursor" "Invalid cursor",
    /// The refresh token is spent, over, or was never one (RFC 6749 section 5.2).
    InvalidGrant = 400 "invalid_grant" "Refresh token not accepted",
    /// The request names two different credentials (RFC 6750 section 3.1, `invalid_request`).
    ConflictingCredentials = 400 "conflicting_credentials" "Different credentials",
    /// No credentials, or credentials that are wrong, expired or revoked.
    Unauthorized = 401 "unauthorized" "Unauthorized",
    /// The access token is none of this service, or its session has ended.
    InvalidToken = 401 "invalid_token" "Access token not accepted",
    /// The access token has expired; the client refreshes it.
    TokenExpired = 401 "token_expired" "Access token expired",
    /// The credentials are good, but do not carry the right that this route needs.
    Forbidden = 403 "forbidden" "Forbidden",
    /// The address that the request comes from is not allowed, by the key or by the operator.
    AddressNotAllowed = 403 "address_not_allowed" "Address not allowed",
    /// The operator suspended the tenant.
    TenantSuspended = 403 "tenant_suspended" "Tenant suspended",
    /// There is no such thing, or it belongs to another tenant.
    NotFound = 404 "not_found" "Not found",
    /// The route exists, but not for this method.
    MethodNotAllowed = 405 "method_not_allowed" "Method not allowed",
    /// The client took too long to send its request.
    RequestTimeout = 408 "request_timeout" "Request timed out",
    /// The external id is already used by another job of the tenant.
    ExternalIdTaken = 409 "external_id_taken" "External id already used",
    /// The job runs, and what was asked cannot be done to a running job.
    JobRunning = 409 "job_running" "The job is running",
    /// The job has ended, and what was asked cannot be done to one that has.
    JobEnded = 409 "job_ended" "The job has ended",
    /// Only jobs that failed or were canceled can be run again.
    NotRetryable = 409 "not_retryable" "The job cannot be run again",
    /// Without this key nobody could manage the platform.
    LastAdminKey = 409 "last_admin_key" "Last admin key",
    /// The key was revoked, has expired or was rotated, and what was asked cannot be done to such a key.
    KeyNotInForce = 409 "key_not_in_force" "Key not in force",
    /// The tenant has as many API keys as it may.
    TooManyKeys = 409 "too_many_keys" "Too many API keys",
    /// Another tenant has the name.
    TenantNameTaken = 409 "tenant_name_taken" "Tenant name already used",
    /// The installation has as many tenants as it may.
    TooManyTenants = 409 "too_many_tenants" "Too many tenants",
    /// The tenant has as many webhooks as it may.
    TooManyWebhooks = 409 "too_many_webhooks" "Too many webhooks",
    /// The webhook is disabled, so nothing is sent to it.
    WebhookDisabled = 409 "webhook_disabled" "Webhook disabled",
    /// The tenant has no default secret to sign the webhooks of jobs with.
    NoWebhookSecret = 409 "no_webhook_secret" "No default secret",
    /// The first request with this Idempotency-Key is still being handled.
    IdempotencyInProgress = 409 "idempotency_in_progress" "First request still in progress",
    /// The Idempotency-Key was used for another request.
    IdempotencyMismatch = 422 "idempotency_mismatch" "Idempotency-Key used for another request",
    /// The job has not ended yet, so there is no result.
    ResultNotReady = 409 "result_not_ready" "Result not ready",
    /// The result holds no series for this stream: another profile made it, or there is no such stream.
    NoSeries = 404 "no_series" "No such series",
    /// The job ended without a result.
    NoResult = 409 "no_result" "The job has no result",
    /// The upload has not received all of its bytes.
    UploadIncomplete = 409 "upload_incomplete" "Upload not complete",
    /// The request continues an upload from another place than where it stands.
    OffsetMismatch = 409 "offset_mismatch" "Upload offset does not fit",
    /// A job uses the upload, so it is not erased.
    UploadInUse = 409 "upload_in_use" "The upload is in use",
    /// An upload that was put together from parts takes no bytes itself.
    UploadFinal = 403 "upload_final" "The upload takes no bytes",
    /// The upload expired, was given up or was rejected; its bytes are erased.
    UploadGone = 410 "upload_gone" "The upload is gone",
    /// The request does not speak the version of the tus protocol that is spoken here.
    TusVersion = 412 "tus_version" "tus version not spoken",
    /// The tenant stores as many bytes as it may.
    QuotaExceeded = 413 "quota_exceeded" "Quota exceeded",
    /// The content of the file is not of a kind that the operator allows.
    ContentNotAllowed = 415 "content_not_allowed" "Content not allowed",
    /// Another request holds the upload and does not let go.
    UploadLocked = 423 "upload_locked" "Upload in use by another request",
    /// More requests came than may come: from this key, tenant or address.
    RateLimited = 429 "rate_limited" "Too many requests",
    /// The tenant has as many jobs waiting as it may.
    TooManyQueued = 429 "too_many_queued" "Too many jobs waiting",
    /// The tenant has as many unfinished uploads as it may.
    TooManyUploads = 429 "too_many_uploads" "Too many unfinished uploads",
    /// The tenant has as many event streams open as it may.
    TooManyEventStreams = 429 "too_many_event_streams" "Too many event streams",
    /// The bytes do not have the digest that was announced.
    ChecksumMismatch = 460 "checksum_mismatch" "Checksum mismatch",
    /// The body is larger than allowed.
    TooLarge = 413 "payload_too_large" "Payload too large",
    /// The body's content type is not one this route takes.
    UnsupportedMediaType = 415 "unsupported_media_type" "Unsupported media type",
    /// The client closed the connection before the body was complete.
    IncompleteBody = 400 "incomplete_body" "Incomplete body",
    /// We failed. The log has the cause under the request id.
    Internal = 500 "internal" "Internal error",
    /// A part we need is away for the moment.
    Unavailable = 503 "unavailable" "Temporarily unavailable",
    /// As many event streams are open as may be.
    EventStreamsFull = 503 "event_streams_full" "Too many event streams open",
    /// The volume for uploads is full.
    StorageFull = 507 "storage_full" "Storage full",
}

/// How a request ends when it does not end well. See the module documentation.
#[derive(Debug)]
pub struct Error {
    code: Code,
    detail: String,
    pointer: Option<String>,
    cause: Option<Cause>,
}

impl Error {
    /// An error with a sentence for the client that says what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), pointer: None, cause: None }
    }

    /// Our own fault: the client learns nothing but the request id, the log gets the cause.
    pub fn internal(cause: impl Into<Cause>) -> Self {
        let detail = "Something went wrong on our side. Try again; if it stays, give the request id to the operator.";
        Self { code: Code::Internal, detail: detail.into(), pointer: None, cause: Some(cause.into()) }
    }

    /// A part we need (`what`, such as "The database") did not answer; the client may retry.
    pub fn unavailable(what: &str, cause: impl Into<Cause>) -> Self {
        let detail = format!("{what} is not reachable at the moment. Nothing was lost; try again in a few seconds.");
        Self { code: Code::Unavailable, detail, pointer: None, cause: Some(cause.into()) }
    }

    /// There is no such `noun` for this tenant.
    pub fn not_found(noun: &str) -> Self {
        Self::new(
            Code::NotFound,
            format!("There is no such {noun}. Check the id, and that the key belongs to the tenant that made it."),
        )
    }

    /// Points at the offending member of the JSON body (RFC 6901).
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The sentence for the client.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// JSON Pointer to the offending member, if one is to blame.
    pub fn pointer(&self) -> Option<&str> {
        self.pointer.as_deref()
    }

    /// The cause for the log.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.cause.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{}: {cause}", self.code.as_str()),
            None => write!(f, "{}: {}", self.code.as_str(), self.detail),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|c| c as &(dyn std::error::Error + 'static))
    }
}
