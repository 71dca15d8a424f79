//! ffprobe: found once at start, then run once per probe in the jail, and a second time where the first video frame may
//! carry HDR metadata. Called by the worker's probe; it opens nothing itself (the input comes open from
//! [`crate::source`]) and normalises nothing (that is `shared::media`).

mod arguments;
mod first_frame;
mod formats;
mod index;
mod messages;
mod outcome;
mod program;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, bail};
use shared::job::{Accept, Failure, FailureCode, Profile};
use tokio_util::sync::CancellationToken;

pub use arguments::{INPUT, REMOTE_INPUT};

use crate::jail::{
    self, Ended, Ground, Input, JAIL, Launch, Limits, Optional, Order, Protections, Reach, Sandbox, Sink, Stdout, Usage,
};
use program::Program;

/// Most time the second run may take, whatever is left of the first.
const FIRST_FRAME_WITHIN: Duration = Duration::from_secs(20);

/// An ffprobe that was found to work, and how to run it.
#[derive(Debug, Clone)]
pub struct Ffprobe {
    program: Program,
    launcher: PathBuf,
    sandbox: Sandbox,
    optional: Optional,
}

/// One probe to be run.
#[derive(Debug)]
pub struct Probe {
    /// What is probed.
    pub input: Input,
    /// How deep to look.
    pub profile: Profile,
    /// Kinds of input taken besides audio and video.
    pub accept: Vec<Accept>,
    /// What it may use.
    pub limits: Limits,
    /// Ends it early.
    pub cancel: CancellationToken,
    /// Grows by the bytes read, while it runs.
    pub bytes_read: Arc<AtomicU64>,
}

impl Probe {
    /// A probe of a file with the limits of its profile, which nobody cancels.
    pub fn new(input: File, profile: Profile) -> Self {
        Self::of(Input::File(input), profile)
    }

    /// A probe with the limits of its profile, which nobody cancels.
    pub fn of(input: Input, profile: Profile) -> Self {
        let (limits, cancel, bytes_read) = (Limits::of(profile), CancellationToken::new(), Arc::default());
        Self { input, profile, accept: Vec::new(), limits, cancel, bytes_read }
    }
}

/// What ffprobe said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its JSON: `streams`, `chapters`, `programs`, `format`. The file's name in it is [`INPUT`].
    pub main: String,
    /// JSON with `frames`: one key frame of the first video stream that may be HDR. None if there is no such stream, or
    /// its frame could not be read (then `warnings` say so).
    pub first_frame: Option<String>,
}

/// A probe that is over, well or not.
#[derive(Debug)]
pub struct Run {
    /// What ffprobe said, or why it said nothing.
    pub outcome: Result<Report, Failure>,
    /// What it cost, both runs together.
    pub usage: Usage,
    /// The end of its standard error, for the log. It may name libraries of this machine: not for clients.
    pub stderr_tail: String,
    /// What it complained of: bounded, like lines counted, fit for clients.
    pub warnings: Vec<String>,
    /// Whether a limit bit, so that something may be missing although the probe succeeded.
    pub degraded: bool,
    /// The arguments of the main run.
    pub arguments: Vec<String>,
}

