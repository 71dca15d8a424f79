//! Watches the children of a worker from outside: how much memory and processor time each ffprobe took at most. For
//! failed jobs nobody else tells.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Pause between two looks. What a process takes within less and gives back is not seen.
const PAUSE: Duration = Duration::from_millis(10);
/// Ticks a second of the kernel's accounts, the same on every Linux of today.
const TICKS: f64 = 100.0;

/// What one child took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cost {
    /// The most resident memory, in bytes.
    pub(super) peak_bytes: u64,
    /// Processor time in seconds.
    pub(super) cpu_seconds: f64,
}

/// A watch that runs until it is dropped.
pub(super) struct Watch {
    seen: Arc<Mutex<HashMap<u32, Cost>>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    /// Watches the children of this process.
    pub(super) fn over(parent: u32) -> Self {
        let (seen, over) = (Arc::new(Mutex::new(HashMap::new())), Arc::new(AtomicBool::new(false)));
        let (into, until) = (Arc::clone(&seen), Arc::clone(&over));
        std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                for pid in children(parent) {
                    if let Some(cost) = cost(pid) {
                        into.lock().expect("no panic").insert(pid, cost);
                    }
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { seen, over }
    }

    /// The most that any child took of each.
    pub(super) fn worst(&self) -> Cost {
        let seen = self.seen.lock().expect("no panic");
        seen.values().fold(Cost::default(), |worst, cost| Cost {
            peak_bytes: worst.peak_bytes.max(cost.peak_bytes),
            cpu_seconds: worst.cpu_seconds.max(cost.cpu_seconds),
        })
    }

    /// How many children were seen.
    pub(super) fn children(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// What a process took until now; none if it has ended.
fn cost(pid: u32) -> Option<Cost> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: u64 =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Cost { peak_bytes: kib * 1024, cpu_seconds: (user + system) / TICKS })
}
