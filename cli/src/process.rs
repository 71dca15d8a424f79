//! Children that die with us: how `probectl` starts, stops and restarts other programs.
//!
//! Called by `private` (PostgreSQL and Redis) and `up` (API, worker, ffmpeg). A child gets an environment of named
//! variables only, its own process group (so Ctrl-C reaches us alone and we choose the order of stopping) and a
//! parent-death signal, so that even `kill -9` of us leaves nothing running.
//! It must never start a child that outlives the program, and never hand our whole environment on.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, getpid, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::time::timeout;

pub use rustix::process::Signal;

/// The user a child runs as when we are root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id; the only group the child has.
    pub gid: u32,
}

/// A command whose child gets `PATH` and nothing else of our environment, runs as `identity`, and receives `death`
/// when we die. Start it with [`spawn`], nowhere else.
pub fn command(program: impl AsRef<OsStr>, identity: Option<Identity>, death: Signal) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).current_dir("/").env_clear().envs(inherited(&["PATH"])).process_group(0);
    if let Some(identity) = identity {
        // The standard library drops all other groups as well when a root process gives a uid.
        command.uid(identity.uid).gid(identity.gid);
    }
    die_with_parent(&mut command, death);
    command
}

/// Those of our environment's variables that are named here and set. They are passed on as they are: settings of our
/// own come through clap in `main`.
#[expect(clippy::disallowed_methods, reason = "hands variables on to children and reads no setting of ours")]
pub fn inherited(names: &[&str]) -> Vec<(OsString, OsString)> {
    names.iter().filter_map(|name| env::var_os(name).map(|value| (OsString::from(name), value))).collect()
}

#[expect(unsafe_code, reason = "the death signal is set between fork and exec: a change of user clears it earlier")]
fn die_with_parent(command: &mut Command, death: Signal) {
    let parent = getpid();
    // SAFETY: the closure makes two system calls and allocates nothing, so it is sound between fork and exec.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(death))?;
            // The parent may have died before the line above; then no signal would ever come.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
        });
    }
}

struct Request {
    command: Command,
    runtime: Handle,
    reply: mpsc::Sender<io::Result<Child>>,
}

/// The kernel sends the death signal when the *thread* that started the child ends, not the process. Runtime workers
/// and test threads come and go, so one thread that never ends starts every child.
static STARTER: LazyLock<io::Result<mpsc::Sender<Request>>> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel::<Request>();
    thread::Builder::new().name("starter".to_owned()).spawn(move || {
        for Request { mut command, runtime, reply } in receiver {
            let _runtime = runtime.enter();
            // The caller waits for this answer, so the receiving end is always there.
            let _ = reply.send(command.spawn());
        }
    })?;
    Ok(sender)
});

/// Starts the child. Blocks for the few milliseconds that fork and exec take, as `Command::spawn` does.
///
/// # Errors
/// What `Command::spawn` reports; also when the starter thread could not be made.
///
/// # Panics
/// Outside a tokio runtime: the runtime collects the child.
pub fn spawn(command: Command) -> io::Result<Child> {
    let starter = STARTER.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    let (reply, answer) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts programs has ended");
    starter.send(Request { command, runtime: Handle::current(), reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

/// Sends a signal unless the child was already collected; a child that is just gone is no error.
pub fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = child.id()
        && let Err(error) = signal_pid(pid, signal)
    {
        tracing::warn!(pid, %error, "could not signal a child");
    }
}

/// Sends a signal to a process that need not be our child; one that does not exist is no error.
///
/// # Errors
/// When the process is not ours to signal.
pub fn signal_pid(pid: u32, signal: Signal) -> io::Result<()> {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match kill_process(pid, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Stops a child: each signal in turn, with the time it has to take effect.
///
/// # Errors
/// When the child still runs after the last of them.
pub async fn stop(child: &mut Child, steps: &[(Signal, Duration)]) -> io::Result<ExitStatus> {
    for (step, patience) in steps {
        signal(child, *step);
        if let Ok(status) = timeout(*patience, child.wait()).await {
            return status;
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end after the last signal"))
}

/// A run shorter than this counts as a failure to start.
const SHORT_RUN: Duration = Duration::from_secs(10);
/// So many short runs in a row and we give up.
const SHORT_RUNS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Decides when a child that ended is started again, and when that is hopeless.
#[derive(Debug)]
pub struct Restarts {
    started: Instant,
    short_runs: u32,
    pause: Duration,
}

impl Restarts {
    /// For a child that was started just now.
    #[expect(clippy::new_without_default, reason = "it notes the time, so each one differs")]
    pub fn new() -> Self {
        Self { started: Instant::now(), short_runs: 0, pause: FIRST_PAUSE }
    }

    /// Notes that the child was started again.
    pub fn started(&mut self) {
        self.started = Instant::now();
    }

    /// Notes that the child ended: how long to wait before the next start, or None to give up.
    pub fn ended(&mut self) -> Option<Duration> {
        self.ended_after(self.started.elapsed())
    }

    fn ended_after(&mut self, run: Duration) -> Option<Duration> {
        if run >= SHORT_RUN {
            self.short_runs = 0;
            self.pause = FIRST_PAUSE;
            return Some(FIRST_PAUSE);
        }
        self.short_runs += 1;
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        (self.short_runs < SHORT_RUNS).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_short_runs_in_a_row_are_hopeless_and_a_long_one_forgives() {
        let mut restarts = Restarts::new();
        let short = Duration::from_secs(1);
        let pauses: Vec<_> = (0..4).map(|_| restarts.ended_after(short).expect("a pause").as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600]);
        assert_eq!(restarts.ended_after(SHORT_RUN), Some(FIRST_PAUSE));
        for _ in 0..4 {
            assert!(restarts.ended_after(short).is_some());
        }
        assert_eq!(restarts.ended_after(short), None);
    }

    #[tokio::test]
    async fn a_child_sees_only_what_it_was_given() {
        let mut shell = command("sh", None, Signal::KILL);
        shell.args(["-c", "env | cut -d= -f1 | sort | tr '\\n' ' '"]).env("GIVEN", "1").stdout(Stdio::piped());
        let output = spawn(shell).expect("sh").wait_with_output().await.expect("output");
        let names = String::from_utf8(output.stdout).expect("text");
        assert!(names.contains("GIVEN") && names.contains("PATH"), "{names}");
        assert!(!names.contains("CARGO"), "cargo's variables leaked: {names}");
    }

    #[tokio::test]
    async fn a_child_survives_the_thread_that_asked_for_it_and_ends_when_told() {
        let runtime = Handle::current();
        let asker = thread::spawn(move || {
            let _runtime = runtime.enter();
            let mut sleep = command("sleep", None, Signal::KILL);
            sleep.arg("60");
            spawn(sleep)
        });
        let mut child = asker.join().expect("thread").expect("sleep");
        assert!(timeout(Duration::from_millis(100), child.wait()).await.is_err(), "it died with the asking thread");
        let status = stop(&mut child, &[(Signal::TERM, Duration::from_secs(5))]).await.expect("stopped");
        assert!(!status.success());
    }
}
