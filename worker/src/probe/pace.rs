//! How far a running attempt is, for its beats: bytes, speed, percent, and why nothing moves. Written by
//! [`super::examine`], read by the beat. Never goes back within an attempt.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use shared::job::{Estimate, Profile, Progress};
use tokio::time::Instant;

use super::input::Input;
use crate::source::remote::{Remote, Stalled};

/// Percent at the most while work goes on: the last packet is not yet the result.
const ALMOST: f64 = 99.9;

/// How far an attempt is.
#[derive(Default)]
pub(super) struct Pace {
    begun: OnceLock<Begun>,
    /// Bytes read by all runs of ffprobe, counted by the jail.
    read: Arc<AtomicU64>,
    /// Where in the input the scan is.
    position: AtomicU64,
    shown: Mutex<Option<Shown>>,
}

struct Begun {
    total: u64,
    estimate: Estimate,
    remote: Option<Remote>,
}

/// What was shown last.
struct Shown {
    at: Instant,
    bytes: u64,
    percent: f64,
}

impl Pace {
    /// The input is open.
    pub(super) fn begin(&self, profile: Profile, input: &Input) {
        let begun =
            Begun { total: input.size, estimate: Estimate::of(profile, input.size), remote: input.remote().cloned() };
        // an attempt opens its input once
        let _ = self.begun.set(begun);
    }

    /// What runs of ffprobe count their bytes in.
    pub(super) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.read)
    }

    /// The scan has come this far into the input.
    pub(super) fn at(&self, position: u64) {
        self.position.fetch_max(position, Ordering::Relaxed);
    }

    /// Bytes read so far, by all runs.
    pub(super) fn bytes_read(&self) -> u64 {
        match self.begun.get().and_then(|b| b.remote.as_ref()) {
            Some(remote) => remote.account().bytes,
            None => self.read.load(Ordering::Relaxed),
        }
    }

    /// What a client sees now.
    pub(super) fn show(&self) -> Option<Progress> {
        let begun = self.begun.get()?;
        let (now, bytes) = (Instant::now(), self.bytes_read());
        let position = self.position.load(Ordering::Relaxed);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = match (position, begun.total) {
            (0, _) | (_, 0) => None,
            (position, total) => Some((position as f64 / total as f64 * 100.0).min(ALMOST)),
        };
        let last = shown.as_ref();
        let percent = percent.map(|p| last.map_or(p, |last| last.percent.max(p)));
        let bytes = last.map_or(bytes, |last| last.bytes.max(bytes));
        let rate = last.and_then(|last| {
            let seconds = (now - last.at).as_secs_f64();
            (seconds > 0.0).then(|| (bytes - last.bytes) as f64 / seconds)
        });
        *shown = Some(Shown { at: now, bytes, percent: percent.unwrap_or_default() });
        let remote = begun.remote.as_ref();
        let number = |n: u64| i64::try_from(n).ok();
        Some(Progress {
            bytes_read: number(bytes).filter(|n| *n > 0),
            bytes_total: number(begun.total),
            percent: percent.map(|p| p as f32),
            bytes_per_second: rate.map(|rate| rate as i64),
            stalled: match remote {
                Some(remote) => remote.progress().stalled.map(why),
                None => rate.filter(|rate| *rate == 0.0 && position > 0).map(|_| "The storage gives no bytes.".into()),
            },
            estimate: Some(begun.estimate),
        })
    }
}

fn why(stalled: Stalled) -> String {
    match stalled {
        Stalled::WaitingForAnswer => "Waiting for the server's answer.",
        Stalled::WaitingForBytes => "The server's answer began, and its bytes stopped coming.",
        Stalled::WaitingToRetry => "The server failed and is asked again in a moment.",
    }
    .to_owned()
}
