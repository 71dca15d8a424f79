//! `ffprobe-api`: reads the settings, checks them all, and serves until SIGTERM or Ctrl-C.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use api::App;
use api::limits::Limiter;
use api::metrics::Metrics;
use api::settings::{Cli, Command, Limits, ServeArgs};
use clap::Parser;
use shared::bootstrap::{Bootstrap, first_admin};
use shared::egress::Egress;
use shared::queue::Queue;
use shared::storage::Storage;
use shared::store::Pool;
use shared::store::role::Privilege;
use shared::{healthcheck, store, telemetry, watchdog};
use tokio::net::TcpListener;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Openapi) => print(api::openapi::document()),
        Some(Command::Rights) => print(api::openapi::rights::page()),
        Some(Command::Healthcheck) => run(ask_server(cli.serve)),
        None => run(async { watchdog::over(Box::pin(serve(cli.serve))).await.context("cannot start the watchdog")? }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // before logging is set up, and for people: one line on standard error
            #[expect(clippy::print_stderr, reason = "the reason for not starting belongs on the terminal")]
            {
                eprintln!("ffprobe-api: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let outcome = runtime.block_on(work);
    // a look at a dead mount must not keep the process from ending
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn print(text: serde_json::Result<String>) -> anyhow::Result<()> {
    use std::io::Write;
    std::io::stdout().write_all(text?.as_bytes())?;
    Ok(())
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    telemetry::init_logs(&args.telemetry)?;
    if let Err(error) = api::listen::raise_descriptor_limit() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    // every setting is checked before anything is touched
    let (options, redis) = (args.database.options(&args.plaintext)?, args.redis.endpoint(&args.plaintext)?);
    let (keys, limits) = (args.encryption.keys()?, Limits::new(&args)?);
    let (egress, s3) = (Egress::new(args.egress.settings()?)?, args.s3.profiles()?);
    let (roots, storage) = (args.files.roots()?, args.files.storage(&s3)?);
    let storage = Storage::open(storage).context("STORAGE_URL: the S3 profile cannot be used")?;
    storage.check_limit(args.max_upload_bytes)?;
    let (gate, limiter) = (args.gate()?, Limiter::new(args.rates.rates()?));
    let (pepper, first_key, base_url) = (args.pepper()?, args.first_admin_key()?, args.checked_base_url()?);
    let tokens = args.token_settings()?;
    check_way_in(&args)?;

    let db = store::connect(options, args.database.database_max_connections);
    store::wait_for_schema(&db).await?;
    let privilege = check_privilege(&db).await?;
    if let Some(key) = first_key
        && first_admin(&db, &pepper, &key).await? == Bootstrap::Done
    {
        tracing::info!(key = key.public_id(), "the first admin key is in force");
    }
    let installation = store::installation::find(&db).await?;
    storage.mark(installation).await.with_context(|| format!("STORAGE_URL: {storage} cannot be used"))?;

    let metrics = show_metrics(&args).await?;
    let draining = shared::shutdown::on_signal().context("cannot listen for signals")?;
    let app = Arc::new(App {
        db,
        queue: Queue::new(redis, installation)?,
        storage,
        roots,
        pepper,
        tokens: tokens.of(installation),
        remembered: Default::default(),
        roll: Default::default(),
        sessions: Default::default(),
        used: Default::default(),
        gate,
        limiter,
        backlog: Default::default(),
        spool_room: Default::default(),
        egress,
        s3,
        keys,
        base_url,
        limits,
        volume: Default::default(),
        metrics,
        audit: Default::default(),
        privilege,
        waiters: Default::default(),
        streams: Default::default(),
        holds: Default::default(),
        digests: Default::default(),
        background: Default::default(),
        draining,
    });
    let addr = SocketAddr::new(args.api_host, args.api_port);
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("cannot listen on {addr}. Fix: free the port, or choose another with API_PORT"))?;
    tracing::info!(addr = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
    api::serve(app, listener, args.shutdown_grace).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Checks how clients get here, and says so where it is not as it should be.
fn check_way_in(args: &ServeArgs) -> anyhow::Result<()> {
    args.check_listeners()?;
    if args.is_open_in_clear() {
        tracing::warn!(
            "clients of other machines may come in clear, and their keys with them. Fix: let a proxy in front end TLS, and \
             name it in TRUSTED_PROXIES (docs/tls.md)"
        );
    }
    Ok(())
}

/// Counters, and where they are shown.
async fn show_metrics(args: &ServeArgs) -> anyhow::Result<Metrics> {
    let metrics = Metrics::default();
    let mut registry = telemetry::registry(env!("CARGO_PKG_VERSION"));
    metrics.register(&mut registry);
    if let Some(listener) = telemetry::bind_metrics(&args.telemetry).await? {
        tracing::info!(addr = %listener.local_addr()?, "metrics");
        tokio::spawn(telemetry::serve_metrics(listener, registry));
    }
    Ok(metrics)
}

/// What the database role can do to the audit trail, said where it is not what it should be.
async fn check_privilege(db: &Pool) -> anyhow::Result<Privilege> {
    let privilege = store::role::privilege(db).await.context("the rights of the database role cannot be read")?;
    match privilege {
        Privilege::AppendOnly => {}
        Privilege::Unrestricted => tracing::warn!(
            "the database role of this process may change the audit trail. Fix: let another role own the schema \
             (MIGRATE_DATABASE_URL of `probectl migrate`, docs/operations.md)"
        ),
        Privilege::Insufficient => bail!(
            "the database role of this process lacks its rights. Fix: run `probectl migrate` with the owner in \
             MIGRATE_DATABASE_URL and this role in DATABASE_URL or POSTGRES_USER"
        ),
    }
    Ok(privilege)
}

/// Asks the server with the same settings whether it is ready; for container health checks, so that images need no curl.
async fn ask_server(args: ServeArgs) -> anyhow::Result<()> {
    healthcheck::ask(SocketAddr::new(args.api_host, args.api_port), "/health/ready").await
}
