//! One private server: started, waited for, kept running and stopped.
//!
//! Called by `private`, once for PostgreSQL and once for Redis; what differs between them is in `postgres` and `redis`.
//! It must never report a server as started that does not answer.

use std::future::pending;
use std::io::ErrorKind;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval, sleep};

use super::install::Install;
use super::log::LogFile;
use super::site::Site;
use super::{Durability, postgres, redis};
use crate::process::{self, Restarts, Signal, signal, spawn};

/// PostgreSQL may have to replay its log after a crash.
const READY_PATIENCE: Duration = Duration::from_secs(120);
/// Say that we are waiting after this long.
const READY_NOTE: Duration = Duration::from_secs(10);
/// How often the size of the log is looked at.
const LOG_CHECK: Duration = Duration::from_secs(60);

/// Which server, and what it needs to know.
#[derive(Debug)]
pub(super) enum Kind {
    Postgres { install: Install, durability: Durability },
    Redis { durability: Durability },
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Kind::Postgres { .. } => "PostgreSQL",
            Kind::Redis { .. } => "Redis",
        }
    }

    fn log_name(&self) -> &'static str {
        match self {
            Kind::Postgres { .. } => "postgres.log",
            Kind::Redis { .. } => "redis.log",
        }
    }

    /// The signals that end it, with the time each has: a clean end, a quick one that recovery mends, the certain one.
    fn stop_steps(&self) -> &'static [(Signal, Duration)] {
        const CLEAN: Duration = Duration::from_secs(2);
        const QUICK: Duration = Duration::from_millis(500);
        match self {
            Kind::Postgres { .. } => &[(Signal::INT, CLEAN), (Signal::QUIT, QUICK), (Signal::KILL, QUICK)],
            Kind::Redis { .. } => &[(Signal::TERM, CLEAN), (Signal::KILL, QUICK)],
        }
    }

    async fn prepare(&self, site: &Site) -> Result<()> {
        match self {
            Kind::Postgres { install, durability } => postgres::prepare(site, install, *durability).await,
            Kind::Redis { .. } => redis::prepare(site).await,
        }
    }

    fn command(&self, site: &Site) -> Command {
        match self {
            Kind::Postgres { install, durability } => postgres::server(site, install, *durability),
            Kind::Redis { durability } => redis::server(site, *durability),
        }
    }

    async fn is_ready(&self, site: &Site, pid: u32) -> bool {
        match self {
            Kind::Postgres { .. } => postgres::is_ready(site, pid),
            Kind::Redis { .. } => redis::is_ready(&site.redis_socket()).await,
        }
    }

    fn not_found(&self) -> &'static str {
        match self {
            Kind::Postgres { .. } => "the PostgreSQL server was not found; install it with `make setup`",
            Kind::Redis { .. } => {
                "redis-server was not found; install it with `make setup` or `apt-get install redis-server`"
            }
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Kind::Postgres { .. } => "",
            Kind::Redis { .. } => {
                "\nRedis holds nothing that PostgreSQL does not: removing its directory `redis` is safe"
            }
        }
    }
}

/// One server and its process.
#[derive(Debug)]
pub(super) struct Server {
    kind: Kind,
    site: Arc<Site>,
    child: Option<Child>,
}

impl Server {
    pub(super) fn new(kind: Kind, site: Arc<Site>) -> Self {
        Self { kind, site, child: None }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    fn log(&self) -> LogFile {
        self.site.log(self.kind.log_name())
    }

    /// Starts it and waits until it answers. When the future is dropped the process stays with `self`.
    pub(super) async fn start(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.kind.prepare(&self.site).await?;
        let log = self.log();
        let context = || format!("could not open {}", log.path().display());
        let output = log.open().with_context(context)?;
        let position = log.position();
        let mut command = self.kind.command(&self.site);
        command.stdout(output.try_clone().with_context(context)?).stderr(output);
        let child = spawn(command).map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow!(self.kind.not_found()),
            _ => Error::new(error).context(format!("could not start {}", self.kind.name())),
        })?;
        let child = self.child.insert(child);
        await_ready(&self.kind, &self.site, child, position).await?;
        tracing::debug!(server = self.kind.name(), pid = self.pid(), elapsed = ?begun.elapsed(), "ready");
        Ok(())
    }

    /// Waits until it ends by itself; says how.
    pub(super) async fn ended(&mut self) -> String {
        let name = self.kind.name();
        match self.child.as_mut() {
            Some(child) => match child.wait().await {
                Ok(status) => format!("{name} ended ({status})"),
                Err(error) => format!("{name} cannot be waited for: {error}"),
            },
            None => format!("{name} is not running"),
        }
    }

    /// Starts it again whenever it ends; returns when that is hopeless.
    pub(super) async fn supervise(&mut self) -> Error {
        let mut restarts = Restarts::new();
        loop {
            let log = self.log();
            let message = tokio::select! {
                message = self.ended() => message,
                never = keep_log_bounded(&log) => never,
            };
            let Some(pause) = restarts.ended() else {
                return anyhow!("{message} again and again; look into {}", log.path().display());
            };
            tracing::warn!("{message}; starting it again in {} ms", pause.as_millis());
            sleep(pause).await;
            match self.start().await {
                Ok(()) => tracing::info!(pid = self.pid(), "{} runs again", self.kind.name()),
                Err(error) => {
                    tracing::error!("{error:#}");
                    self.stop().await;
                }
            }
            restarts.started();
        }
    }

    /// Stops it and waits for its end.
    pub(super) async fn stop(&mut self) {
        let name = self.kind.name();
        if let Some(mut child) = self.child.take() {
            match process::stop(&mut child, self.kind.stop_steps()).await {
                Ok(status) => tracing::debug!(server = name, %status, "stopped"),
                Err(error) => tracing::error!("{name} does not end: {error}"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let (Some(child), Some((gentle, _))) = (&self.child, self.kind.stop_steps().first()) {
            signal(child, *gentle);
        }
    }
}

async fn await_ready(kind: &Kind, site: &Site, child: &mut Child, position: u64) -> Result<()> {
    let name = kind.name();
    let tail = || site.log(kind.log_name()).tail_since(position);
    let begun = Instant::now();
    let mut noted = false;
    loop {
        let ended: Option<ExitStatus> = child.try_wait().with_context(|| format!("{name} cannot be waited for"))?;
        if let Some(status) = ended {
            bail!("{name} did not start ({status}); {}{}", tail(), kind.hint());
        }
        if let Some(pid) = child.id()
            && kind.is_ready(site, pid).await
        {
            return Ok(());
        }
        if begun.elapsed() > READY_NOTE && !noted {
            noted = true;
            tracing::info!("{name} is not ready yet; it may be recovering its data");
        }
        if begun.elapsed() > READY_PATIENCE {
            bail!("{name} was not ready after {} s; {}", READY_PATIENCE.as_secs(), tail());
        }
        sleep(Duration::from_millis(5)).await;
    }
}

async fn keep_log_bounded(log: &LogFile) -> String {
    let mut checks = interval(LOG_CHECK);
    loop {
        checks.tick().await;
        if let Err(error) = log.keep_bounded() {
            tracing::warn!("{} cannot be kept small: {error}", log.path().display());
            return pending().await;
        }
    }
}
