//! PostgreSQL: the only truth. One file per table, free functions that take an executor and are called with their
//! module (`store::job::find`). SQL is written here and nowhere else. Nothing here decides; that is `lifecycle`.

pub mod access;
pub mod attempt;
pub mod audit;
pub mod batch;
pub mod delivery;
pub mod event;
pub mod idempotency;
pub mod inspection;
pub mod installation;
pub mod job;
pub mod lane;
pub mod leader;
pub mod result;
pub mod reuse;
pub mod role;
pub mod session;
pub mod upload;
pub mod webhook;
pub mod worker;

use std::io;
use std::time::Duration;

use anyhow::{Context, bail};
use sqlx::migrate::{MigrateError, Migrator};
pub use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::time::timeout;

use crate::error::{Code, Error};

/// A pool of connections; cloning it is cheap and shares it.
pub type Pool = PgPool;

/// The schema, compiled in.
static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// A statement that takes longer is a fault, not patience.
const STATEMENT_TIMEOUT: &str = "5s";
/// Nothing here holds a lock for long, so waiting longer for one means trouble.
const LOCK_TIMEOUT: &str = "1s";
/// No transaction waits for anything but PostgreSQL, so one that lies idle belongs to a process that stands still or whose
/// machine is gone; its locks must not wait for it.
const IDLE_TRANSACTION_TIMEOUT: &str = "10s";
/// How long a request waits for a free connection before it is told to try again.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection that lay idle may take for a sign of life; then it is closed, and a new one is opened.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// A connection that was used within this time needs none: on a busy pool, that would cost as much as the statement.
const FRESH: Duration = Duration::from_millis(100);
/// How long a connection that is given back may take to be ready for others: a bit more than the statement that was running.
const READY_AGAIN: Duration = Duration::from_secs(6);
/// A PostgreSQL that is silent for so long is gone without a word, as a host that was frozen or cut off; see [`in_time`].
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a process waits for PostgreSQL when it starts.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A pool of at most `connections`. Connects when first used, so that a process starts while PostgreSQL is away.
pub fn connect(options: PgConnectOptions, connections: u32) -> Pool {
    let options = options
        .application_name("ffprobe-api")
        .options([
            ("statement_timeout", STATEMENT_TIMEOUT),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", IDLE_TRANSACTION_TIMEOUT),
            // compiling a short statement takes a hundred times longer than running it
            ("jit", "off"),
        ])
        .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1))
        .log_statements(tracing::log::LevelFilter::Trace);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // sqlx would wait for its sign of life without end, and a connection that lies silent would keep its place in the pool
        .test_before_acquire(false)
        .before_acquire(|connection, of| {
            Box::pin(
                async move { if of.idle_for < FRESH { Ok(true) } else { answers(connection, SIGN_OF_LIFE).await } },
            )
        })
        .after_release(|connection, _| Box::pin(answers(connection, READY_AGAIN)))
        .connect_lazy_with(options)
}

/// Whether a connection is ready within `patience`.
async fn answers(connection: &mut PgConnection, patience: Duration) -> Result<bool, sqlx::Error> {
    match timeout(patience, connection.ping()).await {
        Ok(outcome) => outcome.map(|()| true),
        Err(elapsed) => Err(io::Error::from(elapsed).into()),
    }
}

/// Work with the database that ends within [`PATIENCE`]. For what nothing else bounds, above all for tasks that work for
/// everybody: PostgreSQL ends statements that take too long, but not if it is gone, and who only waits for an answer is
/// never told. The connection is closed when the work is dropped.
///
/// # Errors
/// Those of the work, and `unavailable`.
pub async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(PATIENCE, work).await.unwrap_or_else(|elapsed| Err(Error::unavailable("The database", elapsed)))
}

/// Brings the schema up to date. Safe to run from several processes at once: an advisory lock makes them take turns.
pub async fn migrate(options: PgConnectOptions) -> Result<(), MigrateError> {
    // a connection of its own: a migration may rightly take longer than a request's statement
    let mut connection = options.application_name("ffprobe-api migrate").connect().await?;
    MIGRATIONS.run(&mut connection).await
}

/// Whether the schema has every migration this build knows.
pub async fn schema_is_current(pool: &Pool) -> Result<bool, Error> {
    let newest = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    let there: Result<Option<i64>, _> =
        sqlx::query_scalar("select max(version) from _sqlx_migrations where success").fetch_one(pool).await;
    match there {
        Ok(version) => Ok(version.is_some_and(|v| v >= newest)),
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some(UNDEFINED_TABLE) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Waits until PostgreSQL answers, which may be starting at the same time, and insists on a schema this build knows.
/// For the start of a process; the error says what to do.
pub async fn wait_for_schema(pool: &Pool) -> anyhow::Result<()> {
    let begun = tokio::time::Instant::now();
    loop {
        match schema_is_current(pool).await {
            Ok(true) => return Ok(()),
            Ok(false) => bail!(
                "the database lacks this version's schema. Fix: run `probectl migrate` with the same DATABASE_URL or POSTGRES_* settings"
            ),
            Err(error) if is_tls_fault(&error) => {
                return Err(error).context(
                    "the way to the database is not safe, and nothing was sent over it. Fix: the certificate of PostgreSQL must \
                     be signed by the CA in sslrootcert (POSTGRES_SSL_ROOT_CERT) and name the host of DATABASE_URL \
                     (POSTGRES_HOST), and PostgreSQL must run with ssl = on",
                );
            }
            Err(error) if begun.elapsed() > START_PATIENCE => {
                return Err(error).context("the database does not answer. Fix: check DATABASE_URL or POSTGRES_*");
            }
            Err(error) => {
                tracing::warn!(%error, "the database does not answer yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Whether there is no connection because the server is not the one it should be, or cannot prove it. Waiting does not help.
fn is_tls_fault(error: &Error) -> bool {
    match error.cause().and_then(|cause| cause.downcast_ref()) {
        Some(sqlx::Error::Tls(_)) => true,
        // how rustls ends a handshake; the messages of PostgreSQL itself are read by sqlx and end otherwise
        Some(sqlx::Error::Io(io)) => io.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// Asks PostgreSQL for a sign of life.
pub async fn ping(pool: &Pool) -> Result<(), Error> {
    sqlx::query("select 1").execute(pool).await?;
    Ok(())
}

/// SQLSTATE of a missing table.
const UNDEFINED_TABLE: &str = "42P01";

impl From<sqlx::Error> for Error {
    /// The one place that tells "PostgreSQL is away" (the client may retry) from our own faults.
    fn from(error: sqlx::Error) -> Self {
        let away = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            // 08 connection, 25006 read-only (a failover), 25P03 idle in a transaction, 40 rolled back for others' sake,
            // 53 resources, 55P03 lock timeout, 57 operator intervention
            sqlx::Error::Database(e) => e.code().is_some_and(|c| {
                ["08", "25006", "25P03", "40", "53", "55P03", "57"].iter().any(|away| c.starts_with(away))
            }),
            _ => false,
        };
        if away { Self::unavailable("The database", error) } else { Self::internal(error) }
    }
}

/// Whether `error` is the violation of the constraint `name`.
fn violates(error: &sqlx::Error, name: &str) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.constraint() == Some(name))
}

/// A row whose content this build cannot read: a newer build wrote it, or somebody changed it by hand.
fn unreadable(what: &str, error: impl std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("A stored {what} cannot be read: {error}"))
}
