//! The HTTP front: translates requests, checks rights, and leaves every decision about a job to `shared::lifecycle`.
//! It never runs ffprobe and never opens media.

pub mod audit;
pub mod auth;
pub mod client;
pub mod compression;
pub mod conditional;

pub mod cursor;
pub mod deprecation;
pub mod export;
pub mod extract;
pub mod given;
pub mod hold;
pub mod idempotency;
pub mod instant;
pub mod intake;
pub mod layers;
pub mod limits;
pub mod listen;
pub mod metrics;
pub mod openapi;
pub mod page;
pub mod preferences;
pub mod problem;
pub mod request_id;
pub mod routes;
pub mod settings;
pub mod streams;
pub mod waiting;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use shared::access::{Pepper, Principal};
use shared::config::S3Profile;
use shared::egress::Egress;
use shared::id::{JobId, TenantId};
use shared::job::Lane;
use shared::job::source::MediaRoot;
use shared::queue::{Bell, Queue, Sent};
use shared::sealed::KeyRing;
use shared::storage::Storage;
use shared::store::role::Privilege;
use shared::store::{self, Pool};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::recorder::Recorder;
use crate::auth::remembered::{Known, Remembered};
use crate::auth::roll::Roll;
use crate::auth::used::Used;
use crate::client::Gate;
use crate::hold::Holds;
use crate::intake::digests::Digests;
use crate::limits::Limiter;
use crate::limits::backlog::Backlog;
use crate::metrics::Metrics;
use crate::settings::Limits;
use crate::settings::tokens::Tokens;
use crate::streams::Streams;
use crate::waiting::Waiters;

/// Bells a slow task may fall behind before it looks at the database instead.
const BELLS: usize = 1_024;

/// Everything a handler may need.
pub struct App {
    /// PostgreSQL.
    pub db: Pool,
    /// Redis.
    pub queue: Queue,
    /// The upload volume.
    pub storage: Storage,
    /// All configured media roots; a tenant sees those granted to it.
    pub roots: Vec<MediaRoot>,
    /// Judges the URLs that clients name; the API itself fetches none.
    pub egress: Egress,
    /// S3 profiles that were set up.
    pub s3: Vec<S3Profile>,
    /// For what is encrypted at rest.
    pub keys: KeyRing,
    /// For checking keys.
    pub pepper: Pepper,
    /// For making and checking tokens.
    pub tokens: Tokens,
    /// Keys that were looked up lately.
    pub remembered: Remembered<Known>,
    /// Which keys there are, for addresses that guess.
    pub roll: Roll,
    /// Sessions that were looked up lately.
    pub sessions: Remembered<Arc<Principal>>,
    /// Keys that were used lately, on their way to the database.
    pub used: Used,
    /// Whom to believe about addresses, and whom to let in.
    pub gate: Gate,
    /// What clients reach us by, without a trailing slash; empty for relative links.
    pub base_url: String,
    /// Bounds.
    pub limits: Limits,
    /// Counts requests.
    pub limiter: Limiter,
    /// Knows about how many jobs wait.
    pub backlog: Backlog,
    /// Where batches are kept on their way in.
    pub spool_room: routes::batches::spool::Room,
    /// Looks at the upload volume for health checks.
    pub volume: routes::health::VolumeLook,
    /// Counters.
    pub metrics: Metrics,
    /// Audit events on their way to the database.
    pub audit: Recorder,
    /// What the database role of this process can do to the audit trail.
    pub privilege: Privilege,
    /// Requests that wait for a job.
    pub waiters: Waiters,
    /// Event streams that are open.
    pub streams: Streams,
    /// Uploads that requests of this process receive.
    pub holds: Holds,
    /// Digests of uploads that came this far through this process.
    pub digests: Digests,
    /// Work that outlives its request; finished before the process ends.
    pub background: TaskTracker,
    /// Canceled when the process is about to stop.
    pub draining: CancellationToken,
}

