//! The worker's row in the registry: that it lives, what it can reach, how busy it is.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use shared::store;
use shared::store::worker::Condition;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

use crate::{MOUNT_PATIENCE, Worker};

/// How often the row is renewed; a worker counts as dead after three missed beats.
const BEAT: Duration = Duration::from_secs(5);
/// Longest time for the last word.
const SIGN_OFF: Duration = Duration::from_secs(2);

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
        if let Err(error) = store::worker::beat(&worker.db, &worker.identity, &now).await {
            tracing::warn!(%error, "cannot write to the registry");
        }
    }

    async fn look(&mut self, worker: &Worker) -> Condition {
        let mut media_roots = Vec::new();
        for name in worker.roots.names() {
            let roots = worker.roots.clone();
            if self
                .is_there(&name, {
                    let name = name.clone();
                    move || roots.is_there(&name)
                })
                .await
            {
                media_roots.push(name);
            }
        }
        let (storage, installation) = (worker.storage.clone(), worker.installation);
        // a name no root can have
        let has_uploads = self.is_there("/uploads", move || storage.belongs_to(installation)).await;
        let busy = worker.slots.busy();
        worker.metrics.busy.set(i64::try_from(busy).unwrap_or(i64::MAX));
        let busy = i32::try_from(busy).unwrap_or(i32::MAX);
        Condition { busy, media_roots, has_uploads, draining: worker.draining.is_cancelled() }
    }

    /// One look at a mount, off the runtime's threads. A look that hangs is waited for again at the next beat instead
    /// of starting another: a dead mount costs one thread, not one a beat.
    async fn is_there(&mut self, mount: &str, look: impl FnOnce() -> bool + Send + 'static) -> bool {
        let mut pending = self.looks.remove(mount).unwrap_or_else(|| tokio::task::spawn_blocking(look));
        match timeout(MOUNT_PATIENCE, &mut pending).await {
            Ok(seen) => seen.unwrap_or(false),
            Err(_) => {
                tracing::warn!(mount, "a mount does not answer");
                self.looks.insert(mount.to_owned(), pending);
                false
            }
        }
    }
}
