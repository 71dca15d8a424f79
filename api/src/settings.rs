//! The API's settings and bounds.

mod rates;
mod reach;
pub mod tokens;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use shared::access::{ApiKey, Pepper};
use shared::config::{
    self, ConfigError, DatabaseArgs, EgressArgs, EncryptionArgs, FileArgs, PepperArgs, PlaintextArgs, RedisArgs,
    S3Args, TelemetryArgs,
};
use shared::lifecycle::upload::Quota;

use crate::listen::Bounds;
use crate::streams;
use tokens::{TokenArgs, TokenSettings};

pub use rates::RateArgs;

/// The HTTP front of FFprobe API. Every setting can be given as a flag or as the environment variable shown with it.
#[derive(Debug, Parser)]
#[command(name = "ffprobe-api", version, max_term_width = 100)]
pub struct Cli {
    /// What to do; without one, it serves
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of the server.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// What else the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the OpenAPI document
    Openapi,
    /// Print the page of rights: which call needs which
    Rights,
    /// Ask the server that runs with the same settings whether it is ready; exit code 0 if so
    Healthcheck,
}

/// Settings of the server.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Address to listen on
    #[arg(long, env, default_value = "127.0.0.1")]
    pub api_host: IpAddr,
    /// Port to listen on
    #[arg(long, env, default_value_t = 8080)]
    pub api_port: u16,
    /// What clients reach the service by, such as <https://probe.example.com>; used in links. Empty: relative links
    #[arg(long, env, default_value = "")]
    pub base_url: String,
    /// What is mixed into the stored digests of API keys.
    #[command(flatten)]
    pub pepper: PepperArgs,
    /// File holding the first admin key (made with: probectl keygen); used only while there is no admin key
    #[arg(long, env)]
    pub bootstrap_admin_api_key_file: Option<PathBuf>,
    /// Most client connections at once; more wait to be accepted
    #[arg(long, env, default_value_t = 10_000)]
    pub max_connections: usize,
    /// Most event streams at once; more get 503
    #[arg(long, env, default_value_t = 5_000)]
    pub max_event_streams: usize,
    /// Event streams that a tenant may have at once in this process
    #[arg(long, env, default_value_t = 1_000)]
    pub max_event_streams_per_tenant: usize,
    /// Largest upload, in bytes
    #[arg(long, env, default_value_t = 53_687_091_200)]
    pub max_upload_bytes: u64,
    /// Unfinished uploads that a tenant may have at a time, unless its own row says otherwise
    #[arg(long, env, default_value_t = 20)]
    pub max_open_uploads: u32,
    /// Bytes of uploads that a tenant may store, unless its own row says otherwise; 0: no limit
    #[arg(long, env, default_value_t = 0)]
    pub max_stored_bytes: u64,
    /// Bytes a second that an upload must bring over a minute; 0: no minimum
    #[arg(long, env, default_value_t = 1_024)]
    pub min_upload_rate: u64,
    /// Bytes that stay free on the upload volume: with fewer, uploads answer 507
    #[arg(long, env, default_value_t = 1_073_741_824)]
    pub min_free_bytes: u64,
    /// Media types that uploads may be, by their content: video/*,audio/mpeg. Empty: all
    #[arg(long, env, default_value = "")]
    pub allowed_types: String,
    /// Origins of web pages that may upload, such as <https://app.example.com>, joined by commas; * for all. Empty: none
    #[arg(long, env, default_value = "")]
    pub cors_origins: String,
    /// Proxies whose X-Forwarded-For, -Proto and -Host are believed: 10.0.0.0/8,2001:db8::1. Empty: none
    #[arg(long, env, default_value = "")]
    pub trusted_proxies: String,
    /// Only these addresses may call the API: 10.0.0.0/8,192.0.2.7. Empty: all
    #[arg(long, env, default_value = "")]
    pub ip_allow: String,
    /// These addresses may not
    #[arg(long, env, default_value = "")]
    pub ip_deny: String,
    /// Extensions that files, URLs and keys may have: mp4,mov,mkv; an empty word (mp4,) allows names without one. Default:
    /// all, and the content alone decides
    #[arg(long, env, default_value = "")]
    pub allowed_extensions: String,
    /// Seconds that open requests get to finish after SIGTERM
    #[arg(long, env, default_value = "60", value_parser = config::seconds)]
    pub shutdown_grace: Duration,
    /// How often, and how much.
    #[command(flatten)]
    pub rates: RateArgs,
    /// Tokens and sessions.
    #[command(flatten)]
    pub tokens: TokenArgs,
    /// What may be spoken to in clear.
    #[command(flatten)]
    pub plaintext: PlaintextArgs,
    /// Where PostgreSQL is.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Where Redis is.
    #[command(flatten)]
    pub redis: RedisArgs,
    /// Where media lies.
    #[command(flatten)]
    pub files: FileArgs,
    /// Secrets at rest.
    #[command(flatten)]
    pub encryption: EncryptionArgs,
    /// Connections to addresses that clients name.
    #[command(flatten)]
    pub egress: EgressArgs,
    /// Stores that the operator set up.
    #[command(flatten)]
    pub s3: S3Args,
    /// Logs and metrics.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl ServeArgs {
    /// The pepper, if it is there and strong.
    pub fn pepper(&self) -> Result<Pepper, ConfigError> {
        self.pepper.pepper().map(Pepper::new)
    }

    /// The secrets and times of tokens, if they can be used.
    pub fn token_settings(&self) -> Result<TokenSettings, ConfigError> {
        self.tokens.settings(&self.pepper.pepper()?)
    }

    /// The first admin key the operator chose, if one was.
    pub fn first_admin_key(&self) -> Result<Option<ApiKey>, ConfigError> {
        use secrecy::ExposeSecret;
        const VARIABLE: &str = "BOOTSTRAP_ADMIN_API_KEY";
        let Some(secret) = config::read_secret(VARIABLE, None, self.bootstrap_admin_api_key_file.as_deref())? else {
            return Ok(None);
        };
        let wrong = || {
            ConfigError::new(
                VARIABLE,
                "the file does not hold an API key",
                "write the output of `probectl keygen` into it",
            )
        };
        ApiKey::parse(secret.expose_secret()).map(Some).ok_or_else(wrong)
    }

    /// The extensions in lower case, without dots.
    pub fn extensions(&self) -> Result<Vec<String>, ConfigError> {
        if self.allowed_extensions.trim().is_empty() {
            return Ok(Vec::new());
        }
        let words: Vec<String> =
            self.allowed_extensions.split(',').map(|w| w.trim().trim_start_matches('.').to_lowercase()).collect();
        match words.iter().find(|w| w.len() > 16 || !w.chars().all(char::is_alphanumeric)) {
            None => Ok(words),
            Some(wrong) => Err(ConfigError::new(
                "ALLOWED_EXTENSIONS",
                format!("'{wrong}' is not an extension"),
                "write them joined by commas: mp4,mov,mkv",
            )),
        }
    }

    /// The media types in lower case.
    pub fn types(&self) -> Result<Vec<String>, ConfigError> {
        let words = list(&self.allowed_types).map(|w| w.to_lowercase()).collect::<Vec<_>>();
        let good = |w: &&String| w.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        match words.iter().find(|w| !good(w)) {
            None => Ok(words),
            Some(wrong) => Err(ConfigError::new(
                "ALLOWED_TYPES",
                format!("'{wrong}' is not a media type"),
                "write them joined by commas: video/*,audio/mpeg",
            )),
        }
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|w| !w.is_empty())
}

