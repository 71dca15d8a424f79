//! Why a file could not be probed: data on the job, shown to the client as it is.
//!
//! One table maps each stable code to its class, whether another attempt can help, and a hint that says what to do.
//! The evidence-to-code side (exit status, signal, ffprobe's error number, stderr) is the worker's.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What kind of trouble it was, and so who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The input itself: another attempt gives the same answer.
    Permanent,
    /// The surroundings: another attempt may succeed.
    Transient,
    /// A limit (time, memory, output) was reached.
    Resource,
    /// Somebody canceled it.
    Canceled,
    /// We are to blame.
    Internal,
}

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $word:literal $class:ident $retry:literal $hint:literal,)*) => {
        /// A stable, documented reason for a job to fail. Clients may match on it; it never changes meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum FailureCode { $($(#[$doc])* $name,)* }

        impl FailureCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word clients match on.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Its class.
            pub fn class(self) -> FailureClass {
                match self { $(Self::$name => FailureClass::$class,)* }
            }

            /// Whether another attempt of the same job can help.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }

            /// What the client or operator can do.
            pub fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
}

failures! {
    /// The input has no bytes.
    EmptyInput = "empty_input" Permanent false "The file has 0 bytes. Check that it was written or uploaded completely.",
    /// ffprobe recognises no media in the input.
    InvalidMedia = "invalid_media" Permanent false "The bytes are not media that ffprobe knows, or the file is cut off before its index. Compare its size with the original.",
    /// The input ends before the media does, so nothing could be read from it.
    TruncatedMedia = "truncated_media" Permanent false "The file ends too early. Compare its size with the original and send it again.",
    /// The format or protocol is refused for safety (playlists, device inputs), or because the job did not say that it takes it.
    BlockedFormat = "blocked_format" Permanent false "Playlists and manifests are not probed: send the media file itself. Images, subtitles and plain text are probed if the job says so in `accept`.",
    /// The file has more streams than are read of one.
    TooManyStreams = "too_many_streams" Permanent false "The file has more than 256 streams. Split it, or send a part of it.",
    /// The profile looks at video, and the file has no such video stream.
    NoVideo = "no_video" Permanent false "The profile `frames` needs a video stream. Choose another profile, or name a video stream in `frames.stream`.",
    /// No file at that path in any of the media roots.
    InputNotFound = "input_not_found" Permanent false "No media root holds a file at this path. Check the spelling, and that the file is below a root.",
    /// The path names a folder, device, socket or pipe.
    NotAFile = "not_a_file" Permanent false "Only regular files are probed. Name the file itself.",
    /// The path leads out of its media root, for example through a symbolic link.
    OutsideRoot = "outside_root" Permanent false "The path leaves its media root, perhaps through a symbolic link. Name the file by its place inside the root.",
    /// The worker may not read the file.
    PermissionDenied = "permission_denied" Permanent false "The worker's user may not read this file. An operator changes the file's mode or owner.",
    /// The upload's bytes are gone.
    UploadGone = "upload_gone" Permanent false "The upload's bytes are no longer stored. Upload the file again.",
    /// The storage did not answer as it should.
    StorageError = "storage_error" Transient true "Reading the input failed. It is tried again by itself; if it stays, an operator looks at the worker's log.",
    /// The address is not one the service may connect to: not public, or against its lists.
    UrlNotAllowed = "url_not_allowed" Permanent false "The service does not connect to this address: it is not public, or the operator's lists of hosts and ports forbid it.",
    /// The name of the host does not exist.
    HostNotFound = "host_not_found" Permanent false "There is no host of this name. Check the spelling of the URL.",
    /// The name service did not answer.
    DnsError = "dns_error" Transient true "The host's name could not be looked up. It is tried again by itself.",
    /// No connection to the host came about.
    ConnectFailed = "connect_failed" Transient true "The host did not take a connection. It is tried again by itself; check that the server runs and is reachable.",
    /// The host's certificate is not valid.
    TlsError = "tls_error" Permanent false "The host's certificate is not valid for its name, or not trusted. Renew it, or use another address.",
    /// The host says that the object is not there.
    RemoteNotFound = "remote_not_found" Permanent false "The server has no object at this address (404 or 410). Check the URL or the key.",
    /// The host refuses to hand the object out.
    RemoteForbidden = "remote_forbidden" Permanent false "The server refuses access (401, 403 or 407). A signed URL may have expired: submit the job again with a fresh one.",
    /// The host answers with something that is no object.
    RemoteRejected = "remote_rejected" Permanent false "The server's answer cannot be used. Open the URL with curl to see what it says.",
    /// The host says that it cannot answer now.
    RemoteUnavailable = "remote_unavailable" Transient true "The server could not answer (429 or 5xx). It is tried again by itself.",
    /// The connection broke off in the middle, again and again.
    ConnectionLost = "connection_lost" Transient true "The connection broke off while the object was read. It is tried again by itself.",
    /// The host sends fewer bytes a second than the service waits for.
    RemoteTooSlow = "remote_too_slow" Transient true "The server sent too few bytes a second. It is tried again by itself.",
    /// The object was replaced while it was read.
    SourceChanged = "source_changed" Transient true "The object changed while it was read. It is tried again by itself; wait until it is written completely.",
    /// The host cannot send parts of the object, and the whole is larger than the budget.
    RangeNotSupported = "range_not_supported" Permanent false "The server cannot send parts of a file (range requests), or does not tell its size. Upload the file, or serve it from a server that can.",
    /// The host redirects too often.
    TooManyRedirects = "too_many_redirects" Permanent false "The URL redirects more often than is followed. Name the final address.",
    /// The job would read or did read more than its budget, or ran longer.
    BudgetExceeded = "budget_exceeded" Resource false "The job met the budget it was given. Raise max_read_bytes or max_seconds, or choose a profile that reads less.",
    /// This worker cannot confine ffprobe to one port, so it does not give it remote input.
    SandboxUnavailable = "sandbox_unavailable" Internal true "The worker's kernel cannot confine ffprobe for remote input, and SANDBOX=required forbids going on. An operator runs a newer kernel, or accepts less.",
    /// The attempt ran longer than its deadline.
    DeadlineExceeded = "deadline_exceeded" Resource false "Probing took longer than the profile allows. The file is probably damaged or made to be slow.",
    /// ffprobe used more processor time than allowed.
    CpuLimit = "cpu_limit" Resource false "Probing used more processor time than the profile allows. The file is probably damaged or made to be slow.",
    /// ffprobe wanted more memory than allowed.
    MemoryLimit = "memory_limit" Resource false "Probing needed more memory than the jail gives. The file is probably damaged or made to be large.",
    /// ffprobe wrote more output than allowed.
    OutputLimit = "output_limit" Resource false "The description of this file is larger than the service stores.",
    /// ffprobe crashed.
    FfprobeCrashed = "ffprobe_crashed" Permanent true "ffprobe itself crashed on this file. Report the file to the FFmpeg project.",
    /// ffprobe ended without an answer that can be read.
    UnreadableOutput = "unreadable_output" Internal true "ffprobe's answer could not be read. It is tried again by itself.",
    /// ffprobe could not be started on the worker.
    WorkerMisconfigured = "worker_misconfigured" Internal true "A worker cannot run ffprobe. An operator looks at the worker's log.",
    /// Workers died while running the job.
    WorkerLost = "worker_lost" Internal true "The worker stopped while it ran this job. It is tried again by itself until its attempts are used up.",
    /// The job was not started before its `expires_at`.
    Expired = "expired" Canceled false "The job waited longer than you wanted it. Submit it again, with a later expires_at or none.",
    /// Somebody canceled the job.
    Canceled = "canceled" Canceled false "The job was canceled.",
    /// A fault of ours.
    Internal = "internal" Internal true "Something went wrong on our side. It is tried again by itself; if it stays, an operator looks at the worker's log.",
}

/// Why an attempt or a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// What kind of trouble it was.
    pub class: FailureClass,
    /// The stable reason.
    pub code: FailureCode,
    /// What was seen, in one line.
    pub message: String,
    /// What can be done.
    pub hint: String,
    /// Whether another attempt can help.
    pub retryable: bool,
    /// Seconds the other side asks to be left alone (HTTP `Retry-After`); another attempt comes no sooner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl Failure {
    /// A failure with what was seen; class, hint and retryability follow from the code.
    pub fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self {
            class: code.class(),
            code,
            message: message.into(),
            hint: code.hint().into(),
            retryable: code.retryable(),
            retry_after_seconds: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_match_json() {
        for code in FailureCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
