//! Settings of tokens and sessions: the secrets that sign access tokens, and how long everything lasts. Part of the API's
//! settings; every API of an installation needs the same.

use std::time::Duration;

use clap::Args;
use secrecy::SecretString;
use shared::access::TokenKeys;
use shared::config::{self, ConfigError, Signing, SigningArgs};
use shared::id::InstallationId;
use shared::store::session::Lifetimes;

/// Longest life of an access token: it should not outlive the reason for its being short.
const LONGEST_ACCESS: Duration = Duration::from_secs(24 * 3600);
/// Longest life of a session.
const LONGEST_SESSION: Duration = Duration::from_secs(366 * 24 * 3600);

/// Tokens and sessions.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Tokens")]
pub struct TokenArgs {
    /// What signs access tokens.
    #[command(flatten)]
    pub signing: SigningArgs,
    /// Seconds that an access token lasts
    #[arg(long, env, default_value = "900", value_parser = config::seconds)]
    pub access_token_ttl: Duration,
    /// Seconds that a refresh token lasts if it is not used
    #[arg(long, env, default_value = "604800", value_parser = config::seconds)]
    pub refresh_token_ttl: Duration,
    /// Seconds that a session lasts, however often it is refreshed
    #[arg(long, env, default_value = "2592000", value_parser = config::seconds)]
    pub session_ttl: Duration,
}

/// The settings, checked; they become [`Tokens`] once it is known which installation this is.
pub struct TokenSettings {
    signing: Signing,
    access: Duration,
    lifetimes: Lifetimes,
}

/// What makes and checks tokens.
#[derive(Debug)]
pub struct Tokens {
    /// The secrets.
    pub keys: TokenKeys,
    /// How long an access token lasts.
    pub access: Duration,
    /// How long refresh tokens and sessions last.
    pub lifetimes: Lifetimes,
}

impl TokenArgs {
    /// The settings, if the secrets are strong and the times make sense. `pepper` is the other secret of the API.
    pub fn settings(&self, pepper: &SecretString) -> Result<TokenSettings, ConfigError> {
        let signing = self.signing.signing(pepper)?;
        self.check_times()?;
        let lifetimes = Lifetimes { refresh: self.refresh_token_ttl, session: self.session_ttl };
        Ok(TokenSettings { signing, access: self.access_token_ttl, lifetimes })
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        if self.access_token_ttl.is_zero() || self.access_token_ttl > LONGEST_ACCESS {
            let fix = format!("set it to 1 to {} seconds", LONGEST_ACCESS.as_secs());
            return Err(ConfigError::new("ACCESS_TOKEN_TTL", "an access token is short-lived", fix));
        }
        if self.refresh_token_ttl <= self.access_token_ttl {
            let problem = "it is not longer than ACCESS_TOKEN_TTL, so no client could refresh in time";
            return Err(ConfigError::new("REFRESH_TOKEN_TTL", problem, "set it to days, such as 604800"));
        }
        if self.session_ttl < self.refresh_token_ttl || self.session_ttl > LONGEST_SESSION {
            let problem = "it is shorter than REFRESH_TOKEN_TTL, or longer than a year";
            let fix = "set it to weeks, such as 2592000, and not below REFRESH_TOKEN_TTL";
            return Err(ConfigError::new("SESSION_TTL", problem, fix));
        }
        Ok(())
    }
}

impl TokenSettings {
    /// What makes and checks tokens of this installation.
    pub fn of(self, installation: InstallationId) -> Tokens {
        Tokens {
            keys: TokenKeys::new(&self.signing.current, self.signing.previous.as_ref(), installation),
            access: self.access,
            lifetimes: self.lifetimes,
        }
    }
}
