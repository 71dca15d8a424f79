//! What the user sees: answers on standard output, progress and remarks on standard error. The only place that prints.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How often a progress line is redrawn.
const REDRAW: Duration = Duration::from_millis(200);

/// Prints a line of the answer. A reader that has gone away (`| head`) is no error.
pub fn line(text: &str) {
    let _ = writeln!(stdout(), "{text}");
}

/// Prints JSON for people and programs.
pub fn json(value: &Value) {
    line(&format!("{value:#}"));
}

/// Prints a remark that is not part of the answer.
pub fn remark(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// A line that shows how far an upload is; silent when standard error is no terminal.
pub struct Progress {
    name: String,
    total: u64,
    done: u64,
    begun: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    /// Of `total` bytes.
    pub fn new(name: String, total: u64) -> Self {
        Self { name, total, done: 0, begun: Instant::now(), drawn: None }
    }

    /// So many bytes more.
    pub fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        let ended = self.done >= self.total;
        if !stderr().is_terminal() || (!ended && self.drawn.is_some_and(|at| at.elapsed() < REDRAW)) {
            return;
        }
        self.drawn = Some(Instant::now());
        let percent = self.done.saturating_mul(100).checked_div(self.total).unwrap_or(100);
        let rate = self.done as f64 / 1e6 / self.begun.elapsed().as_secs_f64().max(0.001);
        let end = if ended { "\n" } else { "" };
        let _ = write!(stderr(), "\r{}: {percent} %, {rate:.0} MB/s   {end}", self.name);
        let _ = stderr().flush();
    }
}
