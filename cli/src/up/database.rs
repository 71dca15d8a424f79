//! The database of `up`: its roles, schema, first tenant and the admin key in its file; and what is too old in the audit
//! trail, which only its owner can erase.
//!
//! Called by `up` at every start. The key is in its file before it is in the database, so a kill in between loses
//! nothing; and a key file that was lost or does not fit (a restored backup) is replaced, because whoever holds the state
//! directory holds the database too. It must never remove a key.

use std::convert::Infallible;

use anyhow::{Context, Result};
use shared::access::{ApiKey, Pepper, Reach, Role, Standing};
use shared::bootstrap::{self, FIRST_TENANT};
use shared::store::access::{NewKey, ensure_tenant, find_key, insert_key};
use shared::store::{PgConnectOptions, audit, connect, migrate, role};
use tokio::time::{Duration, sleep};

use super::files::{read, write_private};
use super::plan::Plan;
use crate::commands::audit::{RETENTION, prune};
use crate::private::{APPLICATION, DATABASE, OWNER, PrivateServers, SUPERUSER};

/// Connections for a few statements at the start.
const CONNECTIONS: u32 = 2;
/// How often the audit trail is pruned.
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 3600);
/// From the start to the first time, when there are other things to do.
const PRUNE_FIRST: Duration = Duration::from_secs(60);

/// Makes the roles, brings the schema up to date and returns an admin key that is in force.
pub(super) async fn prepare(servers: &PrivateServers, pepper: &Pepper, plan: &Plan) -> Result<ApiKey> {
    let options = |role| servers.database_url(DATABASE, role).parse::<PgConnectOptions>().context("the database URL");
    // before the schema, so that the owner can change what an earlier version made as the superuser
    role::found(options(SUPERUSER)?, OWNER, APPLICATION).await?;
    migrate(options(OWNER)?).await.context("could not bring the database up to date")?;
    role::grant(options(OWNER)?, APPLICATION).await?;
    let pool = connect(options(APPLICATION)?, CONNECTIONS);
    let path = plan.key_file();
    let stored = read(&path)?.and_then(|text| ApiKey::parse(&text));
    let key = match stored {
        Some(key) => key,
        None => {
            let key = bootstrap::mint();
            write_private(&path, key.expose())?;
            key
        }
    };
    bootstrap::first_admin(&pool, pepper, &key).await.context("could not store the first admin key")?;
    let stored = find_key(&pool, key.public_id()).await.context("could not look up the admin key")?;
    if stored.is_some_and(|s| s.standing == Standing::Good && key.matches(&s.digest, pepper)) {
        pool.close().await;
        return Ok(key);
    }
    let key = bootstrap::mint();
    write_private(&path, key.expose())?;
    let tenant =
        ensure_tenant(&pool, FIRST_TENANT, &bootstrap::everything()).await.context("could not find the tenant")?;
    let (public_id, digest) = (key.public_id(), key.digest(pepper));
    let name = "admin key of probectl up";
    let new = NewKey { tenant, public_id, digest, name, role: Role::Admin, reach: Reach::Platform };
    let stored = async {
        let mut tx = pool.begin().await?;
        insert_key(&mut *tx, &new).await?;
        audit::insert(&mut *tx, &bootstrap::made(tenant, &key)).await?;
        anyhow::Ok(tx.commit().await?)
    };
    stored.await.context("could not store an admin key")?;
    tracing::warn!("the key in {} was missing or not in force; it holds a new one now", path.display());
    pool.close().await;
    Ok(key)
}

/// Erases what is too old in the audit trail, every day.
pub(super) async fn prune_daily(owner_url: String) -> Infallible {
    sleep(PRUNE_FIRST).await;
    loop {
        let pruned = match owner_url.parse().context("the database URL") {
            Ok(options) => prune(options, RETENTION).await,
            Err(error) => Err(error),
        };
        match pruned {
            Ok(0) => {}
            Ok(events) => tracing::info!(events, "audit events were old enough to be erased"),
            Err(error) => tracing::warn!("the audit trail was not pruned: {error:#}"),
        }
        sleep(PRUNE_EVERY).await;
    }
}
