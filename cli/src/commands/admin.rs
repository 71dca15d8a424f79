//! `probectl migrate`, `bootstrap`, `keygen`: what an operator does once, straight against PostgreSQL. The owner of the schema
//! is known here and nowhere else: the services connect as a role that owns nothing.

use anyhow::{Context, Result, bail};
use clap::Args;
use shared::access::Pepper;
use shared::bootstrap::{Bootstrap, first_admin, mint};
use shared::config::{DatabaseArgs, OwnerArgs, Ownership, PepperArgs, PlaintextArgs};
use shared::store;

use super::SUCCESS;
use crate::terminal;

/// Brings the schema up to date.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Where PostgreSQL is, and as whom the services connect.
    #[command(flatten)]
    database: DatabaseArgs,
    /// Who owns the schema.
    #[command(flatten)]
    owner: OwnerArgs,
    /// What may be spoken to in clear.
    #[command(flatten)]
    plaintext: PlaintextArgs,
}

/// Makes the first admin key.
#[derive(Debug, Args)]
pub struct BootstrapArgs {
    /// The same pepper that the API runs with.
    #[command(flatten)]
    pepper: PepperArgs,
    /// Where PostgreSQL is.
    #[command(flatten)]
    database: DatabaseArgs,
    /// What may be spoken to in clear.
    #[command(flatten)]
    plaintext: PlaintextArgs,
}

/// Runs `migrate`.
pub async fn migrate(args: MigrateArgs) -> Result<u8> {
    let Ownership { owner, application } = args.owner.ownership(&args.database, &args.plaintext)?;
    let name = owner.get_username().to_owned();
    store::migrate(owner.clone()).await.with_context(|| {
        format!("as the role {name}. If another role owns the schema, name it in MIGRATE_DATABASE_URL")
    })?;
    match application {
        Some(application) => {
            store::role::grant(owner, &application).await?;
            terminal::remark(&format!("The schema is up to date, and the role {application} has what it needs."));
        }
        None => terminal::remark(
            "The schema is up to date. One role owns it and runs the service, so the service could change its audit \
             trail; with MIGRATE_DATABASE_URL another role owns it.",
        ),
    }
    Ok(SUCCESS)
}

/// Runs `bootstrap`. The key is printed once and stored nowhere.
pub async fn bootstrap(args: BootstrapArgs) -> Result<u8> {
    let pepper = Pepper::new(args.pepper.pepper()?);
    let db = store::connect(args.database.options(&args.plaintext)?, 2);
    if !store::schema_is_current(&db).await.context("the database does not answer; check DATABASE_URL or POSTGRES_*")? {
        bail!("the database lacks this version's schema. Run `probectl migrate` first");
    }
    let key = mint();
    if first_admin(&db, &pepper, &key).await? == Bootstrap::NotNeeded {
        bail!("there is an admin key already, so none was made");
    }
    terminal::remark("The first admin key. It is shown only now; keep it safe.");
    terminal::line(key.expose());
    Ok(SUCCESS)
}

/// Runs `keygen`.
pub fn keygen() -> u8 {
    terminal::line(mint().expose());
    SUCCESS
}
