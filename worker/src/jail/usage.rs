//! What a run cost: read from `/proc` while it runs and from its zombie before it is reaped. Pure reading; called by
//! [`super::process`] only.

use std::time::Duration;

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::kernel::Spent;

/// What a run cost. Null where the kernel did not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Time from start to end, in milliseconds.
    pub wall_ms: u64,
    /// Processor time, user and system, in milliseconds; the launcher's share (about 2 ms) included.
    pub cpu_ms: Option<u64>,
    /// Largest resident memory, in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// Most memory of its control group, in bytes: what it took itself and the kernel's cache of the files it read.
    #[serde(default)]
    pub group_peak_bytes: Option<u64>,
    /// Bytes read from files. A dynamically linked ffprobe reads about 0.2 MB of its libraries besides the input.
    pub bytes_read: Option<u64>,
}

impl Usage {
    /// The cost of two runs, one after the other.
    #[must_use]
    pub fn and_then(self, next: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a? + b?);
        Self {
            wall_ms: self.wall_ms + next.wall_ms,
            cpu_ms: sum(self.cpu_ms, next.cpu_ms),
            peak_memory_bytes: self.peak_memory_bytes.max(next.peak_memory_bytes),
            group_peak_bytes: self.group_peak_bytes.max(next.group_peak_bytes),
            bytes_read: sum(self.bytes_read, next.bytes_read),
        }
    }
}

/// Watches one process.
#[derive(Debug)]
pub(super) struct Meter {
    pid: Pid,
    /// The worker's own largest size when it spawned the process. posix_spawn lends the child the parent's memory until
    /// it execs, and the kernel counts that as the child's: a peak below this says nothing.
    lent: Option<u64>,
    peak_memory_bytes: Option<u64>,
    bytes_read: Option<u64>,
}

impl Meter {
    /// A meter for a process just spawned.
    pub(super) fn new(pid: Pid) -> Self {
        Self { pid, lent: peak_of("self"), peak_memory_bytes: None, bytes_read: None }
    }

    /// Looks once. Returns the bytes read so far.
    pub(super) fn sample(&mut self) -> Option<u64> {
        let pid = self.pid.to_string();
        self.peak_memory_bytes = peak_of(&pid).max(self.peak_memory_bytes);
        self.bytes_read = field(&format!("/proc/{pid}/io"), "rchar:").or(self.bytes_read);
        self.bytes_read
    }

    /// The sum, from the last sample and what the kernel says of the zombie.
    pub(super) fn total(mut self, wall: Duration, spent: Option<Spent>) -> Usage {
        self.sample(); // a zombie has no memory any more, but still its I/O counters
        let told = spent.map(|s| s.peak_memory_bytes).filter(|peak| Some(*peak) > self.lent);
        Usage {
            wall_ms: millis(wall),
            cpu_ms: spent.map(|s| millis(s.cpu)),
            peak_memory_bytes: told.or(self.peak_memory_bytes),
            group_peak_bytes: None,
            bytes_read: self.bytes_read,
        }
    }
}

fn peak_of(pid: &str) -> Option<u64> {
    field(&format!("/proc/{pid}/status"), "VmHWM:").map(|kib| kib * 1024)
}

/// The number after `name` in a file of `/proc`.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