/// Bounds of everything a client can make large or slow.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many connections, and how long one may be silent.
    pub connections: Bounds,
    /// How many event streams there may be.
    pub streams: streams::Bounds,
    /// Largest upload, in bytes.
    pub upload_bytes: u64,
    /// How much a tenant may have, unless its own row says otherwise.
    pub quota: Quota,
    /// Jobs of a tenant that may wait, unless its own row says otherwise.
    pub queued_jobs: u32,
    /// Fewest bytes a second of an upload, over a minute.
    pub upload_min_rate: u64,
    /// Bytes that stay free on the upload volume.
    pub upload_min_free_bytes: u64,
    /// How long an unfinished upload is kept after its last byte.
    pub upload_expiry: Duration,
    /// Media types that uploads may be; a family ends in `*`. All if empty.
    pub types: Vec<String>,
    /// Origins of web pages that may upload.
    pub origins: Vec<String>,
    /// Longest silence while an upload's bytes are awaited.
    pub upload_stall: Duration,
    /// Largest body of every other route, in bytes.
    pub body_bytes: usize,
    /// Longest time for a request that is no upload, `wait` included.
    pub request: Duration,
    /// Longest `wait`, in seconds.
    pub wait_seconds: u64,
    /// How long `probe/file` waits for the job.
    pub probe_wait: Duration,
    /// Largest `metadata` of a job, in bytes of compact JSON.
    pub metadata_bytes: usize,
    /// Longest `external_id`, in characters.
    pub external_id_chars: usize,
    /// Longest file name of an upload, in bytes.
    pub filename_bytes: usize,
    /// Extensions that sources may have, in lower case; all if empty.
    pub extensions: Vec<String>,
    /// Most points of a series in one answer.
    pub series_points: u32,
    /// Most jobs on a page.
    pub page: i64,
    /// Most jobs of a batch.
    pub batch_jobs: i32,
    /// Most bytes of a batch that comes as a stream of lines.
    pub batch_bytes: usize,
    /// Most bytes of one that comes as a JSON object.
    pub batch_json_bytes: usize,
    /// Most jobs changed by one call.
    pub bulk: i64,
    /// Most jobs on a page that carries results.
    pub page_with_results: i64,
    /// How often a job may be started.
    pub max_attempts: i16,
    /// Tickets that may wait in Redis before the API leaves a new job to the relay.
    pub fast_path_window: usize,
}

impl Limits {
    /// The defaults, with what the settings change.
    pub fn new(args: &ServeArgs) -> Result<Self, ConfigError> {
        Ok(Self {
            connections: Bounds { connections: args.max_connections, head: Duration::from_secs(30) },
            streams: streams::Bounds { all: args.max_event_streams, of_tenant: args.max_event_streams_per_tenant },
            upload_bytes: args.max_upload_bytes,
            quota: Quota {
                open: args.max_open_uploads,
                stored_bytes: args.max_stored_bytes,
                upload_bytes: args.max_upload_bytes,
            },
            queued_jobs: args.rates.max_queued_jobs,
            upload_min_rate: args.min_upload_rate,
            upload_min_free_bytes: args.min_free_bytes,
            upload_expiry: Duration::from_secs(48 * 3600),
            types: args.types()?,
            origins: args.origins()?,
            upload_stall: Duration::from_secs(60),
            body_bytes: 64 * 1024,
            batch_jobs: 10_000,
            batch_bytes: 64 << 20,
            batch_json_bytes: 4 << 20,
            request: Duration::from_secs(60),
            wait_seconds: 30,
            probe_wait: Duration::from_secs(25),
            metadata_bytes: 16 * 1024,
            external_id_chars: 200,
            filename_bytes: 1024,
            extensions: args.extensions()?,
            series_points: 5_000,
            page: 200,
            bulk: 1_000,
            page_with_results: 20,
            max_attempts: 5,
            fast_path_window: 4,
        })
    }
}
