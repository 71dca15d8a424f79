//! `probectl doctor`: looks at a running installation the way its programs look at their settings when they start, and says of
//! each thing whether it is well and what to do next. It changes nothing, and reads the same typed settings as API and workers,
//! so that the two never judge differently.

mod api;
mod check;
mod postgres;
mod redis;
mod secrets;
mod workers;

use anyhow::Result;
use clap::Args;
use shared::config::{
    DatabaseArgs, EncryptionArgs, FileArgs, PepperArgs, PlaintextArgs, RedisArgs, S3Args, SigningArgs,
};

use self::check::{Checks, Outcome};
use super::{FAILED, SUCCESS, Target};
use crate::terminal;
use crate::up::{Places, StateArgs};

/// Checks a running installation: give it the same environment as the API, and the API's address. Without either it looks
/// at the `probectl up` of this machine.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code: 0 if nothing fails, 1 otherwise. Each check is ok, warn, fail, or skip (it could not be made)."
)]
pub struct DoctorArgs {
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
    /// What may be spoken to in clear.
    #[command(flatten)]
    plaintext: PlaintextArgs,
    /// Where PostgreSQL is.
    #[command(flatten)]
    database: DatabaseArgs,
    /// Where Redis is.
    #[command(flatten)]
    redis: RedisArgs,
    /// Where uploads lie.
    #[command(flatten)]
    files: FileArgs,
    /// Stores that the operator set up.
    #[command(flatten)]
    s3: S3Args,
    /// What is mixed into stored digests.
    #[command(flatten)]
    pepper: PepperArgs,
    /// What signs access tokens.
    #[command(flatten)]
    signing: SigningArgs,
    /// Secrets at rest.
    #[command(flatten)]
    encryption: EncryptionArgs,
}

/// Runs the command.
pub async fn run(target: &Target, state: &StateArgs, mut args: DoctorArgs) -> Result<u8> {
    if target.is_local()
        && !args.name_an_installation()
        && let Some(up) = Places::of_running(state)
    {
        terminal::remark(&format!("looking at the `probectl up` that runs on {}", up.state.display()));
        args.take_from(up);
    }
    let mut checks = Checks::default();
    secrets::look(&args, &mut checks);
    let db = postgres::look(&args, &mut checks).await;
    redis::look(&args, &mut checks).await;
    api::look(target, state, &args, &mut checks).await;
    workers::look(db.as_ref(), &mut checks).await;
    if args.json {
        terminal::json(&checks.to_json());
    } else {
        print(&checks);
    }
    Ok(if checks.count(Outcome::Fail) == 0 { SUCCESS } else { FAILED })
}

impl DoctorArgs {
    /// Whether the environment is that of an API: none starts without these secrets. A mere default names nothing.
    fn name_an_installation(&self) -> bool {
        let (database, redis) = (&self.database, &self.redis);
        let secrets = [
            &database.database_url,
            &database.postgres_password,
            &redis.redis_url,
            &redis.redis_password,
            &self.pepper.api_key_pepper,
            &self.signing.jwt_secret,
            &self.encryption.encryption_keys,
        ];
        let files = [
            &database.database_url_file,
            &database.postgres_password_file,
            &redis.redis_url_file,
            &redis.redis_password_file,
            &self.pepper.api_key_pepper_file,
            &self.signing.jwt_secret_file,
            &self.encryption.encryption_keys_file,
        ];
        secrets.into_iter().any(Option::is_some) || files.into_iter().any(Option::is_some)
    }

    fn take_from(&mut self, up: Places) {
        self.database.database_url = Some(up.database_url.into());
        self.redis.redis_url = Some(up.redis_url.into());
        self.files.storage_url = up.storage_url;
        self.pepper.api_key_pepper_file = Some(up.pepper_file);
        self.signing.jwt_secret_file = Some(up.jwt_secret_file);
        self.encryption.encryption_keys_file = Some(up.encryption_keys_file);
    }
}

fn print(checks: &Checks) {
    for check in &checks.0 {
        terminal::line(&format!(
            "{:<4}  {:<10} {:<16} {}",
            check.outcome.as_str(),
            check.area,
            check.name,
            check.found
        ));
        if let Some(next) = &check.next {
            terminal::line(&format!("{:<34}→ {next}", ""));
        }
    }
    let count = |outcome| checks.count(outcome);
    terminal::remark(&format!(
        "{} ok, {} to look at, {} failed, {} not made",
        count(Outcome::Ok),
        count(Outcome::Warn),
        count(Outcome::Fail),
        count(Outcome::Skip)
    ));
}
