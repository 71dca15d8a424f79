//! The worker: claims jobs and runs ffprobe on them in a jail; as relay it sends tickets for due jobs; as upkeep it
//! takes jobs from dead workers; as deliver it publishes events and sends them to webhooks. Any number of processes in any mix
//! of roles may run.

pub mod claim;
pub mod deliver;
pub mod ffprobe;
pub mod jail;
pub mod keep;
pub mod metrics;
pub mod probe;
pub mod publish;
pub mod registry;
pub mod relay;
pub mod rounds;
pub mod settings;
pub mod slots;
pub mod source;
pub mod upkeep;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use shared::id::{InstallationId, WorkerId};
use shared::job::Lane;
use shared::queue::{Bell, Queue};
use shared::sealed::KeyRing;
use shared::storage::Storage;
use shared::store::Pool;
use shared::store::job::lease::Claimant;
use shared::store::worker::{Condition, NewWorker};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ffprobe::Ffprobe;
use crate::jail::Overrides;
use crate::metrics::Metrics;
use crate::settings::{ResourceRetry, Role};
use crate::slots::Slots;
use crate::source::MediaRoots;
use crate::source::remote::Remotes;

/// Bells a slow task may fall behind before it looks at the database instead.
const BELLS: usize = 1_024;
/// Longest look at a mount; a dead one would hang for ever.
const MOUNT_PATIENCE: Duration = Duration::from_secs(2);
/// What relay, upkeep and the rest get to end once the worker drains. They do within moments, unless a server hangs.
const PARTS_END: Duration = Duration::from_secs(5);
/// What jobs get to stop and be handed back once the grace is over.
const HAND_BACK: Duration = Duration::from_secs(5);

/// Everything the parts of a worker process share.
pub struct Worker {
    /// This run of the process, as the registry shows it.
    pub identity: NewWorker,
    /// What it takes part in.
    pub roles: Vec<Role>,
    /// PostgreSQL.
    pub db: Pool,
    /// Redis.
    pub queue: Queue,
    /// Whose jobs these are.
    pub installation: InstallationId,
    /// The upload volume.
    pub storage: Storage,
    /// How long a complete upload is kept after its last job.
    pub upload_retention: Duration,
    /// How long events are kept.
    pub event_retention: Duration,
    /// Configured media roots; those mounted are in `condition`.
    pub roots: MediaRoots,
    /// How it reads what lies elsewhere.
    pub remotes: Remotes,
    /// Deliveries it sends at once.
    pub deliver_slots: usize,
    /// What clients reach the API by, without a trailing slash; empty for relative links.
    pub base_url: String,
    /// For what is encrypted at rest.
    pub keys: KeyRing,
    /// How to run ffprobe; none without the probe role.
    pub ffprobe: Option<Ffprobe>,
    /// Oldest result that another job may take.
    pub reuse_max_age: Duration,
    /// What happens to a job that met a limit of the jail.
    pub resource_retry: ResourceRetry,
    /// What the operator changed of the limits.
    pub limits: Overrides,
    /// Lanes it serves; none without the probe role.
    pub lanes: Vec<Lane>,
    /// How many jobs it runs at once.
    pub slots: Slots,
    /// How long it holds a job without a sign of life.
    pub lease: Duration,
    /// What it can reach right now.
    pub condition: RwLock<Condition>,
    /// Running jobs.
    pub jobs: TaskTracker,
    /// Take no new jobs.
    pub draining: CancellationToken,
    /// Stop the running ones and hand them back.
    pub kill: CancellationToken,
    /// Everything the doorbell says.
    pub bells: broadcast::Sender<Bell>,
    /// Whether the doorbell is heard now.
    pub hearing: watch::Sender<bool>,
    /// Counters.
    pub metrics: Metrics,
}

impl Worker {
    /// Its id.
    pub fn id(&self) -> WorkerId {
        self.identity.id
    }

