//! Results of several jobs for one answer, as many as fit: one may have megabytes. Used by the list of jobs and by the export of
//! a batch.

use std::collections::HashMap;

use shared::Error;
use shared::id::{JobId, TenantId};
use shared::job::{Job, JobState};
use shared::store::Pool;
use shared::store::result::{self, StoredResult};

/// Most bytes of ffprobe's JSON that are in memory for one page, unless a single result has more.
const MOST_BYTES: i64 = 4 << 20;

/// The results of jobs that are shown together.
pub struct Results {
    found: HashMap<JobId, StoredResult>,
    /// How many of the jobs may be shown: all, or those before the first whose result had no room. At least one.
    pub fit: usize,
}

impl Results {
    /// Reads the results of `jobs`, in their order.
    pub async fn of<'a>(
        db: &Pool,
        tenant: TenantId,
        jobs: impl Iterator<Item = &'a Job> + Clone,
    ) -> Result<Self, Error> {
        let succeeded = |job: &Job| job.state == JobState::Succeeded;
        let wanted: Vec<JobId> = jobs.clone().filter(|job| succeeded(job)).map(|job| job.id).collect();
        let found = result::list_up_to(db, tenant, &wanted, MOST_BYTES).await?;
        let found: HashMap<_, _> = found.into_iter().map(|result| (result.job_id, result)).collect();
        let (all, lacks) = (jobs.clone().count(), |job: &Job| succeeded(job) && !found.contains_key(&job.id));
        // the first job is shown in any case: what it lacks is being erased with it
        let fit = jobs.clone().position(lacks).map_or(all, |cut| cut.max(1));
        Ok(Self { found, fit })
    }

    /// The result of a job; each is given out once.
    pub fn take(&mut self, job: JobId) -> Option<StoredResult> {
        self.found.remove(&job)
    }
}
