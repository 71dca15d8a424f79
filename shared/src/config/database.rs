//! Where PostgreSQL is, and how the way there is protected. `main` parses [`DatabaseArgs`]; the store connects with the
//! options they mean. Connects to nothing itself, and its messages never repeat a URL: it may hold a password.

use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{ConfigError, Plaintext, PlaintextArgs, Way, certificates, read_secret};

/// Where PostgreSQL is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "PostgreSQL")]
pub struct DatabaseArgs {
    /// Connection URL; if set, the POSTGRES_* variables are not used
    #[arg(long, env, hide_env_values = true)]
    pub database_url: Option<SecretString>,
    /// File holding the connection URL
    #[arg(long, env)]
    pub database_url_file: Option<PathBuf>,
    /// Host name, or the directory of a Unix socket
    #[arg(long, env, default_value = "127.0.0.1")]
    pub postgres_host: String,
    /// Port
    #[arg(long, env, default_value_t = 5432)]
    pub postgres_port: u16,
    /// Database
    #[arg(long, env, default_value = "ffprobe_api")]
    pub postgres_db: String,
    /// User
    #[arg(long, env, default_value = "ffprobe_api")]
    pub postgres_user: String,
    /// Password
    #[arg(long, env, hide_env_values = true)]
    pub postgres_password: Option<SecretString>,
    /// File holding the password
    #[arg(long, env)]
    pub postgres_password_file: Option<PathBuf>,
    /// TLS: disable, prefer, require, verify-ca or verify-full. Default: prefer. Other machines need verify-full
    #[arg(long, env)]
    pub postgres_ssl_mode: Option<PgSslMode>,
    /// File of certificates (PEM) to trust besides the public ones, for a CA of your own
    #[arg(long, env)]
    pub postgres_ssl_root_cert: Option<PathBuf>,
    /// Most connections this process keeps open; a worker never has fewer than its slots and six more
    #[arg(long, env, default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=500))]
    pub database_max_connections: u32,
}

impl DatabaseArgs {
    /// The connection options these settings mean. Refuses a way that leaves this machine without verified TLS.
    pub fn options(&self, plaintext: &PlaintextArgs) -> Result<PgConnectOptions, ConfigError> {
        let plaintext = plaintext.hosts()?;
        let url = read_secret("DATABASE_URL", self.database_url.as_ref(), self.database_url_file.as_deref())?;
        if let Some(url) = url {
            self.check_unused()?;
            return database_url("DATABASE_URL", &url, &plaintext);
        }
        let password =
            read_secret("POSTGRES_PASSWORD", self.postgres_password.as_ref(), self.postgres_password_file.as_deref())?;
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&self.postgres_host)
            .port(self.postgres_port)
            .database(&self.postgres_db)
            .username(&self.postgres_user)
            .ssl_mode(self.postgres_ssl_mode.unwrap_or(PgSslMode::Prefer));
        if let Some(file) = &self.postgres_ssl_root_cert {
            check_root_cert(
                "POSTGRES_SSL_ROOT_CERT",
                file,
                options.get_ssl_mode(),
                "set POSTGRES_SSL_MODE=verify-full",
            )?;
            options = options.ssl_root_cert(file);
        }
        if let Some(password) = password {
            options = options.password(password.expose_secret());
        }
        check_way("POSTGRES_HOST", &options, &plaintext, "set POSTGRES_SSL_MODE=verify-full")?;
        Ok(options)
    }

    /// What protects the connection must not be set where it has no effect.
    fn check_unused(&self) -> Result<(), ConfigError> {
        let refused =
            |variable, fix| ConfigError::new(variable, "DATABASE_URL is set, so it would have no effect", fix);
        if self.postgres_ssl_mode.is_some() {
            return Err(refused("POSTGRES_SSL_MODE", "write ?sslmode=verify-full at the end of the URL instead"));
        }
        if self.postgres_ssl_root_cert.is_some() {
            return Err(refused("POSTGRES_SSL_ROOT_CERT", "write &sslrootcert=/FILE at the end of the URL instead"));
        }
        Ok(())
    }
}

/// The connection options that a URL means.
pub(super) fn database_url(
    variable: &'static str,
    url: &SecretString,
    plaintext: &Plaintext,
) -> Result<PgConnectOptions, ConfigError> {
    // the parser takes any scheme, and its own message may repeat the password
    let wrong = || {
        ConfigError::new(variable, "it is not a PostgreSQL URL", "write postgres://USER:PASSWORD@HOST:PORT/DATABASE")
    };
    let text = url.expose_secret();
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err(wrong());
    }
    let options: PgConnectOptions = text.parse().map_err(|_| wrong())?;
    let fix = "write ?sslmode=verify-full at the end of the URL";
    if let Some(file) = root_cert(text) {
        check_root_cert(variable, &file, options.get_ssl_mode(), fix)?;
    }
    check_way(variable, &options, plaintext, fix)?;
    Ok(options)
}

/// The file of certificates that a URL names, under the names that its parser takes.
fn root_cert(url: &str) -> Option<PathBuf> {
    let url = url::Url::parse(url).ok()?;
    let named = |key: &str| ["sslrootcert", "ssl-root-cert", "ssl-ca"].contains(&key);
    url.query_pairs().filter(|(key, _)| named(key)).last().map(|(_, file)| PathBuf::from(file.into_owned()))
}