/// The whole service as a router.
pub fn router(app: Arc<App>) -> Router {
    let (router, _) = openapi::documented();
    layers::wrap(router.with_state(Arc::clone(&app)), app)
}

/// Serves until `app.draining` is canceled, then finishes open requests for at most `grace`.
pub async fn serve(app: Arc<App>, listener: TcpListener, grace: Duration) -> anyhow::Result<()> {
    let (bells, ears) = broadcast::channel(BELLS);
    let (hearing, _) = watch::channel(false);
    tokio::spawn({
        let (app, ears) = (Arc::clone(&app), bells.subscribe());
        async move { app.holds.run(ears).await }
    });
    tokio::spawn({
        let (app, ears) = (Arc::clone(&app), bells.subscribe());
        async move { app.remembered.run(ears).await }
    });
    tokio::spawn({
        let (app, ears) = (Arc::clone(&app), bells.subscribe());
        async move { app.sessions.run(ears).await }
    });
    tokio::spawn({
        let app = Arc::clone(&app);
        async move { app.used.run(&app.db).await }
    });
    tokio::spawn(streams::reader::run(Arc::clone(&app), bells.subscribe()));
    tokio::spawn(streams::rounds::run(Arc::clone(&app), bells.subscribe()));
    tokio::spawn(shared::queue::listen(app.queue.clone(), bells, hearing));
    tokio::spawn(intake::finish::run(Arc::clone(&app)));
    tokio::spawn(Recorder::run(Arc::clone(&app)));
    tokio::spawn({
        let app = Arc::clone(&app);
        async move { app.waiters.run(app.db.clone(), ears).await }
    });
    let draining = app.draining.clone();
    let server = listen::serve(listener, router(Arc::clone(&app)), draining.clone(), app.limits.connections);
    let hard_stop = async {
        draining.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        () = server => {}
        () = hard_stop => tracing::warn!(grace_seconds = grace.as_secs(), "some requests did not end in time; they are cut off"),
    }
    app.background.close();
    // what is left are tickets on their way to Redis, each bounded by its own second, and broken uploads to be erased
    if tokio::time::timeout(Duration::from_secs(2), app.background.wait()).await.is_err() {
        tracing::warn!("some tickets or erasures were left; the relay and upkeep take over");
    }
    app.used.finish(&app.db).await;
    app.audit.finish(&app.db, &app.metrics).await;
    Ok(())
}

impl App {
    /// Tells a worker of an accepted job, after the client was answered. On a busy queue, or without Redis, nothing is
    /// sent and the relay does it in its order.
    pub fn dispatch(self: &Arc<Self>, lane: Lane, job: JobId) {
        let app = Arc::clone(self);
        self.background.spawn(async move {
            // the mark comes first, as with the relay: a ticket without a mark would be sent twice, a mark without a
            // ticket is found and sent again
            match store::job::dispatch::mark_sent(&app.db, job).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, job.id = %job, "ticket not sent; the relay sends it");
                    return;
                }
            }
            let sent = app.queue.send(lane, job, app.limits.fast_path_window).await;
            if !matches!(sent, Ok(Sent::Sent)) {
                tracing::debug!(?sent, job.id = %job, "ticket not sent; the relay or a free worker takes over");
                if let Err(error) = store::job::dispatch::unmark(&app.db, &[job]).await {
                    tracing::debug!(%error, job.id = %job, "the mark stays; the ticket is sent again in some seconds");
                }
            }
        });
    }

    /// Forgets what is remembered of a tenant's keys and sessions, here at once and elsewhere by the bell; without Redis,
    /// elsewhere within the second that anything is remembered for.
    pub async fn forget_access(&self, tenant: TenantId) {
        self.remembered.forget(tenant);
        self.sessions.forget(tenant);
        self.ring(Bell::Access(tenant)).await;
    }

    /// Rings; a bell that cannot be rung costs its listeners a second.
    pub async fn ring(&self, bell: Bell) {
        if let Err(error) = self.queue.ring(bell).await {
            tracing::debug!(%error, "bell not rung; listeners look once a second");
        }
    }
}
