//! The answer to a submission that waits for its job: the ended job with its result, or the job as it goes on. Used by the
//! short calls of `probe`, and by `POST /api/v1/jobs` where the client prefers to wait.

use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use shared::access::Principal;
use shared::id::JobId;
use shared::job::JobState;
use shared::lifecycle::Submitted;
use shared::store;

use super::accepted;
use super::view::JobView;
use crate::App;
use crate::idempotency::REPLAYED;
use crate::preferences::Patience;
use crate::problem::Result;
use crate::waiting::wait_for;

/// Waits for the job that was submitted, now or by an earlier request like this one.
pub async fn outcome(app: &App, who: &Principal, submitted: &Submitted, patience: Patience) -> Result<Response> {
    let id = match submitted {
        Submitted::New(job) => job.id,
        Submitted::Repeated(kept) => JobId(kept.made),
    };
    let mut response = patience.mark(answer(app, who, id, patience).await?);
    if matches!(submitted, Submitted::Repeated(_)) {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

async fn answer(app: &App, who: &Principal, id: JobId, patience: Patience) -> Result<Response> {
    let job = wait_for(app, who, id, patience.wait).await?;
    if !job.state.is_terminal() {
        return Ok(accepted(app, JobView::new(job, None)));
    }
    let result = match job.state {
        JobState::Succeeded => store::result::find(&app.db, who.tenant, job.id).await?,
        _ => None,
    };
    Ok(axum::Json(JobView::new(job, result)).into_response())
}
