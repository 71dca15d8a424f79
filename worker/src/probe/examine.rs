//! The work itself: the input is opened, ffprobe runs on it as often as the profile asks, and what it said is put together.
//! Called by [`super::attempt`]; it keeps no lease and writes no result: in PostgreSQL it only asks whether one may be shared.

use std::ops::ControlFlow;
use std::time::Duration;

use serde_json::json;
use shared::completeness::Completeness;
use shared::frames::{Plan, PlanError};
use shared::job::{Claim, Failure, FailureClass, FailureCode, Profile};
use shared::packets::{self, Packets, Series, StreamInfo};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::describe::{Found, describe};
use super::input::Input;
use super::pace::Pace;
use super::share::{Share, share};
use super::{End, met_limits_before};
use crate::Worker;
use crate::ffprobe::{Ffprobe, Probe, Run, Scan};
use crate::jail::Limits;
use crate::settings::ResourceRetry;

/// One attempt at work.
struct Examination<'a> {
    worker: &'a Worker,
    ffprobe: &'a Ffprobe,
    claim: &'a Claim,
    pace: &'a Pace,
    cancel: CancellationToken,
    input: Input,
    /// The budget of time ends here.
    until: Option<Instant>,
}

/// Does the work of an attempt.
pub(super) async fn examine(worker: &Worker, claim: &Claim, cancel: CancellationToken, pace: &Pace) -> End {
    let Some(ffprobe) = &worker.ffprobe else {
        return Failure::new(FailureCode::WorkerMisconfigured, "This worker has no ffprobe.").into();
    };
    let budget = claim.job.options.budget;
    let until = budget.max_seconds.map(|s| Instant::now() + Duration::from_secs(s.into()));
    let opening = Input::open(worker, claim, &cancel);
    let input = match within(until, opening).await {
        Ok(input) => input,
        Err(failure) => return failure.into(),
    };
    pace.begin(claim.job.profile, &input);
    let size = input.size;
    // only a scan is sure to read it all
    if let (Profile::Packets, Some(most)) = (claim.job.profile, budget.max_read_bytes.filter(|most| size > *most)) {
        let message = format!("The profile packets reads the whole input of {size} bytes; the budget is {most}.");
        return Failure::new(FailureCode::BudgetExceeded, message).into();
    }
    let shares = match share(worker, ffprobe, claim, &input).await {
        Share::Alone => false,
        Share::First => true,
        Share::Settled(reuse) => return End::Shared(reuse),
    };
    let name = input.name.clone();
    let examination = Examination { worker, ffprobe, claim, pace, cancel, input, until };
    let (run, found) = examination.run().await;
    if shares && (run.outcome.is_err() || examination.input.has_changed().await) {
        // nobody may take this for the answer to what the file is
        if let Err(error) = shared::lifecycle::keep_to_itself(&worker.db, claim.job.id).await {
            tracing::warn!(%error, "the job stays down as the one that looks at these bytes");
        }
    }
    let provenance = examination.provenance(&run, found.scan_arguments.as_deref());
    describe(name, size, run, found, provenance).await
}

/// The answer, or the failure that the job's budget of time is over.
async fn within<T>(until: Option<Instant>, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let Some(until) = until else { return work.await };
    tokio::time::timeout_at(until, work).await.unwrap_or_else(|_| Err(out_of_time()))
}

fn out_of_time() -> Failure {
    Failure::new(FailureCode::BudgetExceeded, "The attempt ran longer than max_seconds and was stopped.")
}

