//! The API and the worker as children of `up`: environment, start, supervision, stop.
//!
//! Called by `up`. Their output goes to our terminal as it is. Settings go by environment, never by argument, because
//! arguments are visible to every user. It must never hand on a variable that is not named here.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};
use tokio::process::Child;
use tokio::time::sleep;

use super::places::Places;
use super::plan::Plan;
use crate::process::{self, Restarts, Signal, command, inherited, signal, spawn};

/// The HTTP server's program.
pub(super) const API: &str = "ffprobe-api";
/// The worker's program.
pub(super) const WORKER: &str = "ffprobe-worker";

/// Seconds that open requests and running probes get; everything must be gone 10 s after Ctrl-C.
const GRACE_SECONDS: u64 = 5;
/// From SIGTERM to SIGKILL.
const PATIENCE: Duration = Duration::from_millis(GRACE_SECONDS * 1000 + 500);
/// From SIGKILL to the end.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Variables of the user's environment that are handed on as they are, over our own defaults.
const HANDED_ON: &[&str] = &[
    "LANG",
    "TZ",
    "TMPDIR",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LOG_FORMAT",
    "LOG_LEVEL",
    "BASE_URL",
    "PLAINTEXT_HOSTS",
    "MAX_UPLOAD_BYTES",
    "DATABASE_MAX_CONNECTIONS",
    "FFPROBE_PATH",
    "SANDBOX",
    "WORKER_SLOTS",
    "ALLOWED_EXTENSIONS",
    "EGRESS_SCHEMES",
    "EGRESS_PORTS",
    "EGRESS_ALLOW_HOSTS",
    "EGRESS_DENY_HOSTS",
    "EGRESS_ALLOW_CIDRS",
    "EGRESS_CA_FILE",
    "S3_PROFILES_FILE",
    "MAX_REMOTE_BYTES",
    "LIMITS_QUICK",
    "LIMITS_STANDARD",
    "LIMITS_PACKETS",
    "LIMITS_FRAMES",
    "RATE_LIMIT_PER_KEY",
    "RATE_LIMIT_PER_TENANT",
    "RATE_LIMIT_PER_ADDRESS",
    "RATE_LIMIT_FAILED_AUTH",
    "MAX_QUEUED_JOBS",
    "MAX_EVENT_STREAMS",
    "MAX_EVENT_STREAMS_PER_TENANT",
];

type Environment = Vec<(OsString, OsString)>;

/// The API and the worker, once started.
#[derive(Debug, Default)]
pub(super) struct Programs {
    running: Option<(Program, Program)>,
}

impl Programs {
    /// Starts both.
    pub(super) fn start(&mut self, plan: &Plan) -> Result<()> {
        let program = |name: &'static str, metrics: SocketAddr| Program {
            name,
            path: plan.program(name),
            environment: environment(plan, metrics, inherited(HANDED_ON)),
            child: None,
        };
        let (api, worker) = self.running.insert((program(API, plan.api_metrics), program(WORKER, plan.worker_metrics)));
        api.start()?;
        worker.start()
    }

    /// Waits until either ends by itself; says which and how.
    pub(super) async fn exited(&mut self) -> String {
        match &mut self.running {
            Some((api, worker)) => tokio::select! {
                message = api.ended() => message,
                message = worker.ended() => message,
            },
            None => "nothing was started".to_owned(),
        }
    }

    /// Keeps both running; returns when that is hopeless.
    pub(super) async fn supervise(&mut self) -> Error {
        match &mut self.running {
            Some((api, worker)) => tokio::select! {
                error = api.supervise() => error,
                error = worker.supervise() => error,
            },
            None => anyhow!("nothing was started"),
        }
    }

    /// Stops both together. When `hurry` comes, whatever still runs is killed.
    pub(super) async fn stop(&mut self, hurry: impl Future<Output = ()>) {
        let Some((api, worker)) = &mut self.running else { return };
        tokio::select! {
            _ = async { tokio::join!(api.stop(), worker.stop()) } => return,
            () = hurry => {}
        }
        tokio::join!(api.kill(), worker.kill());
    }
}

#[derive(Debug)]
struct Program {
    name: &'static str,
    path: PathBuf,
    environment: Environment,
    child: Option<Child>,
}

impl Program {
    fn start(&mut self) -> Result<()> {
        let mut command = command(&self.path, None, Signal::TERM);
        // A relative path in a setting that is handed on means the directory we were called in.
        command.current_dir(".");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let child = spawn(command).with_context(|| format!("could not start {}", self.path.display()))?;
        tracing::debug!(pid = child.id(), "{} started", self.name);
        self.child = Some(child);
        Ok(())
    }

    async fn ended(&mut self) -> String {
        match &mut self.child {
            Some(child) => match child.wait().await {
                Ok(status) => format!("{} ended ({status})", self.name),
                Err(error) => format!("{} cannot be waited for: {error}", self.name),
            },
            None => format!("{} is not running", self.name),
        }
    }

