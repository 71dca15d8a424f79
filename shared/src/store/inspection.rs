//! What the server behind a connection is like, for `probectl doctor`: its version, how the connection is protected, its clock,
//! and what the role may do there. Asks, changes nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, FromRow, PgExecutor};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// A PostgreSQL server, as seen through one connection.
#[derive(Debug, Clone, FromRow)]
pub struct Server {
    /// Its version, such as `15.8`.
    pub version: String,
    /// The same as a number, such as 150008.
    pub version_number: i32,
    /// The protocol of TLS that this connection uses; null without.
    pub tls: Option<String>,
    /// Its clock while it answered.
    pub clock: DateTime<Utc>,
    /// The role of the connection.
    pub role: String,
    /// Whether the role may do everything, or make roles or databases.
    pub is_mighty: bool,
    /// Whether the role may make tables beside ours.
    pub may_create: bool,
    /// Whether nothing can be written: a standby.
    pub read_only: bool,
}

/// Connects once, and says why not: a pool tries again until its patience ends, and tells only that.
pub async fn reach(options: &PgConnectOptions) -> Result<()> {
    let connected = timeout(PATIENCE, options.connect()).await;
    let connection = connected.map_err(|late| Error::unavailable("The database", late))??;
    Ok(connection.close().await?)
}

/// Looks at the server.
pub async fn server(db: impl PgExecutor<'_>) -> Result<Server> {
    let sql = "select split_part(current_setting('server_version'), ' ', 1) as version,
            current_setting('server_version_num')::int as version_number,
            (select s.version from pg_stat_ssl s where s.pid = pg_backend_pid() and s.ssl) as tls,
            clock_timestamp() as clock, r.rolname::text as role,
            r.rolsuper or r.rolcreaterole or r.rolcreatedb as is_mighty,
            has_schema_privilege('public', 'create') as may_create,
            pg_is_in_recovery() as read_only
        from pg_roles r where r.rolname = current_user";
    Ok(sqlx::query_as(sql).fetch_one(db).await?)
}
