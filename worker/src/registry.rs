//! The worker's row in the registry: that it lives, what it can reach, how busy it is.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use shared::store;
use shared::store::worker::Condition;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout, timeout_at};

use crate::{MOUNT_PATIENCE, Worker};

/// How often the row is renewed; a worker counts as dead after three missed beats.
const BEAT: Duration = Duration::from_secs(5);
/// Longest time for the last word.
const SIGN_OFF: Duration = Duration::from_secs(2);

/// The upload volume among the looks; no root can have this name.
const UPLOADS: &str = "/uploads";

/// The worker's entry in the registry, and the looks at its mounts that have not come back yet.
#[derive(Default)]
pub struct Entry {
    looks: HashMap<String, JoinHandle<bool>>,
}

/// Renews the row until the task is aborted.
pub async fn run(worker: Arc<Worker>, mut entry: Entry) {
    let mut tick = interval(BEAT);
    let mut said = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            // said at once, so that the relay counts on this worker no longer
            () = worker.draining.cancelled(), if !said => said = true,
        }
        entry.beat(&worker).await;
    }
}

/// Removes the row; the process is about to end.
pub async fn sign_off(worker: &Worker) {
    match timeout(SIGN_OFF, store::worker::delete(&worker.db, worker.id())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "could not sign off; the registry forgets this worker by itself"),
        Err(_) => tracing::debug!("signing off took too long; the registry forgets this worker by itself"),
    }
}

impl Entry {
    /// One beat: what can be reached now, and the row that says so.
    pub async fn beat(&mut self, worker: &Worker) {
        let now = self.look(worker).await;
        let before =
            std::mem::replace(&mut *worker.condition.write().unwrap_or_else(PoisonError::into_inner), now.clone());
        if before.media_roots != now.media_roots || before.has_uploads != now.has_uploads {
            tracing::info!(media_roots = ?now.media_roots, has_uploads = now.has_uploads, "what this worker can reach has changed");
        }
        match timeout(BEAT, store::worker::beat(&worker.db, &worker.identity, &now)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot write to the registry"),
            Err(_) => tracing::warn!("writing to the registry took too long"),
        }
    }

    /// Looks at all mounts at once and waits for all of them no longer than [`MOUNT_PATIENCE`].
    async fn look(&mut self, worker: &Worker) -> Condition {
        for name in worker.roots.names() {
            let roots = worker.roots.clone();
            self.begin(&name.clone(), move || roots.is_there(&name));
        }
        let (storage, installation) = (worker.storage.clone(), worker.installation);
        self.begin(UPLOADS, move || storage.belongs_to(installation));
        let deadline = Instant::now() + MOUNT_PATIENCE;
        let mut media_roots = Vec::new();
        for name in worker.roots.names() {
            if self.seen(&name, deadline).await {
                media_roots.push(name);
            }
        }
        let has_uploads = self.seen(UPLOADS, deadline).await;
        let busy = worker.slots.busy();
        worker.metrics.busy.set(i64::try_from(busy).unwrap_or(i64::MAX));
        let busy = i32::try_from(busy).unwrap_or(i32::MAX);
        Condition { busy, media_roots, has_uploads, draining: worker.draining.is_cancelled() }
    }

    /// Begins a look at a mount, off the runtime's threads, unless one is still under way: a dead mount costs one
    /// thread, not one a beat.
    fn begin(&mut self, mount: &str, look: impl FnOnce() -> bool + Send + 'static) {
        if !self.looks.contains_key(mount) {
            self.looks.insert(mount.to_owned(), tokio::task::spawn_blocking(look));
        }
    }

    /// What a look saw; one that does not come back in time sees nothing and is waited for again at the next beat.
    async fn seen(&mut self, mount: &str, deadline: Instant) -> bool {
        let Some(mut look) = self.looks.remove(mount) else { return false };
        match timeout_at(deadline, &mut look).await {
            Ok(seen) => seen.unwrap_or(false),
            Err(_) => {
                tracing::warn!(mount, "a mount does not answer");
                self.looks.insert(mount.to_owned(), look);
                false
            }
        }
    }
}
