//! The database of `up`: schema, first tenant and the admin key in its file.
//!
//! Called by `up` at every start. The key is in its file before it is in the database, so a kill in between loses
//! nothing; and a key file that was lost or does not fit (a restored backup) is replaced, because whoever holds the state
//! directory holds the database too. It must never remove a key.

use anyhow::{Context, Result};
use shared::access::{ApiKey, Pepper, Reach, Role, Standing};
use shared::bootstrap::{self, FIRST_TENANT};
use shared::store::access::{NewKey, ensure_tenant, find_key, insert_key};
use shared::store::{connect, migrate};

use super::files::{read, write_private};
use super::plan::Plan;

/// Connections for a few statements at the start.
const CONNECTIONS: u32 = 2;

/// Brings the schema up to date and returns an admin key that is in force.
pub(super) async fn prepare(url: &str, pepper: &Pepper, plan: &Plan) -> Result<ApiKey> {
    migrate(url.parse().context("the database URL")?).await.context("could not bring the database up to date")?;
    let pool = connect(url.parse().context("the database URL")?, CONNECTIONS);
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
    insert_key(&pool, &new).await.context("could not store an admin key")?;
    tracing::warn!("the key in {} was missing or not in force; it holds a new one now", path.display());
    pool.close().await;
    Ok(key)
}
