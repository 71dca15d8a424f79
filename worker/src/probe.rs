//! One claimed job from its bytes to its end in PostgreSQL. Holds no transaction and no database connection while bytes
//! move or ffprobe runs; the lease is kept by `keep` beside the work.

mod settle;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use shared::job::{Claim, Failure, FailureClass, FailureCode, Progress, Source};
use shared::media;
use shared::store;
use shared::store::attempt::Attempt;
use shared::store::result::NewResult;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::Worker;
use crate::ffprobe::{Ffprobe, Probe, Run};
use crate::jail::{Input, Limits};
use crate::keep::{Stop, keep};
use crate::settings::ResourceRetry;
use crate::source::{self, OpenInput};

/// Opening a file takes this long only on a mount that is dead.
const OPEN_PATIENCE: Duration = Duration::from_secs(15);
/// What a killed ffprobe gets to be gone.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// How an attempt came to its end.
enum End {
    Result { result: Box<NewResult>, stderr_tail: String },
    Failure { failure: Failure, stderr_tail: Option<String> },
    Stopped(Stop),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Failure { failure, stderr_tail: None }
    }
}

/// Runs a claimed job to its end. `claimed_from` is an instant before the claim was sent.
pub async fn run(worker: Arc<Worker>, claim: Claim, claimed_from: Instant) {
    let span = tracing::info_span!("job", job.id = %claim.job.id, attempt = claim.job.attempt);
    async {
        if let Some(waited) = claim.job.started_at.and_then(|at| (at - claim.job.run_at).to_std().ok()) {
            worker.metrics.waited.observe(waited.as_secs_f64());
        }
        let mut end = attempt(&worker, &claim, claimed_from).await;
        if let End::Failure { failure, .. } = &mut end {
            decide_retry(&worker, &claim, failure).await;
        }
        settle::settle(&worker, &claim, end, claimed_from).await;
    }
    .instrument(span)
    .await;
}

/// Does the work and keeps the lease until one of the two ends.
async fn attempt(worker: &Worker, claim: &Claim, claimed_from: Instant) -> End {
    let (cancel, bytes_read) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let total = Arc::new(AtomicU64::new(0));
    let mut work = pin!(examine(worker, claim, cancel.clone(), Arc::clone(&bytes_read), Arc::clone(&total)));
    let progress = || {
        let known =
            |n: &AtomicU64| Some(n.load(Ordering::Relaxed)).filter(|n| *n > 0).and_then(|n| i64::try_from(n).ok());
        Some(Progress { bytes_read: known(&bytes_read), bytes_total: known(&total), ..Progress::default() })
    };
    let stop = tokio::select! {
        end = &mut work => return end,
        stop = keep(worker, claim, claimed_from, progress) => stop,
    };
    cancel.cancel();
    // ffprobe is dead and reaped when the work returns; a read that hangs in a dead mount is left behind
    if timeout(STOP_PATIENCE, work).await.is_err() {
        tracing::warn!("the work did not stop in time");
    }
    End::Stopped(stop)
}

async fn examine(
    worker: &Worker,
    claim: &Claim,
    cancel: CancellationToken,
    bytes_read: Arc<AtomicU64>,
    total: Arc<AtomicU64>,
) -> End {
    let Some(ffprobe) = &worker.ffprobe else {
        return Failure::new(FailureCode::WorkerMisconfigured, "This worker has no ffprobe.").into();
    };
    let input = match open(worker, claim).await {
        Ok(input) => input,
        Err(failure) => return failure.into(),
    };
    total.store(input.size, Ordering::Relaxed);
    let (name, size) = (input.name, input.size);
    let mut limits = Limits::of(claim.job.profile);
    if worker.resource_retry == ResourceRetry::Once && met_limits_before(claim) {
        limits = limits.widened();
    }
    let run = ffprobe
        .run(Probe { input: Input::File(input.file), profile: claim.job.profile, limits, cancel, bytes_read })
        .await;
    worker.metrics.ffprobe_cpu.inc_by(run.usage.cpu_ms.unwrap_or(0) as f64 / 1000.0);
    worker.metrics.ffprobe_read.inc_by(run.usage.bytes_read.unwrap_or(0));
    let provenance = provenance(worker, ffprobe, &run);
    describe(name, size, run, provenance).await
}

/// Whether the attempt before this one met a limit of the jail.
fn met_limits_before(claim: &Claim) -> bool {
    claim.job.failure.as_ref().is_some_and(|f| f.class == FailureClass::Resource)
}

