//! One process of ours under test: started, listened to, signalled, and never left behind.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest wait for a line of the log or for an end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running process. Killed when dropped.
pub struct Program {
    name: String,
    child: Child,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Program {
    /// Starts `binary` with nothing but `environment` (and PATH) around it.
    pub fn start(name: &str, binary: &Path, arguments: &[&str], environment: &[(String, String)]) -> Self {
        let mut child = Command::new(binary)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var("PATH").expect("PATH is set"))
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{} starts: {e}", binary.display()));
        let log = Arc::new(Log::default());
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for stream in streams {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    log.lines.lock().expect("no panic").push(line);
                    log.more.notify_all();
                }
            });
        }
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a log line whose `message` is `message` and returns it.
    pub fn wait_for_line(&mut self, message: &str) -> Value {
        self.wait_for(|line| serde_json::from_str::<Value>(line).ok().filter(|l| l["message"] == message), message)
    }

    /// Waits for the first line that `find` makes something of.
    pub fn wait_for<T>(&mut self, find: impl Fn(&str) -> Option<T>, what: &str) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            let lines = self.log.lines.lock().expect("no panic");
            if let Some(found) = lines[seen..].iter().find_map(|l| find(l)) {
                return found;
            }
            seen = lines.len();
            let (lines, _) = self.log.more.wait_timeout(lines, Duration::from_millis(100)).expect("no panic");
            drop(lines);
            if let Some(status) = self.child.try_wait().expect("can be asked") {
                std::thread::sleep(Duration::from_millis(100));
                if !self.log.lines.lock().expect("no panic")[seen..].iter().any(|l| find(l).is_some()) {
                    panic!("{} ended with {status} before '{what}':\n{}", self.name, self.log());
                }
            }
            assert!(Instant::now() < deadline, "{}: no '{what}' within {PATIENCE:?}:\n{}", self.name, self.log());
        }
    }

    /// Everything it wrote so far.
    pub fn log(&self) -> String {
        self.log.lines.lock().expect("no panic").join("\n")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("not 0");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_at_most(PATIENCE)
    }

    /// Waits for the end of one that may take longer, or shall be quicker, than others.
    pub fn wait_at_most(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not end within {patience:?}:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it to end and waits until it did, well.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{} ended with {status}:\n{}", self.name, self.log());
    }

    /// Kills it without a word.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// The most resident memory it ever had, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is there");
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("has memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }
}

/// Processor time that a process took itself, collected or not.
pub fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    let fields = stat.rsplit_once(") ").expect("a name").1.split(' ').skip(11).take(2);
    // ticks of 10 ms on every Linux of today
    fields.map(|ticks| Duration::from_millis(10 * ticks.parse::<u64>().expect("a number"))).sum()
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.name, self.log());
        }
    }
}
