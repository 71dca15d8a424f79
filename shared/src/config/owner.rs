//! The role that owns the schema: the one that migrates and prunes the audit trail. Read by `probectl`; the services never
//! see it. Without it the application's own role does both.

use std::path::PathBuf;

use clap::Args;
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;

use super::database::database_url;
use super::{ConfigError, DatabaseArgs, PlaintextArgs, read_secret};

/// Who owns the schema.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Owner of the schema")]
pub struct OwnerArgs {
    /// Connection URL of the role that owns the schema. Without it the application's own role is used, which then owns it
    #[arg(long, env, hide_env_values = true)]
    pub migrate_database_url: Option<SecretString>,
    /// File holding that URL
    #[arg(long, env)]
    pub migrate_database_url_file: Option<PathBuf>,
}

/// How the schema is owned.
#[derive(Debug, Clone)]
pub struct Ownership {
    /// The owner's connection.
    pub owner: PgConnectOptions,
    /// The role that the application connects as, if that is another one.
    pub application: Option<String>,
}

impl OwnerArgs {
    /// The owner's connection, and the application's role beside it.
    pub fn ownership(&self, application: &DatabaseArgs, plaintext: &PlaintextArgs) -> Result<Ownership, ConfigError> {
        const VARIABLE: &str = "MIGRATE_DATABASE_URL";
        let application = application.options(plaintext)?;
        let url = read_secret(VARIABLE, self.migrate_database_url.as_ref(), self.migrate_database_url_file.as_deref())?;
        let Some(url) = url else { return Ok(Ownership { owner: application, application: None }) };
        let owner = database_url(VARIABLE, &url, &plaintext.hosts()?)?;
        if owner.get_database() != application.get_database() {
            return Err(ConfigError::new(
                VARIABLE,
                "it names another database than DATABASE_URL or POSTGRES_DB",
                "name the same database with both roles",
            ));
        }
        let name = application.get_username().to_owned();
        let application = Some(name).filter(|name| name != owner.get_username());
        Ok(Ownership { owner, application })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        application: DatabaseArgs,
        #[command(flatten)]
        owner: OwnerArgs,
        #[command(flatten)]
        plaintext: PlaintextArgs,
    }

    fn ownership(arguments: &[&str]) -> Result<(String, Option<String>), ConfigError> {
        let line = Line::parse_from([&["x"], arguments].concat());
        let found = line.owner.ownership(&line.application, &line.plaintext)?;
        Ok((found.owner.get_username().to_owned(), found.application))
    }

    #[test]
    fn the_application_is_granted_rights_only_where_it_is_not_the_owner() {
        let app = "--database-url=postgres://app@localhost/d";
        assert_eq!(ownership(&[app]).unwrap(), ("app".into(), None));
        let owner = "--migrate-database-url=postgres://owner@localhost/d";
        assert_eq!(ownership(&[app, owner]).unwrap(), ("owner".into(), Some("app".into())));
        assert_eq!(ownership(&["--database-url=postgres://owner@localhost/d", owner]).unwrap(), ("owner".into(), None));
    }

    #[test]
    fn two_databases_are_a_mistake() {
        let wrong = ownership(&[
            "--database-url=postgres://app@localhost/d",
            "--migrate-database-url=postgres://o@localhost/e",
        ]);
        let message = wrong.unwrap_err().to_string();
        assert!(message.starts_with("MIGRATE_DATABASE_URL: ") && message.contains("Fix: "), "{message}");
        let wrong = ownership(&["--migrate-database-url=mysql://o:secret@localhost/e"]).unwrap_err().to_string();
        assert!(!wrong.contains("secret"), "{wrong}");
        let far = ownership(&["--migrate-database-url=postgres://o:secret@db/d"]).unwrap_err().to_string();
        assert!(far.starts_with("MIGRATE_DATABASE_URL: it leads to 'db'") && !far.contains("secret"), "{far}");
    }
}
