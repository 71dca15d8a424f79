//! `/api/v1/events` and `/api/v1/jobs/{id}/events`: what happens, as a stream of server-sent events (WHATWG HTML, section
//! 9.2). The handlers check what is asked for and find out where the stream begins; [`Feed`] writes it.

mod request;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::id::JobId;
use shared::store::event::{Known, Of, Progress};
use shared::{Error, store};
use tokio::time::sleep;

use crate::App;
use crate::auth::{JobsRead, May};
use crate::client::ClientAddress;
use crate::extract::{From, Id, Query};
use crate::listen::Hangup;
use crate::openapi::ReadProblems;
use crate::problem;
use crate::streams::feed::{Feed, Opening, Start};
use crate::streams::{NewStream, reader};
use request::{EventsQuery, JobEventsQuery, LastEventId};

/// Tells nginx and its like to hand on every piece as it comes.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How often it is looked whether the events of a job are published when its stream opens, and the wait between. A job that
/// changes all the time is not waited for.
const PUBLISHING_LOOKS: u32 = 10;
const PUBLISHING: Duration = Duration::from_millis(20);

/// Follow a job
///
/// Server-sent events: everything that has happened to the job, and everything that happens, until it has ended. Then comes
/// the event `end`, and the stream ends; whoever comes back with the last id gets 204.
#[utoipa::path(
    get, path = "/api/v1/jobs/{id}/events", tag = "events", operation_id = "follow_job_events",
    params(
        ("id" = JobId, Path, description = "The job."), JobEventsQuery,
        ("Last-Event-ID" = Option<i64>, Header, description = "The `id` of the last event that you have seen: the stream goes on behind it.", minimum = 0),
    ),
    responses(
        (status = 200, description = "The stream. `id` is the event's `sequence`, `event` its type, `data` an event as webhooks get it.", body = String, content_type = "text/event-stream",
            example = "retry: 2000\nid: 5\nevent: job.queued\ndata: {\"type\":\"job.queued\",\"timestamp\":\"2026-11-24T09:30:00.120000Z\",\"sequence\":5,\"data\":{\"job\":{}}}\n\n"),
        (status = 204, description = "The job has ended, and you have seen it. Do not come back."),
        (status = 404, description = "There is no such job.", body = problem::ProblemBody, content_type = "application/problem+json"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn of_job(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    From(ClientAddress(address)): From,
    Extension(Hangup(hangup)): Extension<Hangup>,
    seen: LastEventId,
    Id(id): Id<JobId>,
    Query(query): Query<JobEventsQuery>,
) -> problem::Result<Response> {
    let seen = seen.or_asked(query.last_event_id.as_deref())?;
    let turn = app.streams.turn().await?;
    store::job::find(&app.db, who.tenant, id).await?.ok_or_else(|| Error::not_found("job"))?;
    let Some(start) = start_of_job(&app, id, seen).await? else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    drop(turn);
    let (of, wanted) = (Of::Job(id), Arc::default());
    let new = NewStream { of, wanted, who: &who, address, hangup };
    Ok(stream(Feed::open(&app, new, start)?))
}

/// Where a job's stream begins; `None`: there is nothing left to tell.
async fn start_of_job(app: &App, job: JobId, seen: Option<i64>) -> Result<Option<Start>, Error> {
    let progress = published(app, job).await?;
    let Known { oldest, last } = store::event::known(&app.db).await?;
    let over = progress.ended && !progress.more;
    let (after, opening) = match seen {
        None if progress.whole => (0, Opening::Plain),
        None => (oldest, Opening::Reset),
        Some(seen) if seen > last || (seen < oldest && !progress.whole) => (oldest, Opening::Reset),
        Some(seen) if over && progress.last.is_none_or(|last| last <= seen) => return Ok(None),
        Some(seen) => (seen, Opening::Plain),
    };
    let lives_to = if over { 0 } else { progress.last.unwrap_or_default() };
    Ok(Some(Start { after, opening, over, lives_to, near: false }))
}

/// The job and its events in one look, once nothing waits to be published: then what has not ended ends with an event behind
/// the last. An end that was published alone, before the news that the job runs again, would be taken for the last word.
async fn published(app: &App, job: JobId) -> Result<Progress, Error> {
    let mut progress = store::event::progress(&app.db, job).await?;
    for _ in 0..PUBLISHING_LOOKS {
        if !progress.more {
            break;
        }
        reader::publish(app).await?;
        progress = store::event::progress(&app.db, job).await?;
        if progress.more {
            // another process is about to
            sleep(PUBLISHING).await;
        }
    }
    Ok(progress)
}

/// Follow all jobs
///
/// Server-sent events: everything that happens in the tenant from now on, or behind `Last-Event-ID`. The stream never ends
/// by itself; connect again when it breaks off.
#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", operation_id = "follow_events",
    params(
        EventsQuery,
        ("Last-Event-ID" = Option<i64>, Header, description = "The `id` of the last event that you have seen: the stream goes on behind it.", minimum = 0),
    ),
    responses(
        (status = 200, description = "The stream. `id` is the event's `sequence`, `event` its type, `data` an event as webhooks get it. The event `reset` says that some were missed.", body = String, content_type = "text/event-stream",
            example = "retry: 2000\nid: 4\n\nid: 5\nevent: job.queued\ndata: {\"type\":\"job.queued\",\"timestamp\":\"2026-11-24T09:30:00.120000Z\",\"sequence\":5,\"data\":{\"job\":{}}}\n\n"),
        ReadProblems,
    ),
    security(("api_key" = ["jobs:read"]), ("bearer" = ["jobs:read"]))
)]
pub async fn of_tenant(
    State(app): State<Arc<App>>,
    May(who, _): May<JobsRead>,
    From(ClientAddress(address)): From,
    Extension(Hangup(hangup)): Extension<Hangup>,
    seen: LastEventId,
    Query(query): Query<EventsQuery>,
) -> problem::Result<Response> {
    let seen = seen.or_asked(query.last_event_id.as_deref())?;
    let wanted = Arc::new(query.wanted()?);
    let _turn = app.streams.turn().await?;
    let Known { oldest, last } = store::event::known(&app.db).await?;
    let (after, opening) = match seen {
        None => (last, Opening::Place),
        // from a database that was there before this one
        Some(seen) if seen > last => (last, Opening::Reset),
        Some(seen) if seen < oldest => (oldest, Opening::Reset),
        Some(seen) => (seen, Opening::Place),
    };
    let of = Of::Tenant(who.tenant);
    let new = NewStream { of, wanted, who: &who, address, hangup };
    Ok(stream(Feed::open(&app, new, Start { after, opening, over: false, lives_to: 0, near: after == last })?))
}

fn stream(feed: Feed) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(feed)).into_response()
}
