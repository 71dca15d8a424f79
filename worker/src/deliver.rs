//! The deliverer: claims deliveries that are due, a few for each target and as many as there are slots, and sends them. Any
//! number of workers with the role `deliver` may run. A target that hangs holds a few slots for some seconds, then its
//! circuit is open; a tenant whose targets all hang holds half of the slots at most. It decides nothing about an answer: that
//! is `shared::delivery`.

mod address;
mod fault;
mod send;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::delivery::{self, Outcome};
use shared::error::Result;
use shared::id::{TenantId, WebhookId};
use shared::queue::Bell;
use shared::store::delivery::turn::{Claimed, Room};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::Worker;
use crate::metrics::Delivered;
use crate::rounds::{Rounds, Words};
use address::Addresses;
use fault::Faults;

/// How often what is due is looked for when no bell rings.
const TICK: Duration = Duration::from_millis(500);
/// How often deliverers that fell silent are looked for.
const TIDY_EVERY: Duration = Duration::from_secs(2);
/// How long a delivery is held: longer than its preparation, an attempt and its end can take.
const LEASE: Duration = Duration::from_secs(30);
/// What of the hold may have passed when it is sent. Later, somebody else might send it before the attempt has ended.
const PREPARATION: Duration = Duration::from_secs(8);
const _: () = assert!(PREPARATION.as_secs() + send::LONGEST.as_secs() < LEASE.as_secs());
/// Most deliveries on their way to one target, over all deliverers.
const PER_TARGET: i64 = 4;
/// What running deliveries get to end once the worker drains; those that do not are sent again.
const DRAIN: Duration = Duration::from_secs(4);
/// How often and how long apart the end of an attempt is tried to be written, while PostgreSQL is away: beyond the lease,
/// somebody else sends it again.
const WRITES: u32 = 5;
const WRITE_PAUSE: Duration = Duration::from_secs(1);
const WORDS: Words = Words {
    fails: "webhooks cannot be delivered; they are once PostgreSQL answers",
    works: "webhooks are delivered again",
};

/// Delivers until the worker drains.
pub async fn run(worker: Arc<Worker>) {
    let wakes = |bell| matches!(bell, Bell::Published);
    let mut rounds = Rounds::new(&worker, TICK, wakes, WORDS);
    let crew = Arc::new(Crew::new(&worker));
    let mut walk = Walk { place: None, tidied_at: None };
    loop {
        tokio::select! {
            goes_on = rounds.next() => if !goes_on { break },
            () = crew.freed.notified() => {}
        }
        rounds.hold(walk.round(&worker, &crew)).await;
    }
    crew.running.close();
    if timeout(DRAIN, crew.running.wait()).await.is_err() {
        tracing::warn!(deliveries = crew.running.len(), "some deliveries did not end in time; they are sent again");
    }
}

/// Those that send.
struct Crew {
    slots: usize,
    running: TaskTracker,
    /// How many run for each tenant.
    tenants: Mutex<HashMap<TenantId, usize>>,
    addresses: Addresses,
    faults: Faults,
    /// A slot is free, and there may be more for it.
    freed: Notify,
}

impl Crew {
    fn new(worker: &Worker) -> Self {
        Self {
            slots: worker.deliver_slots,
            running: TaskTracker::new(),
            tenants: Mutex::default(),
            addresses: Addresses::default(),
            faults: Faults::default(),
            freed: Notify::new(),
        }
    }

    fn free(&self) -> usize {
        self.slots.saturating_sub(self.running.len())
    }

    /// What may be claimed, if so many slots are free: half of all for one tenant at most.
    fn room(&self, free: usize) -> Room {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        Room {
            slots: count(free),
            per_tenant: count(self.slots.div_ceil(2)),
            running: tenants.iter().map(|(id, running)| (*id, count(*running))).collect(),
            per_target: PER_TARGET,
            lease: LEASE,
        }
    }

    fn begins(&self, tenant: TenantId) {
        *self.tenants.lock().unwrap_or_else(PoisonError::into_inner).entry(tenant).or_default() += 1;
    }

    fn ends(&self, tenant: TenantId) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = tenants.get_mut(&tenant) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                tenants.remove(&tenant);
            }
        }
    }
}

/// Where the walk over targets stands.
struct Walk {
    place: Option<WebhookId>,
    tidied_at: Option<Instant>,
}

impl Walk {
    /// Claims for every free slot, until the walk has seen every target once or there is no room.
    async fn round(&mut self, worker: &Arc<Worker>, crew: &Arc<Crew>) -> Result<()> {
        if self.tidied_at.is_none_or(|at| at.elapsed() >= TIDY_EVERY) {
            delivery::tidy(&worker.db).await?;
            self.tidied_at = Some(Instant::now());
        }
        let began_at = self.place;
        loop {
            let free = crew.free();
            if free == 0 {
                return Ok(());
            }
            let held_since = Instant::now();
            let found = delivery::claim(&worker.db, self.place, &crew.room(free)).await?;
            self.place = found.place;
            for claimed in found.claimed {
                let turn = Turn::take(crew, claimed.tenant);
                crew.running.spawn(deliver(Arc::clone(worker), turn, claimed, held_since));
            }
            match self.place {
                // from the middle of the list to its end: what lies before is seen in this round, too
                None if began_at.is_some() => {
                    crew.freed.notify_one();
                    return Ok(());
                }
                None => return Ok(()),
                Some(_) => {}
            }
        }
    }
}

/// The slot of one delivery, given back whatever happens to it.
struct Turn {
    crew: Arc<Crew>,
    tenant: TenantId,
}

impl Turn {
    fn take(crew: &Arc<Crew>, tenant: TenantId) -> Self {
        crew.begins(tenant);
        Self { crew: Arc::clone(crew), tenant }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.crew.ends(self.tenant);
        self.crew.freed.notify_one();
    }
}

/// Sends one delivery and writes how that ended.
async fn deliver(worker: Arc<Worker>, turn: Turn, claimed: Claimed, held_since: Instant) {
    let begun = Instant::now();
    let sent = send::attempt(&worker, &turn.crew, &claimed, held_since + PREPARATION).await;
    for number in 1..=WRITES {
        let written = match &sent {
            Ok(ended) => delivery::end(&worker.db, &claimed, ended, rand::random()).await,
            Err(unsent) => delivery::give_back(&worker.db, &claimed, *unsent).await,
        };
        match written {
            Ok(outcome) => return note(&worker, &claimed, outcome, begun),
            Err(error) if number == WRITES || begun.elapsed() > LEASE => {
                tracing::warn!(%error, delivery.id = %claimed.id, "a delivery could not be ended; it is sent again");
            }
            Err(_) => sleep(WRITE_PAUSE).await,
        }
    }
}

fn note(worker: &Worker, claimed: &Claimed, outcome: Outcome, begun: Instant) {
    let word = match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Again => "again",
        Outcome::Failed => "failed",
        Outcome::Disabled => "disabled",
        Outcome::Unsent => "unsent",
        Outcome::Canceled => "canceled",
        Outcome::Lost => "lost",
    };
    worker.metrics.delivered.get_or_create(&Delivered { outcome: word }).inc();
    worker.metrics.delivery_duration.observe(begun.elapsed().as_secs_f64());
    tracing::debug!(delivery.id = %claimed.id, webhook.id = %claimed.webhook, outcome = word, "delivery attempted");
    if outcome == Outcome::Disabled {
        tracing::info!(webhook.id = %claimed.webhook, tenant = %claimed.tenant, "a webhook was disabled");
    }
}
