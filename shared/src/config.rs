//! Settings, as typed clap structs with an environment variable each. Parsed in `main` only; everything below receives
//! values. A wrong setting stops the start with a [`ConfigError`] that names the variable and the fix.
//!
//! Every secret has a `_FILE` twin that names a file holding it, as container secrets are mounted.

mod certificates;
mod credentials;
mod database;
mod egress;
mod keys;
mod owner;
mod plaintext;
mod redis;
mod s3;
mod secret;
mod storage;

use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};

pub use credentials::{PepperArgs, Signing, SigningArgs};
pub use database::{DatabaseArgs, way as database_way};
pub use egress::{EgressArgs, EgressSettings, HostRule, NetworkRule, Scheme, network, networks};
pub use keys::EncryptionArgs;
pub use owner::{OwnerArgs, Ownership};
pub use plaintext::{Plaintext, PlaintextArgs, Way};
pub use redis::{RedisArgs, RedisDoor, RedisEndpoint};
pub use s3::{S3Args, S3Profile, S3Style};
pub use secret::{read as read_secret, require_strong};
pub use storage::{S3Place, StoragePlace};

use crate::job::source::MediaRoot;

/// A setting that cannot be used, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {problem}. Fix: {fix}")]
pub struct ConfigError {
    /// The environment variable.
    pub variable: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl ConfigError {
    /// A setting that cannot be used.
    pub fn new(variable: &'static str, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { variable, problem: problem.into(), fix: fix.into() }
    }
}

/// Where media lies.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Files")]
pub struct FileArgs {
    /// Folders that jobs may name: NAME=DIR,NAME=DIR. A tenant sees only those granted to it
    #[arg(long, env, default_value = "")]
    pub media_roots: String,
    /// Where uploads are kept, the same place for every API and worker: file:///ABSOLUTE/DIRECTORY on a shared volume, or
    /// s3://PROFILE/BUCKET/PREFIX with a profile of S3_PROFILES_FILE
    #[arg(long, env, default_value = "file:///var/lib/ffprobe-api/uploads")]
    pub storage_url: String,
}

impl FileArgs {
    /// The media roots, in the order written.
    pub fn roots(&self) -> Result<Vec<MediaRoot>, ConfigError> {
        let wrong = |problem: String| {
            ConfigError::new("MEDIA_ROOTS", problem, "write NAME=/ABSOLUTE/DIRECTORY, several joined by commas")
        };
        let mut roots: Vec<MediaRoot> = Vec::new();
        for part in self.media_roots.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, dir) = part.split_once('=').ok_or_else(|| wrong(format!("'{part}' has no '='")))?;
            let (name, dir) = (name.trim(), dir.trim().trim_end_matches('/'));
            let name_ok =
                (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            if !name_ok {
                return Err(wrong(format!("'{name}' is not a name of 1 to 32 letters, digits, '-' or '_'")));
            }
            if !dir.starts_with('/') || dir.split('/').any(|p| p == "..") {
                return Err(wrong(format!("'{dir}' is not an absolute directory below /")));
            }
            if roots.iter().any(|r| r.name == name) {
                return Err(wrong(format!("the name '{name}' is used twice")));
            }
            roots.push(MediaRoot { name: name.to_owned(), dir: dir.to_owned() });
        }
        Ok(roots)
    }

    /// The place where uploads are kept. It has nothing in common with a media root: tenants read there what they were granted,
    /// and uploads are private.
    pub fn storage(&self, profiles: &[S3Profile]) -> Result<StoragePlace, ConfigError> {
        let place = StoragePlace::parse(&self.storage_url, profiles)?;
        if let StoragePlace::Directory(dir) = &place
            && let Some(root) =
                self.roots()?.iter().find(|r| dir.starts_with(&r.dir) || Path::new(&r.dir).starts_with(dir))
        {
            return Err(ConfigError::new(
                "STORAGE_URL",
                format!(
                    "'{}' and the media root '{}' lie in each other, so jobs could name uploads of others",
                    dir.display(),
                    root.name
                ),
                "use two separate directories",
            ));
        }
        Ok(place)
    }
}

/// How logs look.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs and metrics")]
pub struct TelemetryArgs {
    /// Least level that is logged: error, warn, info, debug or trace; or tracing directives such as info,sqlx=debug
    #[arg(long, env, default_value = "info")]
    pub log_level: String,
    /// json (one object a line) or pretty (for people)
    #[arg(long, env, default_value = "json")]
    pub log_format: LogFormat,
    /// Address of /metrics (Prometheus) and /health/live; an empty value turns it off. Do not publish it
    #[arg(long, env, default_value = "127.0.0.1:9464")]
    pub metrics_addr: String,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Coloured lines for people.
    Pretty,
}

/// Reads whole seconds, such as `60`.
pub fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "write a whole number of seconds".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(roots: &str, storage: &str) -> FileArgs {
        FileArgs { media_roots: roots.into(), storage_url: storage.into() }
    }

    #[test]
    fn roots_are_read_in_order() {
        let roots = files("b=/srv/b/, a=/srv/a", "").roots().unwrap();
        let seen: Vec<_> = roots.iter().map(|r| (r.name.as_str(), r.dir.as_str())).collect();
        assert_eq!(seen, [("b", "/srv/b"), ("a", "/srv/a")]);
        assert!(files("", "").roots().unwrap().is_empty());
    }

    #[test]
    fn wrong_roots_name_the_variable() {
        for bad in ["a", "a=b", "a=/", "=/x", "a b=/x", "a=/x,a=/y", "a=/x/../y"] {
            let message = files(bad, "").roots().unwrap_err().to_string();
            assert!(message.starts_with("MEDIA_ROOTS: ") && message.contains("Fix: "), "{bad}: {message}");
        }
    }

    #[test]
    fn uploads_and_media_have_nothing_in_common() {
        for (roots, storage) in
            [("m=/srv", "file:///srv/uploads"), ("a=/x,m=/srv/up/media", "file:///srv/up"), ("m=/s", "file:///s/")]
        {
            let message = files(roots, storage).storage(&[]).unwrap_err().to_string();
            assert!(message.starts_with("STORAGE_URL: ") && message.contains("media root 'm'"), "{message}");
        }
        assert!(files("m=/srv/media", "file:///srv/media2").storage(&[]).is_ok());
    }
}
