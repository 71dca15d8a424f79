//! Servers of an earlier run that still use our data, for example because we were killed a moment ago.
//!
//! Called by `private` before it starts a server; we hold the lock on the state directory, so nobody else starts one.
//! It must never signal a process that it has not recognised by name and by directory.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use crate::process::{Signal, signal_pid};

/// A server as the process list shows it.
pub(super) struct Trace<'a> {
    /// The program's name, such as `postgres`.
    pub(super) program: &'a str,
    /// Its working directory.
    pub(super) directory: &'a Path,
    /// A path in its command line: root in a container may read that of another user's process, not its directory.
    pub(super) argument: &'a Path,
}

impl Trace<'_> {
    /// Whether a process is one of the server's; false when there is no such process, or only its zombie.
    pub(super) fn fits(&self, pid: u32) -> bool {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        if read("comm").trim_ascii() != self.program.as_bytes() {
            return false;
        }
        match fs::read_link(format!("/proc/{pid}/cwd")) {
            Ok(directory) => directory == self.directory,
            Err(_) => {
                let wanted = self.argument.as_os_str().as_encoded_bytes();
                read("cmdline").windows(wanted.len()).any(|part| part == wanted)
            }
        }
    }

    fn pids(&self) -> Result<Vec<u32>> {
        let entries = fs::read_dir("/proc").context("could not list /proc")?;
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(numbers.filter(|pid| self.fits(*pid)).collect())
    }
}

/// After this long without effect the gentle signal is followed by the hard one, and then by an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ends what an earlier run left: `gentle` to the processes at the head, later `hard` to all.
pub(super) async fn clear(trace: &Trace<'_>, gentle: Signal, hard: Signal) -> Result<()> {
    let begun = Instant::now();
    let mut last = None;
    loop {
        let pids = trace.pids()?;
        if pids.is_empty() {
            return Ok(());
        }
        let due = if begun.elapsed() < PATIENCE { gentle } else { hard };
        if last != Some(due) {
            tracing::info!(program = trace.program, ?pids, "an earlier run's processes still end; waiting for them");
            for pid in &pids {
                // The head passes a gentle signal on in its own order.
                if due == hard || !pids.contains(&parent(*pid)) {
                    signal_pid(*pid, due).with_context(|| format!("could not stop {} {pid}", trace.program))?;
                }
            }
            last = Some(due);
        }
        if begun.elapsed() > PATIENCE * 2 {
            bail!(
                "{} of an earlier run (processes {pids:?}) still uses {} and does not end; end it, then start again",
                trace.program,
                trace.directory.display()
            );
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The parent's process id, 0 if the process is gone.
fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // "PID (NAME) STATE PARENT ...": the name may hold anything, so count from its end.
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok()).unwrap_or(0)
}
