//! `/api/v1/jobs/{id}/series/{stream}`: bit rate over time, a part of it at a time, as coarse as the client wants it.

use std::sync::Arc;

use axum::extract::State;
use shared::id::JobId;
use shared::packets::{Series, Slice};
use shared::{Code, Error, store};

use super::request::SeriesQuery;
use crate::App;
use crate::auth::{JobsRead, May};
use crate::extract::{Ids, Query};
use crate::openapi::ReadProblems;
use crate::problem::Result;

/// Show the bit rate of a stream over time
///
/// What the profile `packets` counted: bytes, packets and keyframes of each span of time. Sums stay exact, however coarse.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/series/{stream}", tag = "jobs", operation_id = "show_job_series",
    params(("id" = JobId, Path, description = "The job."), ("stream" = u16, Path, description = "Index of the stream."), SeriesQuery),
    responses(
        (status = 200, description = "The part that was asked for.", body = Slice),
        (status = 404, description = "There is no such job (`not_found`), or its result has no such series (`no_series`).", body = crate::problem::ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn show(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    Ids(id, stream): Ids<JobId, u16>,
    Query(query): Query<SeriesQuery>,
) -> Result<axum::Json<Slice>> {
    let (from, to, points) = query.part(app.limits.series_points)?;
    let Some(data) = store::result::find_series(&app.db, who.tenant, id, stream.into()).await? else {
        store::job::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("job"))?;
        let detail = format!(
            "The job's result has no series for stream {stream}. Only the profile 'packets' makes them, for streams that have packets."
        );
        return Err(Error::new(Code::NoSeries, detail).into());
    };
    // inflating and adding up may take milliseconds: not on the threads that answer
    let slice = tokio::task::spawn_blocking(move || Series::decode(&data).map(|series| series.slice(from, to, points)));
    Ok(axum::Json(slice.await.map_err(Error::internal)?.map_err(Error::internal)?))
}
