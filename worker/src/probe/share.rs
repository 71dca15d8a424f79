//! Whether a job may take another's result: what its bytes and its look are, as one fingerprint. Called by
//! [`super::examine`] once the input is open; what follows for the job is `shared::lifecycle`'s.

use serde_json::json;
use sha2::{Digest, Sha256};
use shared::job::{Claim, ReuseOf};
use shared::lifecycle::Reuse;

use super::input::Input;
use crate::Worker;
use crate::ffprobe::Ffprobe;
use crate::metrics::Looked;

/// What a job that may share a result has to do.
pub(super) enum Share {
    /// Its own work, and nobody else's.
    Alone,
    /// Its own work, which others wait for.
    First,
    /// Nothing more here.
    Settled(Reuse),
}

/// Looks for the result of another job, if this one may take it.
pub(super) async fn share(worker: &Worker, ffprobe: &Ffprobe, claim: &Claim, input: &Input) -> Share {
    let options = &claim.job.options;
    let (Some(ReuseOf::Result), Some(identity)) = (options.reuse, &input.identity) else { return Share::Alone };
    let look = json!([
        identity,
        claim.job.profile,
        options.accept,
        options.frames,
        ffprobe.version(),
        worker.identity.version
    ]);
    let fingerprint = Sha256::digest(look.to_string()).into();
    let found = shared::lifecycle::reuse(&worker.db, claim, &fingerprint, &input.name, worker.reuse_max_age).await;
    let (word, share) = match found {
        Ok(Reuse::Run) => ("miss", Share::First),
        Ok(reuse @ Reuse::Taken(_)) => ("hit", Share::Settled(reuse)),
        Ok(reuse @ Reuse::Waits(_)) => ("wait", Share::Settled(reuse)),
        Ok(Reuse::NotOurs) => ("lost", Share::Settled(Reuse::NotOurs)),
        Err(error) => {
            tracing::warn!(%error, "no look for a result to share; the job is run");
            ("error", Share::Alone)
        }
    };
    worker.metrics.reuse.get_or_create(&Looked { outcome: word }).inc();
    share
}