    async fn supervise(&mut self) -> Error {
        let mut restarts = Restarts::new();
        loop {
            let message = self.ended().await;
            let Some(pause) = restarts.ended() else {
                return anyhow!("{message} again and again; its own messages are above");
            };
            tracing::warn!("{message}; starting it again in {} ms", pause.as_millis());
            sleep(pause).await;
            if let Err(error) = self.start() {
                tracing::error!("{error:#}");
                self.child = None;
            }
            restarts.started();
        }
    }

    async fn stop(&mut self) {
        self.finish(&[(Signal::TERM, PATIENCE), (Signal::KILL, LAST_PATIENCE)]).await;
    }

    async fn kill(&mut self) {
        self.finish(&[(Signal::KILL, LAST_PATIENCE)]).await;
    }

    /// The child stays in place until it has ended, so that a second call can do what the first one was cut off from.
    async fn finish(&mut self, steps: &[(Signal, Duration)]) {
        let Some(child) = &mut self.child else { return };
        match process::stop(child, steps).await {
            Ok(status) => tracing::debug!(%status, "{} stopped", self.name),
            Err(error) => tracing::error!("{} does not end: {error}", self.name),
        }
        self.child = None;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            signal(child, Signal::TERM);
        }
    }
}

fn environment(plan: &Plan, metrics: SocketAddr, handed_on: Environment) -> Environment {
    let mut variables: Environment = vec![
        ("LOG_FORMAT".into(), "pretty".into()),
        // What this kernel offers; the images demand all of it.
        ("SANDBOX".into(), "best_effort".into()),
    ];
    // one person's own machine; whoever shares it sets them
    let rates = ["RATE_LIMIT_PER_KEY", "RATE_LIMIT_PER_TENANT", "RATE_LIMIT_PER_ADDRESS", "RATE_LIMIT_FAILED_AUTH"];
    variables.extend(rates.map(|name| (name.into(), "0".into())));
    if !plan.address.ip().is_unspecified() {
        variables.push(("BASE_URL".into(), plan.url().into()));
    }
    variables.extend(handed_on);
    // whoever lets others come without a proxy, or names an address without TLS, means it: this is one person's machine
    if !variables.iter().any(|(name, _)| name == "PLAINTEXT_HOSTS") {
        let base = variables.iter().rev().find(|(name, _)| name == "BASE_URL").and_then(|(_, url)| url.to_str());
        let url = base.and_then(|text| reqwest::Url::parse(text).ok());
        variables.extend(url.and_then(|u| Some(("PLAINTEXT_HOSTS".into(), u.host_str()?.into()))));
    }
    let places = Places::of(plan.state.clone());
    let own = [
        ("DATABASE_URL", places.database_url),
        ("REDIS_URL", places.redis_url),
        ("API_HOST", plan.address.ip().to_string()),
        ("API_PORT", plan.address.port().to_string()),
        ("METRICS_ADDR", metrics.to_string()),
        ("MEDIA_ROOTS", plan.media_roots()),
        ("STORAGE_URL", places.storage_url),
        ("API_KEY_PEPPER_FILE", places.pepper_file.display().to_string()),
        ("JWT_SECRET_FILE", places.jwt_secret_file.display().to_string()),
        ("ENCRYPTION_KEYS_FILE", places.encryption_keys_file.display().to_string()),
        ("SHUTDOWN_GRACE", GRACE_SECONDS.to_string()),
    ];
    variables.extend(own.map(|(name, value)| (name.into(), value.into())));
    variables
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Program {
        let directory = tempfile::tempdir().expect("directory").keep();
        let path = directory.join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&path, mode).expect("mode");
        Program { name: "program", path, environment: Vec::new(), child: None }
    }

    #[tokio::test]
    async fn a_program_that_ends_is_started_again_and_at_last_given_up() {
        let mut program = shell("echo run >> \"$(dirname \"$0\")/runs\"; exit 7");
        program.start().expect("start");
        let error = program.supervise().await.to_string();
        assert!(error.contains("exit status: 7") && error.contains("again and again"), "{error}");
        let directory = program.path.parent().expect("directory").to_owned();
        let runs = std::fs::read_to_string(directory.join("runs")).expect("runs");
        assert_eq!(runs.lines().count(), 5);
        std::fs::remove_dir_all(directory).expect("remove");
    }

    #[tokio::test]
    async fn a_second_ctrl_c_kills_what_does_not_listen() {
        let mut program = shell("trap '' TERM; touch \"$(dirname \"$0\")/ready\"; while :; do sleep 0.05; done");
        program.start().expect("start");
        let directory = program.path.parent().expect("directory").to_owned();
        while !directory.join("ready").exists() {
            sleep(Duration::from_millis(10)).await;
        }
        let begun = Instant::now();
        let mut programs = Programs { running: Some((program, shell("exit 0"))) };
        programs.stop(sleep(Duration::from_millis(200))).await;
        let taken = begun.elapsed();
        assert!(taken >= Duration::from_millis(200) && taken < Duration::from_secs(2), "{taken:?}");
        std::fs::remove_dir_all(directory).expect("remove");
    }
}