/// A limit that was met is final, unless the operator wants one more try and none was made.
async fn decide_retry(worker: &Worker, claim: &Claim, failure: &mut Failure) {
    if failure.class != FailureClass::Resource || worker.resource_retry == ResourceRetry::Never {
        return;
    }
    // the attempt before may have ended otherwise; what cannot be read counts as a try
    let attempts = store::attempt::list(&worker.db, claim.job.id).await;
    let met_before = |a: &Attempt| a.failure.as_ref().is_some_and(|f| f.class == FailureClass::Resource);
    failure.retryable = attempts.is_ok_and(|attempts| !attempts.iter().any(met_before));
}

/// Opens the job's bytes. Off the runtime's threads: a dead network mount blocks.
async fn open(worker: &Worker, claim: &Claim) -> Result<OpenInput, Failure> {
    let job = &claim.job;
    let opening: Box<dyn FnOnce() -> Result<OpenInput, Failure> + Send> = match (&job.source, &job.located) {
        (Source::Upload { id }, _) => {
            let (path, name) = (worker.storage.data_path(*id), claim.upload_name.clone().unwrap_or_default());
            Box::new(move || source::upload::open(&path, &name))
        }
        (Source::Path { .. }, Some(located)) => {
            let (roots, located) = (worker.roots.clone(), located.clone());
            Box::new(move || source::path::open_beneath(&roots, &located))
        }
        (Source::Path { .. }, None) => {
            return Err(Failure::new(FailureCode::Internal, "The job names a path, but no place to look for it."));
        }
        (Source::Url { .. } | Source::S3 { .. }, _) => {
            return Err(Failure::new(FailureCode::Internal, "This worker cannot read remote objects."));
        }
    };
    match timeout(OPEN_PATIENCE, tokio::task::spawn_blocking(opening)).await {
        // a volume that went away since the claim is not the upload's end
        Ok(Ok(Err(failure))) if failure.code == FailureCode::UploadGone && !worker.sees_uploads().await => {
            Err(Failure::new(
                FailureCode::StorageError,
                "The upload volume is not there on this worker; perhaps it is not mounted.",
            ))
        }
        Ok(Ok(opened)) => opened,
        Ok(Err(_)) => Err(Failure::new(FailureCode::Internal, "Opening the input broke off.")),
        Err(_) => {
            Err(Failure::new(FailureCode::StorageError, "Opening the input took too long; its mount may be dead."))
        }
    }
}

/// How the result came about. Nothing in it names this machine's files.
fn provenance(worker: &Worker, ffprobe: &Ffprobe, run: &Run) -> serde_json::Value {
    json!({
        "ffprobe_version": ffprobe.version(),
        "arguments": run.arguments,
        "bytes_read": run.usage.bytes_read,
        "wall_ms": run.usage.wall_ms,
        "cpu_ms": run.usage.cpu_ms,
        "peak_memory_bytes": run.usage.peak_memory_bytes,
        "worker": worker.identity.name,
        "worker_version": worker.identity.version,
    })
}

/// Normalises what ffprobe said. Off the runtime's threads: the JSON may be megabytes.
async fn describe(name: String, size: u64, run: Run, provenance: serde_json::Value) -> End {
    let stderr_tail = run.stderr_tail;
    let report = match run.outcome {
        Ok(report) => report,
        Err(failure) => return End::Failure { failure, stderr_tail: Some(stderr_tail) },
    };
    let described = tokio::task::spawn_blocking(move || -> Result<_, String> {
        let media =
            media::normalize(&name, size, &report.main, report.first_frame.as_deref()).map_err(|e| e.to_string())?;
        let ffprobe = media::rename_filename(&report.main, &name).map_err(|e| e.to_string())?;
        Ok((serde_json::to_value(media).map_err(|e| e.to_string())?, ffprobe))
    });
    let reason = match described.await {
        Ok(Ok((media, ffprobe))) => {
            let result = NewResult {
                media,
                ffprobe,
                provenance,
                warnings: run.warnings,
                degraded: run.degraded,
                ..NewResult::default()
            };
            return End::Result { result: Box::new(result), stderr_tail };
        }
        Ok(Err(reason)) => reason,
        Err(_) => "normalising broke off".to_owned(),
    };
    let failure = Failure::new(FailureCode::UnreadableOutput, format!("ffprobe's answer could not be read: {reason}."));
    End::Failure { failure, stderr_tail: Some(stderr_tail) }
}
