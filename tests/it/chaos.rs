//! Nothing is lost, doubled or stuck, whatever goes wrong: storms of faults in random order over real processes, and the
//! silences that storms do not last long enough for. A storm's seed is printed; `CHAOS_SEED=… make chaos` or
//! `CHAOS_SEED=… cargo test chaos` repeats it. `bench/chaos.sh` runs the long one.

mod cast;
mod clients;
mod faults;
pub(crate) mod keeper;
mod redis;
mod silences;
mod storm;
mod verdict;

use std::time::Duration;

use storm::Plan;

/// A number from the environment.
fn asked(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}: '{text}' is not a whole number")))
}

fn seed() -> u64 {
    let from_clock = || chrono::Utc::now().timestamp_millis().unsigned_abs() % 1_000_000;
    asked("CHAOS_SEED").unwrap_or_else(from_clock)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_loses_doubles_and_leaves_nothing() {
    let plan = Plan {
        seed: seed(),
        jobs: 1_500,
        length: Duration::from_secs(32),
        lease: Duration::from_secs(5),
        redis_away: Duration::from_secs(4),
    };
    storm::rage(plan, verdict::judge).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make chaos"]
async fn a_long_storm_loses_doubles_and_leaves_nothing() {
    let seconds = asked("CHAOS_SECONDS").unwrap_or(300);
    let jobs = asked("CHAOS_JOBS").unwrap_or(seconds * 25);
    let plan = Plan {
        seed: seed(),
        jobs: usize::try_from(jobs).expect("fits"),
        length: Duration::from_secs(seconds),
        lease: Duration::from_secs(20),
        redis_away: Duration::from_secs(10),
    };
    storm::rage(plan, verdict::judge).await;
}
