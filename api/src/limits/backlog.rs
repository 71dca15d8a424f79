//! How many jobs of a tenant may wait. Counting them for every job would cost more than the job, so a process looks now and
//! then and hands out places: a hundredth of the limit for each look, and none that is older than a second. A tenant may so
//! go beyond its limit by that hundredth for each other API process, and falls short by jobs that are just being accepted.
//!
//! Taken by the routes that submit, retry, or begin an upload that wishes for a job; that job itself is always accepted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::access::Principal;
use shared::id::TenantId;
use shared::store::idempotency::Request;
use shared::{Code, Error, store};

use crate::App;

/// Most that a tenant may have waiting, whatever its row says: a look counts so many rows.
pub const MOST: u32 = 1_000_000;
/// How long a look is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// The part of the limit that one look hands out.
const SHARE: u32 = 100;
/// Tenants that are remembered.
const TENANTS: usize = 10_000;

/// What this process knows of the jobs that wait.
#[derive(Default)]
pub struct Backlog {
    tenants: Mutex<HashMap<TenantId, Arc<Tenant>>>,
}

#[derive(Default)]
struct Tenant {
    /// Places that were handed out and whose jobs may not be stored yet.
    taken: AtomicU32,
    /// One look at a time.
    look: tokio::sync::Mutex<Option<Look>>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    /// Jobs that fit in by this look.
    room: u32,
    /// Those of them that may be handed out before the next one.
    left: u32,
}

impl Look {
    fn new(counted: u32, taken: u32, most: u32, wanted: u32, at: Instant) -> Self {
        let room = most.saturating_sub(counted).saturating_sub(taken);
        Self { at, room, left: room.min((most / SHARE).max(wanted)) }
    }

    /// Whether it can decide: it is young, and has places left or none to give.
    fn decides(&self, wanted: u32, now: Instant) -> bool {
        now.duration_since(self.at) < BELIEVED && (self.left >= wanted || self.room < wanted)
    }

    fn take(&mut self, wanted: u32) -> bool {
        let fits = self.left >= wanted;
        if fits {
            self.left -= wanted;
            self.room -= wanted;
        }
        fits
    }
}

/// Places for jobs. Keep it until they are stored.
pub struct Places {
    tenant: Arc<Tenant>,
    count: u32,
}

impl Drop for Places {
    fn drop(&mut self) {
        self.tenant.taken.fetch_sub(self.count, Ordering::Relaxed);
    }
}

impl Backlog {
    fn tenant(&self, id: TenantId) -> Arc<Tenant> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= TENANTS && !tenants.contains_key(&id) {
            // what nobody uses is only a look that can be taken again
            tenants.retain(|_, tenant| Arc::strong_count(tenant) > 1);
        }
        Arc::clone(tenants.entry(id).or_default())
    }
}

/// Takes places for so many jobs.
///
/// # Errors
/// `too_many_queued` if the tenant has no room for them.
pub async fn take(app: &App, who: &Principal, wanted: u32) -> Result<Places, Error> {
    let most = who.limits.max_queued.unwrap_or(app.limits.queued_jobs).min(MOST);
    let tenant = app.backlog.tenant(who.tenant);
    let mut look = tenant.look.lock().await;
    let mut now = match *look {
        Some(look) if look.decides(wanted, Instant::now()) => look,
        _ => {
            // before the count: a job that is stored meanwhile is counted twice rather than not at all
            let (at, taken) = (Instant::now(), tenant.taken.load(Ordering::Relaxed));
            let counted = store::job::count_queued(&app.db, who.tenant, most).await?;
            Look::new(counted, taken, most, wanted, at)
        }
    };
    let fits = now.take(wanted);
    *look = Some(now);
    if !fits {
        drop(look);
        app.metrics.count_limited("queued");
        let detail = format!(
            "The tenant may have {most} jobs waiting, and has no room for {wanted} more. Wait until some have run, or cancel some."
        );
        return Err(Error::new(Code::TooManyQueued, detail));
    }
    // still under the lock, or the next look would miss it
    tenant.taken.fetch_add(wanted, Ordering::Relaxed);
    drop(look);
    Ok(Places { tenant, count: wanted })
}

/// Takes places for the jobs of a request that may be a repeated one: what was answered before needs none, and is answered again
/// however many wait.
///
/// # Errors
/// As [`take`].
pub async fn take_once(
    app: &App,
    who: &Principal,
    wanted: u32,
    request: Option<&Request>,
) -> Result<Option<Places>, Error> {
    match (take(app, who, wanted).await, request) {
        (Err(full), Some(again))
            if full.code() == Code::TooManyQueued
                && store::idempotency::find(&app.db, who.tenant, &again.key).await?.is_some() =>
        {
            Ok(None)
        }
        (places, _) => places.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_hands_out_a_share() {
        let now = Instant::now();
        let mut look = Look::new(40_000, 10, 100_000, 1, now);
        assert_eq!((look.room, look.left), (59_990, 1_000));
        assert!((0..1_000).all(|_| look.decides(1, now) && look.take(1)));
        assert!(!look.decides(1, now), "look again");
        let late = now + BELIEVED;
        assert!(!Look::new(0, 0, 100_000, 1, now).decides(1, late), "too old");
    }

    #[test]
    fn near_the_limit_it_hands_out_what_is_left() {
        let now = Instant::now();
        let mut look = Look::new(99_997, 0, 100_000, 1, now);
        assert!((0..3).all(|_| look.take(1)));
        assert!(look.decides(1, now) && !look.take(1), "full, without another look");
        let mut small = Look::new(3, 1, 10, 1, now);
        assert!(small.take(1) && !small.decides(1, now), "a small limit is looked at for every job");
        let mut many = Look::new(0, 0, 500, 400, now);
        assert!(many.take(400) && many.decides(400, now) && !many.take(400));
        assert!(!Look::new(u32::MAX, u32::MAX, 10, 1, now).take(1));
    }
}
