//! The worker's settings.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use shared::config::{
    self, ConfigError, DatabaseArgs, EgressArgs, EncryptionArgs, FileArgs, PlaintextArgs, RedisArgs, S3Args,
    TelemetryArgs,
};
use shared::egress::Egress;
use shared::job::Lane;

use crate::jail::{Cgroup, Optional, Override, Overrides, Sandbox, User};
use crate::source::remote::Remotes;

/// A worker of FFprobe API. Every setting can be given as a flag or as the environment variable shown with it.
#[derive(Debug, Parser)]
#[command(name = "ffprobe-worker", version, max_term_width = 100)]
pub struct Cli {
    /// What to do; without one, it works
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings of the worker.
    #[command(flatten)]
    pub work: WorkArgs,
}

/// What else the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try the sandbox on this machine and print what each protection does, as JSON
    Canary,
    /// Ask the worker that runs with the same settings whether it is alive; exit code 0 if so
    Healthcheck,
}

/// What a worker process takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Runs ffprobe.
    Probe,
    /// Sends tickets for due jobs.
    Relay,
    /// Takes jobs from dead workers, cleans up.
    Upkeep,
    /// Publishes events and sends them to webhooks.
    Deliver,
}

impl Role {
    /// The word used in settings and in the registry.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Relay => "relay",
            Self::Upkeep => "upkeep",
            Self::Deliver => "deliver",
        }
    }
}

/// What happens to a job that met a limit of the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResourceRetry {
    /// It has failed.
    Never,
    /// It is tried once more with wider limits.
    Once,
}

/// A lane as written in settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServedLane {
    /// Quick looks.
    Fast,
    /// Reads whole files.
    Scan,
}

impl From<ServedLane> for Lane {
    fn from(lane: ServedLane) -> Self {
        match lane {
            ServedLane::Fast => Self::Fast,
            ServedLane::Scan => Self::Scan,
        }
    }
}

/// Fewest slots without a setting: with one alone, a worker that serves both lanes would never run a scan.
const MIN_SLOTS: usize = 2;

/// Settings of the worker.
#[derive(Debug, Clone, Args)]
pub struct WorkArgs {
    /// What this process takes part in, joined by commas. Every installation needs each role at least once
    #[arg(long, env, value_enum, value_delimiter = ',', default_value = "probe,relay,upkeep,deliver")]
    pub worker_roles: Vec<Role>,
    /// Lanes it serves, joined by commas: fast (quick looks), scan (reads whole files)
    #[arg(long, env, value_enum, value_delimiter = ',', default_value = "fast,scan")]
    pub worker_lanes: Vec<ServedLane>,
    /// Jobs it runs at once. Default: the number of processors this process may use, and at least 2. Scans never take
    /// the last slot of a worker that serves both lanes
    #[arg(long, env, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub worker_slots: Option<u16>,
    /// Deliveries to webhooks that are on their way at once
    #[arg(long, env, default_value_t = 128, value_parser = clap::value_parser!(u16).range(2..=1024))]
    pub deliver_slots: u16,
    /// What clients reach the API by, such as `https://probe.example.com`; for links in what is delivered. Default: links
    /// without a host
    #[arg(long, env, default_value = "")]
    pub base_url: String,
    /// The ffprobe binary. Default: the one on PATH
    #[arg(long, env)]
    pub ffprobe_path: Option<PathBuf>,
    /// Where ffprobe is looked for without FFPROBE_PATH.
    #[arg(long, env = "PATH", hide = true, default_value = "")]
    pub path: OsString,
    /// How strictly ffprobe is jailed: required (refuse to start if a protection is missing), best_effort or off
    #[arg(long, env, value_enum, default_value = "best_effort")]
    pub sandbox: Sandbox,
    /// Most bytes taken of a remote object in one attempt
    #[arg(long, env, default_value_t = 68_719_476_736)]
    pub max_remote_bytes: u64,
    /// Where objects of servers without range requests lie meanwhile, at most 256 MiB each.
    #[arg(long, env = "TMPDIR", hide = true, default_value = "/tmp")]
    pub tmpdir: PathBuf,
    /// User id that ffprobe runs as, other than 0. Needs a worker that runs as root, or with CAP_SETUID,
    /// CAP_SETGID and CAP_KILL. Default: the worker's own
    #[arg(long, env, value_parser = clap::value_parser!(u32).range(1..=i64::from(u32::MAX - 1)))]
    pub jail_uid: Option<u32>,
    /// Group id that ffprobe runs as. Default: the same number as JAIL_UID
    #[arg(long, env, requires = "jail_uid", value_parser = clap::value_parser!(u32).range(1..=i64::from(u32::MAX - 1)))]
    pub jail_gid: Option<u32>,
    /// A directory of the control group file system (version 2) that is delegated to this worker alone; every ffprobe
    /// then gets a group below it
    #[arg(long, env)]
    pub jail_cgroup: Option<PathBuf>,
    /// Changes to the limits of the profile quick, such as memory=2GiB,cpu=60s,deadline=5m,output=32MiB
    #[arg(long, env)]
    pub limits_quick: Option<Override>,
    /// Changes to the limits of the profile standard
    #[arg(long, env)]
    pub limits_standard: Option<Override>,
    /// Changes to the limits of the profile packets; rate=20MB is how many bytes a second its deadline allows for
    #[arg(long, env)]
    pub limits_packets: Option<Override>,
    /// Changes to the limits of the profile frames; rate as above
    #[arg(long, env)]
    pub limits_frames: Option<Override>,
    /// What happens to a job that met a limit of the jail (time, memory, output): never (it has failed) or once (it is
    /// tried once more, with twice the memory and output and four times the time)
    #[arg(long, env, value_enum, default_value = "never")]
    pub resource_retry: ResourceRetry,
    /// Seconds after which a result is no longer given to other jobs that ask for reuse
    #[arg(long, env, default_value = "604800", value_parser = config::seconds)]
    pub reuse_max_age: Duration,
    /// Seconds that running jobs get to finish after SIGTERM; beyond it they go back to the queue uncharged
    #[arg(long, env, default_value = "60", value_parser = config::seconds)]
    pub shutdown_grace: Duration,
    /// Seconds a job is held without a sign of life from its worker, before another one may take it; for tests, which
    /// cannot wait for long
    #[arg(long, env, hide = true, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=600))]
    pub lease_seconds: u16,
    /// Days that a job and its result are kept after its end; upkeep erases them then
    #[arg(long, env, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub retention_days: u16,
    /// Days that events are kept for those who were away, and deliveries to webhooks for those who look back
    #[arg(long, env, default_value_t = 7, value_parser = clap::value_parser!(u16).range(5..=400))]
    pub event_retention_days: u16,
    /// Seconds that a complete upload is kept after its last job has ended, or without a job after its last byte
    #[arg(long, env, default_value = "86400", value_parser = config::seconds)]
    pub upload_retention: Duration,
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

impl WorkArgs {
    /// Whether the process has this role.
    pub fn has(&self, role: Role) -> bool {
        self.worker_roles.contains(&role)
    }

