//! How far an upload is: a line that is redrawn on a terminal, a plain line now and then elsewhere. `upload` makes one for a
//! file and gives each part sent side by side a share of it. Rate and time left are those of the last seconds.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::remark;

/// How often the line is redrawn on a terminal.
const REDRAW: Duration = Duration::from_millis(200);
/// How often a line is written elsewhere.
const PLAIN: Duration = Duration::from_secs(10);
/// The rate is that of so many latest looks.
const LOOKS: usize = 25;
/// Cells of the bar.
const CELLS: u64 = 24;

/// How far a file is.
pub struct Progress {
    name: String,
    total: u64,
    shares: Vec<Share>,
}

/// How far a part of it is, and where this run began.
#[derive(Debug, Clone, Default)]
pub struct Share {
    done: Arc<AtomicU64>,
    before: Arc<AtomicU64>,
}

impl Share {
    /// So many bytes were there when this run began.
    pub fn resume(&self, bytes: u64) {
        self.before.store(bytes, Ordering::Relaxed);
    }

    /// So many bytes are there.
    pub fn set(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes are there.
    pub fn get(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

impl Progress {
    /// Of a file of `total` bytes in `parts` parts.
    pub fn new(name: String, total: u64, parts: usize) -> Self {
        // a name may hold what moves the cursor
        let name = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        Self { name, total, shares: std::iter::repeat_with(Share::default).take(parts).collect() }
    }

    /// The share of a part.
    pub fn share(&self, part: usize) -> Share {
        self.shares.get(part).cloned().unwrap_or_default()
    }

    /// Shows it for as long as the future is polled.
    pub async fn draw(&self) -> Infallible {
        let pause = if stderr().is_terminal() { REDRAW } else { PLAIN };
        let mut looks = VecDeque::from([(Instant::now(), 0)]);
        loop {
            tokio::time::sleep(pause).await;
            looks.push_back((Instant::now(), self.sent()));
            while looks.len() > LOOKS {
                looks.pop_front();
            }
            let line = told(&self.name, self.done(), self.total, rate(&looks));
            if pause == REDRAW { self.redraw(&line) } else { remark(&line) }
        }
    }

    /// Removes the line, so that what follows begins at the left.
    pub fn end(&self) {
        if stderr().is_terminal() {
            self.redraw("");
        }
    }

    fn redraw(&self, line: &str) {
        let mut out = stderr();
        // back to the left, and erase what an older, longer line left there; a progress line that fails is no error
        let _ = write!(out, "\r\x1b[K{line}");
        let _ = out.flush();
    }

    fn done(&self) -> u64 {
        self.shares.iter().map(Share::get).sum()
    }

    fn sent(&self) -> u64 {
        self.shares.iter().map(|s| s.get().saturating_sub(s.before.load(Ordering::Relaxed))).sum()
    }
}

/// Bytes a second between the first and the last look.
fn rate(looks: &VecDeque<(Instant, u64)>) -> f64 {
    let (Some((from, first)), Some((to, last))) = (looks.front(), looks.back()) else { return 0.0 };
    last.saturating_sub(*first) as f64 / to.duration_since(*from).as_secs_f64().max(0.001)
}

fn told(name: &str, done: u64, total: u64, rate: f64) -> String {
    let share = |of: u64| u64::try_from(u128::from(done.min(total)) * u128::from(of) / u128::from(total.max(1)));
    let (cells, percent) = (share(CELLS).unwrap_or(0), share(100).unwrap_or(0));
    let bar: String = (0..CELLS).map(|cell| if cell < cells { '#' } else { '-' }).collect();
    let left = if rate < 1.0 { "no bytes pass".to_owned() } else { time_left(total.saturating_sub(done), rate) };
    format!("{name}: [{bar}] {percent} %  {} of {}  {}/s  {left}", size(done as f64), size(total as f64), size(rate))
}

fn time_left(bytes: u64, rate: f64) -> String {
    let seconds = (bytes as f64 / rate).ceil() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s left"),
        (0, m, s) => format!("{m} min {s} s left"),
        (h, m, _) => format!("{h} h {m} min left"),
    }
}

fn size(bytes: f64) -> String {
    match bytes {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{:.0} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.2} GB", b / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_long() {
        let line = told("a.mov", 25_000_000_000, 50_000_000_000, 1e8);
        assert_eq!(line, "a.mov: [############------------] 50 %  25.00 GB of 50.00 GB  100.0 MB/s  4 min 10 s left");
        assert!(told("a", 0, 10, 0.0).ends_with("0 B/s  no bytes pass"));
        assert!(told("a", u64::MAX, u64::MAX, 1.0).contains(" 100 % "));
        assert!(told("a", 0, 0, 5.0).contains(" 0 % "));
        assert_eq!(time_left(7_300, 1.0), "2 h 1 min left");
        assert_eq!(time_left(u64::MAX, 1.0).split(' ').count(), 5);
    }

    #[test]
    fn the_rate_counts_what_this_run_sent() {
        let progress = Progress::new("a\x1b[2J".into(), 100, 2);
        assert_eq!(progress.name, "a?[2J");
        progress.share(0).resume(40);
        progress.share(0).set(45);
        progress.share(1).set(3);
        assert_eq!((progress.done(), progress.sent()), (48, 8));
        let now = Instant::now();
        let looks = VecDeque::from([(now, 0), (now + Duration::from_secs(2), 8)]);
        assert_eq!(rate(&looks), 4.0);
    }
}