    /// Who claims, with what it can reach right now.
    pub fn claimant(&self) -> Claimant {
        let now = self.condition.read().unwrap_or_else(PoisonError::into_inner);
        Claimant {
            id: self.id(),
            name: self.identity.name.clone(),
            media_roots: now.media_roots.clone(),
            has_uploads: now.has_uploads,
            s3_profiles: self.identity.s3_profiles.clone(),
            lease: self.lease,
        }
    }

    /// Whether the upload volume is there at this moment.
    pub async fn sees_uploads(&self) -> bool {
        let (storage, installation) = (self.storage.clone(), self.installation);
        let look = tokio::task::spawn_blocking(move || storage.belongs_to(installation));
        matches!(tokio::time::timeout(MOUNT_PATIENCE, look).await, Ok(Ok(true)))
    }

    /// Rings; a bell that cannot be rung costs its listeners a second.
    pub async fn ring(&self, bell: Bell) {
        if let Err(error) = self.queue.ring(bell).await {
            tracing::debug!(%error, "bell not rung; listeners look once a second");
        }
    }
}

/// A channel for bells, made before the worker so that nobody misses the first one.
pub fn bells() -> broadcast::Sender<Bell> {
    broadcast::channel(BELLS).0
}

/// Works until `draining` is canceled, with `entry` as its row in the registry, then finishes what runs within `grace` and hands back the rest.
pub async fn run(
    worker: Arc<Worker>,
    entry: registry::Entry,
    retention: Duration,
    grace: Duration,
) -> anyhow::Result<()> {
    let mut parts = JoinSet::new();
    let background = [
        tokio::spawn(shared::queue::listen(worker.queue.clone(), worker.bells.clone(), worker.hearing.clone())),
        tokio::spawn(registry::run(Arc::clone(&worker), entry)),
    ];
    for role in &worker.roles {
        match role {
            Role::Probe => {
                for lane in &worker.lanes {
                    parts.spawn(claim::tickets(Arc::clone(&worker), *lane));
                    parts.spawn(claim::overdue(Arc::clone(&worker), *lane));
                }
            }
            Role::Relay => {
                parts.spawn(relay::run(Arc::clone(&worker)));
            }
            Role::Upkeep => {
                parts.spawn(upkeep::run(Arc::clone(&worker), retention));
            }
            Role::Deliver => {
                parts.spawn(publish::run(Arc::clone(&worker)));
                parts.spawn(deliver::run(Arc::clone(&worker)));
            }
        }
    }
    let mut outcome = Ok(());
    tokio::select! {
        ended = all_end(&worker, &mut parts) => outcome = ended,
        () = overstay(&worker) => {
            tracing::warn!(parts = parts.len(), "something hangs, perhaps PostgreSQL; not waiting for it");
            parts.shutdown().await;
        }
    }
    worker.jobs.close();
    tracing::info!(jobs = worker.jobs.len(), grace_seconds = grace.as_secs(), "draining");
    if tokio::time::timeout(grace, worker.jobs.wait()).await.is_err() {
        tracing::warn!(jobs = worker.jobs.len(), "the grace is over; running jobs go back to the queue");
        worker.kill.cancel();
        if tokio::time::timeout(HAND_BACK, worker.jobs.wait()).await.is_err() {
            tracing::error!(
                jobs = worker.jobs.len(),
                "jobs could not be handed back; their leases run out by themselves"
            );
        }
    }
    background.iter().for_each(tokio::task::JoinHandle::abort);
    registry::sign_off(&worker).await;
    outcome
}

/// Waits for the end of every part; each ends by itself once draining begins.
async fn all_end(worker: &Worker, parts: &mut JoinSet<()>) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    while let Some(ended) = parts.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a part of the worker died; stopping so that a fresh process can take over");
            worker.draining.cancel();
            outcome = Err(anyhow::Error::new(error).context("a part of the worker died"));
        }
    }
    outcome
}

/// Waits until every part should have ended.
async fn overstay(worker: &Worker) {
    worker.draining.cancelled().await;
    tokio::time::sleep(PARTS_END).await;
}