    /// How it reads what lies elsewhere.
    pub fn remotes(&self) -> Result<Remotes, ConfigError> {
        Ok(Remotes {
            egress: Arc::new(Egress::new(self.egress.settings()?)?),
            s3: self.s3.profiles()?,
            most_bytes: self.max_remote_bytes,
            spool_dir: self.tmpdir.clone(),
        })
    }

    /// What clients reach the API by, without a trailing slash.
    pub fn checked_base_url(&self) -> Result<String, ConfigError> {
        let url = self.base_url.trim_end_matches('/');
        let good = url.is_empty() || url.starts_with("http://") || url.starts_with("https://");
        good.then(|| url.to_owned()).ok_or_else(|| {
            ConfigError::new(
                "BASE_URL",
                "it does not begin with http:// or https://",
                "write https://HOST, or leave it out",
            )
        })
    }

    /// How long a job is kept after its end.
    pub fn retention(&self) -> Duration {
        Duration::from_secs(u64::from(self.retention_days) * 24 * 3600)
    }

    /// How long events are kept.
    pub fn event_retention(&self) -> Duration {
        Duration::from_secs(u64::from(self.event_retention_days) * 24 * 3600)
    }

    /// How long a job is held without a sign of life.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(u64::from(self.lease_seconds))
    }

    /// Refuses settings that cannot both hold.
    pub fn check_agreement(&self) -> Result<(), ConfigError> {
        let lanes = self.lanes();
        if self.worker_slots == Some(1) && lanes.contains(&Lane::Fast) && lanes.contains(&Lane::Scan) {
            let problem = "the last slot is kept for quick looks, so with one alone no scan would ever run here";
            return Err(ConfigError::new(
                "WORKER_SLOTS",
                problem,
                "set it to 2, or serve one lane (WORKER_LANES=fast)",
            ));
        }
        let walls = [("JAIL_UID", self.jail_uid.is_some()), ("JAIL_CGROUP", self.jail_cgroup.is_some())];
        if let Some((variable, _)) = walls.iter().find(|(_, set)| *set && self.sandbox == Sandbox::Off) {
            let problem = "it asks for a protection, and SANDBOX=off switches all of them off";
            return Err(ConfigError::new(variable, problem, "remove it, or set SANDBOX to best_effort or required"));
        }
        Ok(())
    }

    /// The walls of the jail that are asked for by name. Looks at the control group and prepares it.
    pub fn optional_walls(&self) -> Optional {
        Optional {
            user: self.jail_uid.map(|uid| User { uid, gid: self.jail_gid.unwrap_or(uid) }),
            cgroup: self.jail_cgroup.clone().map(Cgroup::open),
        }
    }

    /// Changes to the limits of each profile.
    pub fn limits(&self) -> Overrides {
        Overrides {
            quick: self.limits_quick.unwrap_or_default(),
            standard: self.limits_standard.unwrap_or_default(),
            packets: self.limits_packets.unwrap_or_default(),
            frames: self.limits_frames.unwrap_or_default(),
        }
    }

    /// The lanes it serves; none without the probe role.
    pub fn lanes(&self) -> Vec<Lane> {
        if self.has(Role::Probe) { self.worker_lanes.iter().map(|l| (*l).into()).collect() } else { Vec::new() }
    }

    /// Jobs it runs at once. Probing is bound by the processor: more slots than processors buy nothing.
    pub fn slots(&self) -> Result<usize, ConfigError> {
        if let Some(slots) = self.worker_slots {
            return Ok(usize::from(slots));
        }
        // honours the CPU quota of a container's cgroup
        std::thread::available_parallelism().map(|n| usize::from(n).max(MIN_SLOTS)).map_err(|e| {
            ConfigError::new(
                "WORKER_SLOTS",
                format!("the number of processors is not known: {e}"),
                "set it to a number",
            )
        })
    }
}
