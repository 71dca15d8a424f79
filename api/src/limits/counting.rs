//! Who counts: Redis for all processes, or this process for itself while Redis is away. A few calls in a row that fail or
//! are slow open the circuit: from then on no request waits for Redis, until it has counted quickly again. Called by the
//! layer of limits. It refuses nothing by itself, and fails never: some count there always is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::Error;
use shared::limit::{Bucket, Ledger, Policy, Rate, Verdict, judge, network};

use super::{AUTHENTICATION, Rates};
use crate::App;

/// Calls in a row that fail before Redis counts as away: one that is slow may be our own fault.
const FAILURES: u32 = 3;
/// How often Redis is tried while it is away.
const LOOK: Duration = Duration::from_millis(500);
/// Buckets of a process in one generation, each about 100 bytes.
const LOCAL_BUCKETS: usize = 50_000;
/// Charged to see whether Redis counts: it may answer and refuse to write.
const TRIAL: Policy = Policy { name: "trial", rate: Rate { per_minute: Rate::MOST, burst: Rate::MOST } };

/// Counts requests.
pub struct Limiter {
    /// How often, as the settings say.
    pub rates: Rates,
    local: Mutex<Ledger>,
    spent: Mutex<HashMap<String, Instant>>,
    begun: Instant,
    failures: AtomicU32,
    away: AtomicBool,
}

impl Limiter {
    /// Nothing is counted yet.
    pub fn new(rates: Rates) -> Self {
        Self {
            rates,
            local: Mutex::new(Ledger::new(LOCAL_BUCKETS)),
            spent: Mutex::default(),
            begun: Instant::now(),
            failures: AtomicU32::new(0),
            away: AtomicBool::new(false),
        }
    }

    /// Charges a request to all buckets, or to none if one does not take it. Without buckets nobody is asked.
    pub(super) async fn charge(&self, app: &Arc<App>, buckets: &[Bucket]) -> Vec<Verdict> {
        let verdicts = self.count(app, buckets).await;
        for (bucket, verdict) in buckets.iter().zip(&verdicts) {
            if verdict.policy.name == AUTHENTICATION && verdict.remaining == 0 {
                self.spend(&bucket.of, Instant::now() + verdict.retry_after);
            }
        }
        verdicts
    }

    /// How long an address is still without credentials that may be refused, as far as this process knows.
    pub fn spent(&self, address: IpAddr) -> Option<Duration> {
        let until = self.spent.lock().unwrap_or_else(PoisonError::into_inner).get(&network(address)).copied()?;
        until.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())
    }

    fn spend(&self, of: &str, until: Instant) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() >= LOCAL_BUCKETS {
            let now = Instant::now();
            spent.retain(|_, until| *until > now);
        }
        if spent.len() >= LOCAL_BUCKETS {
            spent.clear();
        }
        spent.insert(of.to_owned(), until);
    }

    async fn count(&self, app: &Arc<App>, buckets: &[Bucket]) -> Vec<Verdict> {
        if buckets.is_empty() {
            return Vec::new();
        }
        if !self.away.load(Ordering::Relaxed) {
            match app.queue.charge(buckets).await {
                Ok(fills) => {
                    self.failures.store(0, Ordering::Relaxed);
                    return judge(buckets, &fills);
                }
                Err(error) => self.note(app, &error),
            }
        }
        let now = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let fills = self.local.lock().unwrap_or_else(PoisonError::into_inner).charge(buckets, now);
        judge(buckets, &fills)
    }

    /// A call failed; after some, this process counts by itself, and a task of its own looks for Redis.
    fn note(&self, app: &Arc<App>, error: &Error) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if failures < FAILURES || self.away.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(%error, "Redis does not count requests; until it does, each API process limits by itself");
        app.metrics.limits_local.set(1);
        tokio::spawn(look_out(Arc::clone(app)));
    }

    fn come_back(&self) {
        self.local.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.failures.store(0, Ordering::Relaxed);
        self.away.store(false, Ordering::Relaxed);
    }
}

/// Waits until Redis counts again.
async fn look_out(app: Arc<App>) {
    let trial = [Bucket { policy: TRIAL, of: String::new() }];
    while app.queue.charge(&trial).await.is_err() {
        tokio::select! {
            () = app.draining.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    app.limiter.come_back();
    app.metrics.limits_local.set(0);
    tracing::info!("Redis counts requests again");
}
