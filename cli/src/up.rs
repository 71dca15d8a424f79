//! `probectl up`: the whole service on one machine with nothing configured.
//!
//! Called by `main`. Starts the private servers, migrates, makes the first tenant and its admin key, starts the API and
//! a worker, probes a clip of its own through the public API, says where everything is, and keeps it running until
//! Ctrl-C or SIGTERM. Each of these steps may be cut by `kill -9`; the next start goes on from there.
//! It must never pass a secret as an argument, and never leave a process behind.

mod clip;
mod database;
mod files;
mod places;
mod plan;
mod ports;
mod program;
mod self_check;
mod stop;
mod welcome;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;

use anyhow::{Context, Error, Result};
use clap::Args;
use shared::access::ApiKey;

pub use self::places::Places;
use self::plan::Plan;
use self::program::Programs;
use self::stop::StopSignals;
use self::welcome::Welcome;
use crate::private::{DATABASE, Durability, OWNER, Options, PrivateServers};

/// Where `up` keeps everything. The other commands find the admin key there.
#[derive(Debug, Clone, Args)]
pub struct StateArgs {
    /// Where `up` keeps everything [default: /var/lib/ffprobe-api for root, else ~/.local/state/ffprobe-api]
    #[arg(long, env = "FFPROBE_API_STATE_DIR", value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// Part of the default of `state_dir`.
    #[arg(long, env = "XDG_STATE_HOME", hide = true, default_value = "", global = true)]
    pub xdg_state_home: OsString,
    /// Part of the default of `state_dir`.
    #[arg(long, env = "HOME", hide = true, default_value = "", global = true)]
    pub home: OsString,
}

impl StateArgs {
    /// The file that holds the admin key of `up`, if it can be told where it is.
    pub fn key_file(&self) -> Option<PathBuf> {
        self.inside(plan::KEY_FILE)
    }

    /// The folder in which `submit` remembers unfinished uploads, if it can be told where it is.
    pub fn resume_folder(&self) -> Option<PathBuf> {
        self.inside(plan::RESUME)
    }

    /// The folder in which `login` keeps sessions, if it can be told where it is.
    pub fn session_folder(&self) -> Option<PathBuf> {
        self.inside(plan::SESSIONS)
    }

    fn inside(&self, name: &str) -> Option<PathBuf> {
        plan::state_dir(self, rustix::process::geteuid().is_root()).ok().map(|state| state.join(name))
    }
}

/// Settings of `probectl up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Address to listen on
    #[arg(long, env = "API_HOST", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "API_PORT", default_value_t = 8080)]
    pub port: u16,
    /// Folders that jobs may name, besides `media` in the state directory
    #[arg(long, env = "MEDIA_ROOTS", default_value = "", value_name = "NAME=DIR,...")]
    pub media: String,
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// Each says what to do: a port in use, a state directory in use, a program that is missing or keeps ending, a
/// self-check that did not pass.
pub async fn run(args: UpArgs, state: &StateArgs) -> Result<()> {
    let mut signals = StopSignals::listen().context("could not listen for signals")?;
    let plan = plan::make(&args, state).await?;
    tracing::info!("starting PostgreSQL and Redis in {}", plan.state.display());
    let options = Options { durability: Durability::Durable };
    let mut servers = tokio::select! {
        servers = PrivateServers::start(&plan.state, options) => servers?,
        () = signals.next() => return Ok(()),
    };
    let mut programs = Programs::default();
    let outcome = {
        let mut house = pin!(keep_house(plan, &mut servers, &mut programs));
        tokio::select! {
            error = &mut house => Err(error),
            () = signals.next() => Ok(()),
        }
    };
    if outcome.is_ok() {
        tracing::info!("stopping; press Ctrl-C again to hurry");
    }
    programs.stop(signals.next()).await;
    servers.stop().await;
    if outcome.is_ok() {
        tracing::info!("stopped; the data is kept");
    }
    outcome
}

/// Opens the service and keeps it running; returns only when that fails.
async fn keep_house(plan: Plan, servers: &mut PrivateServers, programs: &mut Programs) -> Error {
    let owner = servers.database_url(DATABASE, OWNER);
    match open_house(plan, servers, programs).await {
        Ok(()) => tokio::select! {
            error = servers.supervise() => error,
            error = programs.supervise() => error,
            never = database::prune_daily(owner) => match never {},
        },
        Err(error) => error,
    }
}

async fn open_house(mut plan: Plan, servers: &PrivateServers, programs: &mut Programs) -> Result<()> {
    // From here on the directory exists and is ours; its real path goes into everything that is printed or passed on.
    plan.state = servers.state_dir().to_owned();
    files::make_directories(&plan)?;
    let pepper = files::pepper(&plan)?;
    files::jwt_secret(&plan)?;
    files::encryption_keys(&plan)?;
    let key = database::prepare(servers, &pepper, &plan).await?;
    programs.start(&plan)?;
    let welcome = tokio::select! {
        welcome = welcome(&plan, &key) => welcome?,
        message = programs.exited() => {
            return Err(Error::msg(format!("{message} while the service was starting; its own messages are above")));
        }
    };
    welcome.print(&plan);
    Ok(())
}

/// Waits for the service, tries it, and says what there is to tell.
async fn welcome(plan: &Plan, key: &ApiKey) -> Result<Welcome> {
    let sample = plan.sample();
    let (has_sample, ready) = tokio::join!(clip::keep_sample(&sample), self_check::await_ready(plan));
    ready?;
    Ok(Welcome { has_sample, checked: self_check::run(plan, key).await? })
}
