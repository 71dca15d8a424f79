//! `ffprobe-worker`: becomes a launcher of the jail if it was started as one; otherwise reads the settings, checks them
//! and the sandbox, and works until SIGTERM or Ctrl-C.

use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use shared::id::WorkerId;
use shared::queue::Queue;
use shared::storage::Storage;
use shared::store::worker::{Condition, NewWorker};
use shared::{healthcheck, store, telemetry, watchdog};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use worker::Worker;
use worker::ffprobe::Ffprobe;
use worker::jail::{self, Protections, Status};
use worker::metrics::{Metrics, Protection};
use worker::settings::{Cli, Command, Role, WorkArgs};
use worker::slots::Slots;
use worker::source::MediaRoots;

/// Connections besides one for each slot: relay, upkeep, registry and claims.
const SPARE_CONNECTIONS: u32 = 6;

fn main() -> ExitCode {
    // first of all, before a runtime, a thread or a log exists
    if let Some(code) = jail::dispatch(std::env::args_os()) {
        return code;
    }
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime");
    let outcome = runtime.and_then(|runtime| {
        let outcome = runtime.block_on(async {
            match cli.command {
                Some(Command::Canary) => print_canary(&cli.work).await,
                Some(Command::Healthcheck) => ask_worker(&cli.work).await,
                None => watchdog::over(work(cli.work)).await.context("cannot start the watchdog")?,
            }
        });
        // a read that hangs in a dead mount must not keep the process from ending
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the reason for not starting belongs on the terminal")]
            {
                eprintln!("ffprobe-worker: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn print_canary(args: &WorkArgs) -> anyhow::Result<()> {
    use std::io::Write;
    let (_, protections) = find_ffprobe(args).await?;
    let text = serde_json::to_string_pretty(&protections)? + "\n";
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Asks the worker with the same settings whether it is alive; for container health checks.
async fn ask_worker(args: &WorkArgs) -> anyhow::Result<()> {
    let address = telemetry::metrics_address(&args.telemetry)?;
    let address = address.context("METRICS_ADDR is empty, so nobody answers. Fix: set it, to ADDRESS:PORT")?;
    healthcheck::ask(address, "/health/live").await
}

/// Finds ffprobe and tries the jail around it.
async fn find_ffprobe(args: &WorkArgs) -> anyhow::Result<(Ffprobe, Protections)> {
    let ffprobe = Ffprobe::detect(args.ffprobe_path.as_deref(), &args.path, args.sandbox, jail::own_launcher()).await?;
    let ffprobe = ffprobe.behind(args.optional_walls());
    let protections = ffprobe.canary().await?;
    Ok((ffprobe, protections))
}

async fn work(args: WorkArgs) -> anyhow::Result<()> {
    telemetry::init_logs(&args.telemetry)?;
    // every setting is checked before anything is touched
    args.check_agreement()?;
    let (options, redis) = (args.database.options(&args.plaintext)?, args.redis.endpoint(&args.plaintext)?);
    let slots = args.slots()?;
    let (keys, remotes, base_url) = (args.encryption.keys()?, args.remotes()?, args.checked_base_url()?);
    let (roots, storage) = (MediaRoots::new(args.files.roots()?), args.files.storage(&remotes.s3)?);
    let storage = Storage::open(storage).context("STORAGE_URL: the S3 profile cannot be used")?;
    let (ffprobe, protections) = if args.has(Role::Probe) {
        let (ffprobe, protections) = find_ffprobe(&args).await?;
        report(&protections);
        (Some(ffprobe), protections)
    } else {
        (None, Protections::default())
    };
    let wanted = u32::try_from(slots).unwrap_or(u32::MAX).saturating_add(SPARE_CONNECTIONS);
    let db = store::connect(options, args.database.database_max_connections.max(wanted));
    store::wait_for_schema(&db).await?;
    let installation = store::installation::find(&db).await?;

    let metrics = count(&args, slots, &protections).await?;
    let draining = shared::shutdown::on_signal().context("cannot listen for signals")?;
    let lanes = args.lanes();
    let s3_profiles = remotes.s3.iter().map(|p| p.name.clone()).collect();
    let identity = NewWorker { s3_profiles, ..identity(&args, ffprobe.as_ref(), slots, &protections)? };
    let worker = Arc::new(Worker {
        identity,
        roles: args.worker_roles.clone(),
        db,
        queue: Queue::new(redis, installation)?,
        installation,
        storage,
        upload_retention: args.upload_retention,
        event_retention: args.event_retention(),
        roots,
        remotes,
        deliver_slots: args.deliver_slots.into(),
        base_url,
        keys,
        ffprobe,
        reuse_max_age: args.reuse_max_age,
        resource_retry: args.resource_retry,
        limits: args.limits(),
        slots: Slots::new(slots, &lanes),
        lease: args.lease(),
        lanes,
        condition: RwLock::new(Condition { busy: 0, media_roots: Vec::new(), has_uploads: false, draining: false }),
        jobs: TaskTracker::new(),
        draining,
        kill: CancellationToken::new(),
        bells: worker::bells(),
        hearing: watch::Sender::new(false),
        metrics,
    });
    // what it can reach must be known before the first claim
    let mut entry = worker::registry::Entry::default();
    entry.beat(&worker).await;
    tracing::info!(worker = worker.identity.name, roles = ?worker.identity.roles, slots, "working");
    worker::run(worker, entry, args.retention(), args.shutdown_grace).await?;
    tracing::info!("stopped");
    Ok(())
}

/// The counters, served if that is wanted.
async fn count(args: &WorkArgs, slots: usize, protections: &Protections) -> anyhow::Result<Metrics> {
    let metrics = Metrics::default();
    metrics.slots.set(i64::try_from(slots).unwrap_or(i64::MAX));
    for (name, status) in &protections.0 {
        let protection = Protection { protection: name.clone() };
        metrics.protections.get_or_create(&protection).set(i64::from(*status == Status::Active));
    }
    let mut registry = telemetry::registry(env!("CARGO_PKG_VERSION"));
    metrics.register(&mut registry);
    if let Some(listener) = telemetry::bind_metrics(&args.telemetry).await? {
        tracing::info!(addr = %listener.local_addr()?, "metrics");
        tokio::spawn(telemetry::serve_metrics(listener, registry));
    }
    Ok(metrics)
}

fn identity(
    args: &WorkArgs,
    ffprobe: Option<&Ffprobe>,
    slots: usize,
    protections: &Protections,
) -> anyhow::Result<NewWorker> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(NewWorker {
        id: WorkerId::new(),
        name: format!("{host}-{}", std::process::id()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ffprobe_version: ffprobe.map(|f| f.version().to_owned()),
        roles: args.worker_roles.iter().map(|r| r.as_str().to_owned()).collect(),
        lanes: args.lanes().iter().map(|l| l.as_str().to_owned()).collect(),
        slots: if args.has(Role::Probe) { i32::try_from(slots)? } else { 0 },
        protections: serde_json::to_value(protections)?,
        s3_profiles: Vec::new(),
    })
}

fn report(protections: &Protections) {
    for (name, status) in &protections.0 {
        match status {
            Status::Active => tracing::debug!(protection = name, "active"),
            Status::Off { how } => tracing::debug!(protection = name, how, "off"),
            Status::Unavailable { reason } => {
                tracing::warn!(protection = name, reason, "not available on this machine");
            }
        }
    }
}