impl Examination<'_> {
    async fn run(&self) -> (Run, Found) {
        let profile = self.claim.job.profile;
        let mut found = Found::default();
        let look = if profile == Profile::Quick { Profile::Quick } else { Profile::Standard };
        let mut run = match self.probe(look) {
            Ok(probe) => self.ffprobe.run(probe).await,
            Err(failure) => Run::not_started(failure, Vec::new()),
        };
        if let Ok(report) = &run.outcome {
            match profile {
                Profile::Packets => match StreamInfo::list(&report.main) {
                    Ok(streams) => self.packets(&streams, &mut run, &mut found).await,
                    Err(error) => run.outcome = Err(unreadable(&error)),
                },
                Profile::Frames => {
                    let request = self.claim.job.options.frames.unwrap_or_default();
                    match Plan::new(&request, &report.main) {
                        Ok(plan) => self.frames(&plan, &mut run, &mut found).await,
                        Err(PlanError::Malformed(error)) => run.outcome = Err(unreadable(&error)),
                        Err(error) => run.outcome = Err(Failure::new(FailureCode::NoVideo, error.to_string())),
                    }
                }
                Profile::Quick | Profile::Standard => {}
            }
        }
        // the smallest read is what `quick` is for
        if run.outcome.is_ok() && profile != Profile::Quick {
            found.completeness = self.input.completeness(self.until).await;
        }
        if let Err(failure) = &mut run.outcome {
            self.blame_budget(failure);
        }
        if !matches!(&run.outcome, Err(f) if f.class == FailureClass::Canceled)
            && let Some(remote) = self.input.remote()
            && let Some(failure) = remote.finish().await
        {
            // to ffprobe a connection that broke is invalid data
            run.outcome = Err(failure);
        }
        let usage = run.usage;
        self.worker.metrics.ffprobe_cpu.inc_by(usage.cpu_ms.unwrap_or(0) as f64 / 1000.0);
        self.worker.metrics.ffprobe_read.inc_by(usage.bytes_read.unwrap_or(0));
        (run, found)
    }

    /// What one run of ffprobe may use: the limits of its profile, what the job's budget leaves, and more after limits were
    /// met, if the operator wants that.
    fn probe(&self, profile: Profile) -> Result<Probe, Failure> {
        let mut limits = Limits::for_input(profile, self.input.size, &self.worker.limits);
        if self.worker.resource_retry == ResourceRetry::Once && met_limits_before(self.claim) {
            limits = limits.widened();
        }
        if let Some(until) = self.until {
            let left = until.saturating_duration_since(Instant::now());
            limits.wall_ms = limits.wall_ms.min(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
        }
        let options = &self.claim.job.options;
        // a remote object's bytes are counted where they come in
        if self.input.remote().is_none() {
            let spent = self.pace.bytes_read();
            limits.read_bytes = options.budget.max_read_bytes.map(|most| most.saturating_sub(spent));
        }
        Ok(Probe {
            input: self.input.for_jail()?,
            profile,
            accept: options.accept.clone(),
            limits,
            cancel: self.cancel.clone(),
            bytes_read: self.pace.counter(),
        })
    }

    /// A deadline that came from the job's own budget is the budget's.
    fn blame_budget(&self, failure: &mut Failure) {
        if failure.code == FailureCode::DeadlineExceeded && self.until.is_some_and(|until| Instant::now() >= until) {
            *failure = out_of_time();
        }
    }

    /// Every packet of the input, in one pass.
    async fn packets(&self, streams: &[StreamInfo], run: &mut Run, found: &mut Found) {
        let mut scan = packets::Scan::new(streams);
        let mut sink = |bytes: &[u8]| {
            scan.push(bytes);
            if let Some(position) = scan.end_bytes() {
                self.pace.at(position);
            }
            ControlFlow::Continue(())
        };
        let probe = match self.probe(Profile::Packets) {
            Ok(probe) => probe,
            Err(failure) => return run.outcome = Err(failure),
        };
        let scanned = self.ffprobe.scan(&probe, &packets::arguments(), &mut sink).await;
        if take_in(run, scanned, found) {
            let (packets, series): (Packets, Vec<Series>) = scan.finish(self.input.size);
            found.packets = Some(packets);
            found.series = series;
        }
    }

    /// Some frames of one video stream, decoded.
    async fn frames(&self, plan: &Plan, run: &mut Run, found: &mut Found) {
        let mut text = Vec::new();
        // bounded by the limit on output, which ends the run
        let mut sink = |bytes: &[u8]| {
            text.extend_from_slice(bytes);
            ControlFlow::Continue(())
        };
        let probe = match self.probe(Profile::Frames) {
            Ok(probe) => probe,
            Err(failure) => return run.outcome = Err(failure),
        };
        let arguments = plan.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let scanned = self.ffprobe.scan(&probe, &arguments, &mut sink).await;
        if !take_in(run, scanned, found) {
            return;
        }
        let plan = plan.clone();
        let read = tokio::task::spawn_blocking(move || plan.read(&String::from_utf8_lossy(&text)));
        match read.await {
            Ok(Ok(frames)) => found.frames = Some(frames),
            Ok(Err(error)) => run.outcome = Err(unreadable(&error)),
            Err(_) => run.outcome = Err(unreadable(&"reading it broke off")),
        }
    }

    /// How the result came about. Nothing in it names this machine's files or the client's secrets.
    fn provenance(&self, run: &Run, scan_arguments: Option<&[String]>) -> serde_json::Value {
        let worker = &self.worker.identity;
        let mut provenance = json!({
            "ffprobe_version": self.ffprobe.version(),
            "arguments": run.arguments,
            "bytes_read": run.usage.bytes_read,
            "wall_ms": run.usage.wall_ms,
            "cpu_ms": run.usage.cpu_ms,
            "peak_memory_bytes": run.usage.peak_memory_bytes,
            "worker": worker.name,
            "worker_version": worker.version,
        });
        if let Some(arguments) = scan_arguments {
            provenance["scan_arguments"] = json!(arguments);
        }
        if let Some(account) = self.input.account() {
            provenance["remote"] = json!(account);
        }
        provenance
    }
}

/// Adds a scan to the run before it. Tells whether it came to its end.
fn take_in(run: &mut Run, scan: Scan, found: &mut Found) -> bool {
    run.usage = run.usage.and_then(scan.usage);
    run.degraded |= scan.degraded;
    run.warnings.extend(scan.warnings.into_iter().filter(|w| !run.warnings.contains(w)).collect::<Vec<_>>());
    run.warnings.truncate(super::MAX_WARNINGS);
    found.scan_arguments = Some(scan.arguments);
    match scan.outcome {
        Ok(()) => true,
        Err(failure) => {
            run.stderr_tail = scan.stderr_tail;
            run.outcome = Err(failure);
            false
        }
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(FailureCode::UnreadableOutput, format!("ffprobe's answer could not be read: {error}."))
}

/// What the media's own headers say of a whole file goes into its description.
pub(super) fn complete(container: &mut shared::media::Container, completeness: Option<&Completeness>) {
    if let Some(seen) = completeness {
        container.faststart = seen.faststart;
        container.fragmented = seen.fragmented;
    }
}