fn check_root_cert(variable: &'static str, file: &Path, mode: PgSslMode, fix: &str) -> Result<(), ConfigError> {
    if !matches!(mode, PgSslMode::VerifyCa | PgSslMode::VerifyFull) {
        return Err(ConfigError::new(variable, "it names a CA, and the mode of TLS checks no certificate", fix));
    }
    certificates::read(variable, file).map(drop)
}

/// How the way that these options lead is protected. Only `verify-full` proves who is at the other end: any server of the same
/// authority passes `verify-ca`.
pub fn way(options: &PgConnectOptions) -> Way {
    match options.get_ssl_mode() {
        _ if options.get_socket().is_some() || options.get_host().starts_with('/') => Way::Local,
        PgSslMode::VerifyFull => Way::Verified,
        _ if Plaintext::default().allows(options.get_host()) => Way::Local,
        _ => Way::Clear,
    }
}

fn check_way(
    variable: &'static str,
    options: &PgConnectOptions,
    plaintext: &Plaintext,
    fix: &str,
) -> Result<(), ConfigError> {
    match way(options) {
        Way::Local | Way::Verified => Ok(()),
        Way::Clear => plaintext.check(variable, options.get_host(), fix),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        database: DatabaseArgs,
        #[command(flatten)]
        plaintext: PlaintextArgs,
    }

    fn options(arguments: &[&str]) -> Result<PgConnectOptions, ConfigError> {
        let line = Line::parse_from([&["x"], arguments].concat());
        line.database.options(&line.plaintext)
    }

    fn refusal(arguments: &[&str]) -> String {
        let message = options(arguments).unwrap_err().to_string();
        assert!(message.contains("Fix: ") && !message.contains("hunter2"), "{arguments:?}: {message}");
        message
    }

    const CA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tls/ca.pem");

    #[test]
    fn another_machine_needs_verified_tls_or_a_word_of_the_operator() {
        for far in
            ["postgres://u:hunter2@db/d", "postgres://db/d?sslmode=require", "postgres://10.0.0.1/d?sslmode=verify-ca"]
        {
            let message = refusal(&["--database-url", far]);
            assert!(
                message.starts_with("DATABASE_URL: it leads to ") && message.contains("PLAINTEXT_HOSTS"),
                "{message}"
            );
        }
        assert!(refusal(&["--database-url", "postgres:///d?host=db"]).contains("'db'"), "the host of the query counts");
        assert!(refusal(&["--database-url", "postgres://localhost/d?hostaddr=10.0.0.1"]).contains("'10.0.0.1'"));
        let message = refusal(&["--postgres-host", "db", "--postgres-ssl-mode", "require"]);
        assert!(
            message.starts_with("POSTGRES_HOST: ") && message.contains("POSTGRES_SSL_MODE=verify-full"),
            "{message}"
        );
        for near in [
            &[][..],
            &["--postgres-host", "/run/postgresql"],
            &["--postgres-host", "db", "--postgres-ssl-mode", "verify-full"],
            &["--postgres-host", "db", "--plaintext-hosts", "db"],
            &["--database-url", "postgres://[::1]/d"],
            &["--database-url", "postgres:///d?host=/run/postgresql"],
            &["--database-url", "postgres://%2Frun%2Fpostgresql/d"],
            &["--database-url", "postgres://db/d?sslmode=verify-full"],
            &["--database-url", "postgres://db/d", "--plaintext-hosts", "cache,db"],
        ] {
            assert!(options(near).is_ok(), "{near:?}: {:?}", options(near));
        }
    }

    #[test]
    fn a_ca_is_used_or_refused() {
        let url = |mode: &str, file: &str| format!("postgres://u:hunter2@db/d?sslmode={mode}&sslrootcert={file}");
        assert!(options(&["--database-url", &url("verify-full", CA)]).is_ok());
        assert!(options(&["--postgres-ssl-mode", "verify-full", "--postgres-ssl-root-cert", CA]).is_ok());
        assert!(refusal(&["--database-url", &url("require", CA)]).contains("checks no certificate"));
        assert!(refusal(&["--database-url", &url("verify-full", "/nowhere")]).contains("'/nowhere' cannot be read"));
        let message = refusal(&["--postgres-ssl-root-cert", CA]);
        assert!(message.starts_with("POSTGRES_SSL_ROOT_CERT: ") && message.contains("verify-full"), "{message}");
        let message = refusal(&["--postgres-ssl-mode", "verify-full", "--postgres-ssl-root-cert", "/nowhere"]);
        assert!(message.starts_with("POSTGRES_SSL_ROOT_CERT: "), "{message}");
    }

    #[test]
    fn protection_without_effect_is_a_contradiction() {
        let url = ["--database-url", "postgres://localhost/d"];
        let message = refusal(&[&url[..], &["--postgres-ssl-mode", "verify-full"]].concat());
        assert!(message.starts_with("POSTGRES_SSL_MODE: DATABASE_URL is set"), "{message}");
        let message = refusal(&[&url[..], &["--postgres-ssl-root-cert", CA]].concat());
        assert!(message.starts_with("POSTGRES_SSL_ROOT_CERT: DATABASE_URL is set"), "{message}");
    }
}
