//! The API's own secrets: what is mixed into stored key digests, and what signs access tokens. Read by the API, which cannot
//! start with weak ones, and by `probectl bootstrap` and `probectl doctor`. They never stand in a message.

use std::path::PathBuf;

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::{ConfigError, read_secret, require_strong};

/// What is mixed into the stored digests of API keys.
#[derive(Debug, Clone, Args)]
pub struct PepperArgs {
    /// Secret mixed into the stored digests of API keys; at least 32 characters. Changing it invalidates every key
    #[arg(long, env, hide_env_values = true)]
    pub api_key_pepper: Option<SecretString>,
    /// File holding the pepper
    #[arg(long, env)]
    pub api_key_pepper_file: Option<PathBuf>,
}

/// What signs access tokens.
#[derive(Debug, Clone, Args)]
pub struct SigningArgs {
    /// Secret that signs access tokens; at least 32 characters, the same for every API
    #[arg(long, env, hide_env_values = true)]
    pub jwt_secret: Option<SecretString>,
    /// File holding the secret
    #[arg(long, env)]
    pub jwt_secret_file: Option<PathBuf>,
    /// The secret before this one; its tokens are accepted, none are made with it. For rotation
    #[arg(long, env, hide_env_values = true)]
    pub jwt_secret_previous: Option<SecretString>,
    /// File holding the secret before this one
    #[arg(long, env)]
    pub jwt_secret_previous_file: Option<PathBuf>,
}

/// What signs access tokens, checked.
#[derive(Debug, Clone)]
pub struct Signing {
    /// Makes and checks tokens.
    pub current: SecretString,
    /// Checks those made before it was replaced.
    pub previous: Option<SecretString>,
}

impl PepperArgs {
    /// The pepper, if it is there and strong.
    pub fn pepper(&self) -> Result<SecretString, ConfigError> {
        const VARIABLE: &str = "API_KEY_PEPPER";
        require_strong(
            VARIABLE,
            read_secret(VARIABLE, self.api_key_pepper.as_ref(), self.api_key_pepper_file.as_deref())?,
        )
    }
}

impl SigningArgs {
    /// The secrets, if they are there and strong, and are those of nothing else.
    pub fn signing(&self, pepper: &SecretString) -> Result<Signing, ConfigError> {
        const CURRENT: &str = "JWT_SECRET";
        const PREVIOUS: &str = "JWT_SECRET_PREVIOUS";
        let current = read_secret(CURRENT, self.jwt_secret.as_ref(), self.jwt_secret_file.as_deref())?;
        let current = require_strong(CURRENT, current)?;
        let previous =
            read_secret(PREVIOUS, self.jwt_secret_previous.as_ref(), self.jwt_secret_previous_file.as_deref())?;
        let previous = previous.map(|p| require_strong(PREVIOUS, Some(p))).transpose()?;
        let same = |other: &SecretString| other.expose_secret() == current.expose_secret();
        if previous.as_ref().is_some_and(same) {
            let fix = "put the new secret into JWT_SECRET and the old one into JWT_SECRET_PREVIOUS, or leave that out";
            return Err(ConfigError::new(PREVIOUS, "it is the same as JWT_SECRET", fix));
        }
        if same(pepper) {
            let fix = "set it to a secret of its own, the output of: openssl rand -hex 32";
            return Err(ConfigError::new(CURRENT, "it is the same as API_KEY_PEPPER", fix));
        }
        Ok(Signing { current, previous })
    }
}