/// A scan that is over, well or not. What ffprobe wrote went to the sink.
#[derive(Debug)]
pub struct Scan {
    /// Whether ffprobe came to its end, or why not.
    pub outcome: Result<(), Failure>,
    /// What it cost.
    pub usage: Usage,
    /// The end of its standard error, for the log: not for clients.
    pub stderr_tail: String,
    /// What it complained of: bounded, like lines counted, fit for clients.
    pub warnings: Vec<String>,
    /// Whether a limit bit.
    pub degraded: bool,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Ffprobe {
    /// Finds ffprobe (at `path`, otherwise in the directories of `search`, which is `PATH`), asks its version and which
    /// files its loader needs. `launcher` is the worker's own binary: [`jail::own_launcher`].
    pub async fn detect(
        path: Option<&Path>,
        search: &OsStr,
        sandbox: Sandbox,
        launcher: &Path,
    ) -> anyhow::Result<Self> {
        let program = Program::find(path, search).await?;
        Ok(Self { program, launcher: launcher.to_owned(), sandbox, optional: Optional::default() })
    }

    /// The same, behind the walls that the operator asks for by name.
    #[must_use]
    pub fn behind(self, optional: Optional) -> Self {
        Self { optional, ..self }
    }

    /// Its version as it names it, such as `5.1.9-0+deb12u1`.
    pub fn version(&self) -> &str {
        &self.program.version
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.program.path
    }

    /// Probes one file. Dropping the future kills ffprobe.
    pub async fn run(&self, probe: Probe) -> Run {
        let mut run = self.describe(arguments::main(&probe), &probe).await;
        if run.outcome.as_ref().is_err_and(|f| f.code == FailureCode::InvalidMedia)
            && probe.accept.contains(&Accept::Text)
        {
            let before = run.usage;
            run = self.describe(arguments::text(&probe), &probe).await;
            run.usage = before.and_then(run.usage);
        }
        match &run.outcome {
            Ok(_) if probe.profile == Profile::Quick => {}
            Ok(report) => {
                if let Some(wanted) = first_frame::wanted(&report.main) {
                    self.add_first_frame(&mut run, &probe, &wanted).await;
                }
            }
            Err(f) if f.code == FailureCode::StorageError => {
                if let Input::File(file) = probe.input
                    && reads_well(file).await
                {
                    run.outcome = Err(outcome::ends_too_early());
                }
            }
            Err(_) => {}
        }
        run
    }

    /// One run that describes the file.
    async fn describe(&self, arguments: Vec<String>, probe: &Probe) -> Run {
        let shown = arguments::shown(&arguments, &probe.input);
        match self.launch(&arguments, probe, probe.limits, Stdout::Keep).await {
            Ok(ended) => {
                let outcome = outcome::judge(&ended);
                let lost = outcome.as_ref().ok().and_then(|main| index::lost(main, probe.limits.memory_bytes));
                let degraded = lost.is_some() || outcome::is_degraded(&ended.stderr);
                // the one thing that ffprobe itself says nothing of goes first: the list is bounded
                let warnings = lost.into_iter().chain(messages::warnings(&ended.stderr)).collect();
                let outcome = outcome.map(|main| Report { main, first_frame: None });
                Run { outcome, usage: ended.usage, warnings, degraded, stderr_tail: ended.stderr, arguments: shown }
            }
            Err(failure) => Run::not_started(failure, shown),
        }
    }

    /// Runs ffprobe with other words than a profile's: `show` says what it writes and how, and never comes from a client.
    /// Its output goes to `sink` while it runs, so memory stays flat; if the sink breaks off, the run ends with
    /// `output_limit`. Dropping the future kills ffprobe.
    pub async fn scan(&self, probe: &Probe, show: &[&str], sink: Sink<'_>) -> Scan {
        let arguments = arguments::scan(show, probe);
        let shown = arguments::shown(&arguments, &probe.input);
        match self.launch(&arguments, probe, probe.limits, Stdout::Stream(sink)).await {
            Ok(ended) => Scan {
                outcome: outcome::judge_scan(&ended),
                usage: ended.usage,
                warnings: messages::warnings(&ended.stderr),
                degraded: outcome::is_degraded(&ended.stderr),
                stderr_tail: ended.stderr,
                arguments: shown,
            },
            Err(failure) => {
                let run = Run::not_started(failure, shown);
                let Run { outcome, usage, stderr_tail, warnings, degraded, arguments } = run;
                Scan { outcome: outcome.map(drop), usage, stderr_tail, warnings, degraded, arguments }
            }
        }
    }

    /// The second run. Its failure costs only what it would have added, unless nobody wants the probe any more.
    async fn add_first_frame(&self, run: &mut Run, probe: &Probe, wanted: &first_frame::Wanted) {
        let left = probe.limits.wall_ms.saturating_sub(run.usage.wall_ms);
        let most = u64::try_from(FIRST_FRAME_WITHIN.as_millis()).unwrap_or(u64::MAX);
        let spent = run.usage.bytes_read.unwrap_or(0);
        let read_bytes = probe.limits.read_bytes.map(|most| most.saturating_sub(spent));
        let limits = Limits { wall_ms: left.min(most), read_bytes, ..probe.limits };
        let arguments = arguments::first_frame(wanted, probe);
        let ended = self.launch(&arguments, probe, limits, Stdout::Keep).await;
        let frame = ended.and_then(|ended| {
            run.usage = run.usage.and_then(ended.usage);
            run.degraded |= outcome::is_degraded(&ended.stderr);
            outcome::judge_frames(&ended)
        });
        match (frame, &mut run.outcome) {
            (Err(failure), outcome) if failure.code == FailureCode::Canceled => *outcome = Err(failure),
            (Err(failure), _) => {
                run.warnings.push(format!("The first video frame could not be read: {}", failure.message));
            }
            (Ok(frame), Ok(report)) => report.first_frame = Some(frame),
            (Ok(_), Err(_)) => {}
        }
    }

    async fn launch(
        &self,
        arguments: &[String],
        probe: &Probe,
        limits: Limits,
        stdout: Stdout<'_>,
    ) -> Result<Ended, Failure> {
        let order = self.order(limits, (&probe.input).into());
        let program = self.program.path.clone().into_os_string();
        let launch = Launch {
            launcher: &self.launcher,
            role: JAIL,
            order: &order,
            arguments: std::iter::once(program).chain(arguments.iter().map(OsString::from)).collect(),
            input: &probe.input,
            stdout,
            cgroup: self.optional.cgroup.as_ref(),
            cancel: &probe.cancel,
            bytes_read: &probe.bytes_read,
        };
        jail::run(launch).await.map_err(|error| {
            tracing::error!(launcher = %self.launcher.display(), %error, "ffprobe was not run");
            outcome::not_run(&error)
        })
    }

    fn order(&self, limits: Limits, reach: Reach) -> Order {
        let Self { program, sandbox, optional, .. } = self;
        let mut order = Order::new(*sandbox, limits, program.execute.clone(), program.read.clone(), reach);
        order.user = optional.user;
        order
    }

    /// Tries ffprobe and every wall of the jail on this machine. An error means that this worker must not start: ffprobe
    /// does not run in the jail, or a protection that `required` insists on does not hold.
    pub async fn canary(&self) -> anyhow::Result<Protections> {
        let dir = tempfile::tempdir().context("making a temporary directory for the canary (is TMPDIR writable?)")?;
        let path = dir.path().join("canary");
        File::create(&path).and_then(|mut f| f.write_all(&silence())).context("writing the canary's sound file")?;
        let open = || File::open(&path).context("opening the canary's sound file");
        let order = self.order(Limits::of(Profile::Standard), Reach::File);
        let cgroup = self.optional.cgroup.as_ref();
        let ground = Ground { launcher: &self.launcher, order, cgroup, dir: dir.path() };
        let protections = jail::try_walls(ground, open()?).await?;
        let missing = protections.missing(&self.optional);
        if self.sandbox == Sandbox::Required && !missing.is_empty() {
            bail!(
                "SANDBOX=required, but this machine lacks: {}. Use a newer kernel or container engine, or accept less with SANDBOX=best_effort.",
                missing.join("; ")
            );
        }
        let run = self.run(Probe::new(open()?, Profile::Standard)).await;
        match run.outcome {
            Ok(report) if report.main.contains("pcm_s16le") => Ok(protections),
            Ok(report) => bail!("{} takes a sound file for something else: {}", self.path().display(), report.main),
            Err(failure) => bail!(
                "{} does not run in the jail: {} {} If FFPROBE_PATH names a wrapper script, name the program itself; SANDBOX=off runs it without a jail.",
                self.path().display(),
                failure.message,
                run.stderr_tail.trim()
            ),
        }
    }
}

impl Run {
    pub(crate) fn not_started(failure: Failure, arguments: Vec<String>) -> Self {
        let (usage, stderr_tail) = (Usage::default(), String::new());
        Self { outcome: Err(failure), usage, stderr_tail, warnings: Vec::new(), degraded: false, arguments }
    }
}

/// Whether both ends of the file can be read. ffprobe's demuxers say "input/output error" of a file that merely ends
/// too early, so its word alone does not blame the storage.
async fn reads_well(file: File) -> bool {
    let read = move || -> std::io::Result<()> {
        let mut block = [0; 4096];
        let last = file.metadata()?.len().saturating_sub(block.len() as u64);
        for at in [0, last] {
            file.read_at(&mut block, at)?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(read).await.is_ok_and(|done| done.is_ok())
}

/// A WAV file: a tenth of a second of silence, 8 kHz, mono, 16 bit.
fn silence() -> Vec<u8> {
    const DATA_BYTES: u32 = 1600;
    let mut file = Vec::with_capacity(44 + DATA_BYTES as usize);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + DATA_BYTES).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0"); // 16 bytes follow: PCM, one channel,
    file.extend_from_slice(&8000_u32.to_le_bytes()); // samples a second,
    file.extend_from_slice(&16000_u32.to_le_bytes()); // bytes a second,
    file.extend_from_slice(b"\x02\0\x10\0data"); // 2 bytes and 16 bits a sample
    file.extend_from_slice(&DATA_BYTES.to_le_bytes());
    file.resize(44 + DATA_BYTES as usize, 0);
    file
}
