//! The keys of what is encrypted at rest, as settings. Shared by the API, which seals, and the workers, which open.

use std::path::PathBuf;

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::{ConfigError, read_secret};
use crate::sealed::KeyRing;

const VARIABLE: &str = "ENCRYPTION_KEYS";

/// The keys of what is encrypted at rest.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Encryption")]
pub struct EncryptionArgs {
    /// Keys for secrets at rest, such as signed URLs and request headers: ID:BASE64,ID:BASE64 (32 random bytes each). The
    /// first encrypts, all decrypt; the same list for every API and worker
    #[arg(long, env, hide_env_values = true)]
    pub encryption_keys: Option<SecretString>,
    /// File holding the keys
    #[arg(long, env)]
    pub encryption_keys_file: Option<PathBuf>,
}

impl EncryptionArgs {
    /// The keys, if they are there and can be used.
    pub fn keys(&self) -> Result<KeyRing, ConfigError> {
        let fix = "set it to first:KEY, where KEY is the output of: openssl rand -base64 32";
        let secret = read_secret(VARIABLE, self.encryption_keys.as_ref(), self.encryption_keys_file.as_deref())?;
        let secret = secret.ok_or_else(|| ConfigError::new(VARIABLE, "it is not set", fix))?;
        KeyRing::parse(secret.expose_secret()).map_err(|e| ConfigError::new(VARIABLE, e.to_string(), fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_variable_and_never_the_key() {
        let args = |text: Option<&str>| EncryptionArgs {
            encryption_keys: text.map(|t| t.to_owned().into()),
            encryption_keys_file: None,
        };
        for bad in [None, Some("c2VjcmV0"), Some("a:c2VjcmV0")] {
            let message = args(bad).keys().unwrap_err().to_string();
            assert!(message.starts_with("ENCRYPTION_KEYS: ") && message.contains("openssl"), "{message}");
            assert!(!message.contains("c2VjcmV0"), "{message}");
        }
        assert!(args(Some("a:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=")).keys().is_ok());
    }
}
