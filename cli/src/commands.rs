//! The command tree of `probectl` and its exit codes.

pub mod admin;
pub mod audit;
pub mod batch;
pub mod doctor;
pub mod health;
pub mod jobs;
pub mod keys;
pub mod session;
pub mod submit;
pub mod tenants;
pub mod watch;
pub mod webhooks;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;

use crate::client::{Client, Credentials};
use crate::session::{Place, Session};
use crate::up::{StateArgs, UpArgs};

/// Everything went well.
pub const SUCCESS: u8 = 0;
/// The call failed: the service did not answer or refused.
pub const FAILED: u8 = 1;
/// At least one job ended without a result.
pub const JOB_FAILED: u8 = 3;
/// The service answered that it is not well.
pub const UNHEALTHY: u8 = 4;

/// Ctrl-C or SIGTERM ended an upload, which can be resumed.
pub const INTERRUPTED: u8 = 130;

/// Runs FFprobe API on this machine, and talks to any installation of it.
///
/// Exit codes: 0 success; 1 the call failed; 2 wrong usage; 3 a job ended without a result; 4 the service is not well;
/// 130 an upload was interrupted and can be resumed.
#[derive(Debug, Parser)]
#[command(name = "probectl", version, max_term_width = 100)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Which installation.
    #[command(flatten)]
    pub target: Target,
    /// Where `up` keeps everything.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Which installation to talk to, and as whom.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Installation")]
pub struct Target {
    /// Address of the API
    #[arg(long, env = "FFPROBE_API_URL", default_value = "http://127.0.0.1:8080", global = true)]
    pub url: String,
    /// API key
    #[arg(long, env = "FFPROBE_API_KEY", hide_env_values = true, global = true)]
    pub api_key: Option<SecretString>,
    /// File holding the API key. Default: the session of `probectl login`, else the key that `probectl up` wrote on this
    /// machine
    #[arg(long, env = "FFPROBE_API_KEY_FILE", global = true)]
    pub api_key_file: Option<PathBuf>,
}

/// What probectl can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine: PostgreSQL, Redis, API and worker
    Up(UpArgs),
    /// Upload files, or name what the service can read itself, and submit a job for each
    Submit(submit::SubmitArgs),
    /// Submit a list of sources as one batch, and read its results
    Batch(batch::BatchArgs),
    /// List jobs, newest first
    Jobs(jobs::JobsArgs),
    /// Show a job
    Job(jobs::JobArgs),
    /// Show the result of a job
    Result(jobs::ResultArgs),
    /// Show what happens while it happens; with jobs named, until they have ended
    Watch(watch::WatchArgs),
    /// Exchange the API key for a session, which the other commands use
    Login(session::LoginArgs),
    /// End the session of `login`
    Logout,
    /// Ask whether the service and its workers are well
    Health(health::HealthArgs),
    /// Check a running installation: servers, API, workers, secrets
    Doctor(Box<doctor::DoctorArgs>),
    /// List, create, rotate and revoke API keys
    Keys(keys::KeysArgs),
    /// List, create and change tenants; needs a platform key
    Tenants(tenants::TenantsArgs),
    /// Show the audit trail, follow it, export it, or erase what is old in it
    Audit(audit::AuditArgs),
    /// Post events to a program on this machine, signed as webhooks are
    Webhooks(webhooks::WebhooksArgs),
    /// Bring the database schema up to date
    Migrate(admin::MigrateArgs),
    /// Make the first admin key of an installation and print it
    Bootstrap(admin::BootstrapArgs),
    /// Print a new random API key, for BOOTSTRAP_ADMIN_API_KEY_FILE
    Keygen,
}

impl Target {
    /// A client for it: with the key that was named, else with the session of `login`, else with the key that `up` wrote.
    pub fn client(&self, state: &StateArgs) -> Result<Client> {
        if let Some(key) = self.named_key()? {
            return self.client_with_key(Some(key));
        }
        match state.session_folder().and_then(|folder| Session::open(Place::new(&folder, &self.url))) {
            Some(session) => self.client_with_session(session),
            None => self.client_with_key(self.key(state)?),
        }
    }

    /// A client with a key, or without credentials.
    pub fn client_with_key(&self, key: Option<SecretString>) -> Result<Client> {
        Client::new(&self.url, key)
    }

    /// A client with a session.
    pub fn client_with_session(&self, session: Session) -> Result<Client> {
        Client::with(&self.url, Credentials::Session(session))
    }

    /// The key that was named, else the one that `up` wrote, which is used for an installation on this machine only.
    pub fn key(&self, state: &StateArgs) -> Result<Option<SecretString>> {
        let key = self.named_key()?;
        if key.is_some() || !self.is_local() {
            return Ok(key);
        }
        // no file, or not ours to read, means no key: the service then says what it needs
        Ok(state.key_file().and_then(|f| std::fs::read_to_string(f).ok()).map(|k| k.trim().to_owned().into()))
    }

    fn named_key(&self) -> Result<Option<SecretString>> {
        Ok(shared::config::read_secret("FFPROBE_API_KEY", self.api_key.as_ref(), self.api_key_file.as_deref())?)
    }

    /// Whether the address is one of this machine.
    fn is_local(&self) -> bool {
        let url = reqwest::Url::parse(&self.url).ok();
        // by the host as it is understood: an address may only look like one of this machine
        url.as_ref()
            .and_then(reqwest::Url::host_str)
            .is_some_and(|host| shared::config::Plaintext::default().allows(host))
    }
}

/// Runs a command.
pub async fn run(cli: Cli) -> Result<ExitCode> {
    let client = || cli.target.client(&cli.state);
    let code = match cli.command {
        Command::Up(args) => {
            crate::up::run(args, &cli.state).await?;
            SUCCESS
        }
        Command::Submit(args) => submit::run(&client()?, &cli.state, args).await?,
        Command::Batch(args) => batch::run(&client()?, args).await?,
        Command::Jobs(args) => jobs::list(&client()?, args).await?,
        Command::Job(args) => jobs::show(&client()?, args).await?,
        Command::Result(args) => jobs::result(&client()?, args).await?,
        Command::Watch(args) => watch::run(&client()?, args).await?,
        Command::Login(args) => session::login(&cli.target, &cli.state, args).await?,
        Command::Logout => session::logout(&cli.target, &cli.state).await?,
        Command::Health(args) => health::run(&client()?, args).await?,
        Command::Doctor(args) => doctor::run(&cli.target, &cli.state, *args).await?,
        Command::Keys(args) => keys::run(&client()?, args).await?,
        Command::Tenants(args) => tenants::run(&client()?, args).await?,
        Command::Audit(args) => match args.prune() {
            Some(prune) => audit::erase(prune).await?,
            None => audit::show(&client()?, args.list).await?,
        },
        Command::Webhooks(args) => webhooks::run(&client()?, args).await?,
        Command::Migrate(args) => admin::migrate(args).await.context("the schema was not brought up to date")?,
        Command::Bootstrap(args) => admin::bootstrap(args).await?,
        Command::Keygen => admin::keygen(),
    };
    Ok(code.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_this_machine_goes_to_this_machine() {
        let is_local = |url: &str| Target { url: url.to_owned(), api_key: None, api_key_file: None }.is_local();
        for url in ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1/", "https://localhost:8443"] {
            assert!(is_local(url), "{url}");
        }
        for url in ["http://localhost.example.com", "http://127.0.0.1@example.com", "http://127.0.0.1.nip.io", "", "x"]
        {
            assert!(!is_local(url), "{url}");
        }
    }
}
