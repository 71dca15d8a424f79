//! The audit trail of requests: a layer that knows what each route does ([`actions`]) and writes down who did it, from where,
//! to what and how it ended. Handlers add only what the layer cannot see. Nothing that a client wrote is kept but ids, and a
//! request is never refused because its event cannot be written.
//!
//! - A new job or upload, and every change of keys, tenants and sessions, keeps its event in its own transaction: both or
//!   neither, and a change whose event cannot be written does not happen.
//! - Every other change is written before the answer goes out. If that fails, the change has happened all the same: the
//!   answer is given, the log says so, and the event is written as soon as the database answers again ([`recorder`]).
//! - Reads, refusals and failures are written in batches, within half a second or when the process stops.

pub mod actions;
pub mod recorder;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Map, Value};
use shared::access::Principal;
use shared::audit::{Actor, Event, Outcome, Target};
use shared::id::{AuditEventId, SessionId, TenantId};
use shared::{Code, store};
use tokio::time::timeout;

use self::actions::{Operation, Rule};
use crate::auth::{Identity, presented_key};
use crate::client::ClientAddress;
use crate::{App, request_id};

/// How long an answer waits for its event to be written.
const PATIENCE: Duration = Duration::from_secs(2);

tokio::task_local! {
    static CURRENT: Arc<Trail>;
}

/// What is known of a request from its beginning, and what its handler notes.
struct Trail {
    operation: &'static Operation,
    tenant: Option<TenantId>,
    actor: Actor,
    client: Option<IpAddr>,
    request_id: String,
    /// Public id of a key that opened nothing.
    refused_key: Option<String>,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    /// Who it turned out to be, where the credentials are in the body.
    who: Option<(TenantId, Actor)>,
    target: Option<Target>,
    detail: Map<String, Value>,
    /// More exactly than the route: what the answer holds.
    action: Option<&'static str>,
    /// Events that were kept with what they tell of.
    kept: Vec<&'static str>,
}

/// When an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// It was, with what it tells of: only the log has not heard of it.
    Already,
    BeforeTheAnswer,
    Soon,
}

/// Writes down what the request did. Stands inside of the layers that tell who asks and from where.
pub async fn record(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let Some(trail) = Trail::of(&request) else { return next.run(request).await };
    let trail = Arc::new(trail);
    let mut open = Open { app: &app, trail: Some(Arc::clone(&trail)) };
    let response = CURRENT.scope(Arc::clone(&trail), next.run(request)).await;
    let settled = trail.settle(response.status().as_u16(), response.extensions().get().copied());
    match settled {
        // still open while it is written: a client that goes away now drops this future
        Some((event, When::Already)) => log(&event),
        Some((event, When::BeforeTheAnswer)) => write(&app, event).await,
        Some((event, When::Soon)) => app.audit.push(event),
        None => {}
    }
    open.trail = None;
    response
}

async fn write(app: &App, event: Event) {
    log(&event);
    let written = match timeout(PATIENCE, store::audit::insert(&app.db, &event)).await {
        Ok(written) => written.map_err(|e| e.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    match written {
        Ok(()) => {
            app.metrics.audit_written.inc();
        }
        Err(cause) => {
            tracing::error!(target: "audit", cause, action = event.action, "an event is written later than its answer");
            app.audit.push_again(event);
        }
    }
}

/// A request that was not answered yet. Dropped before that, because the client went away, it tells of what may have happened.
struct Open<'a> {
    app: &'a App,
    trail: Option<Arc<Trail>>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        match self.trail.take().and_then(|trail| trail.broken_off()) {
            Some((event, When::Already)) => log(&event),
            Some((event, _)) => self.app.audit.push(event),
            None => {}
        }
    }
}

impl Trail {
    fn of(request: &Request) -> Option<Self> {
        let route = request.extensions().get::<MatchedPath>()?.as_str();
        let operation = actions::find(request.method(), request.headers(), route)?;
        let (tenant, actor) = match request.extensions().get::<Identity>() {
            Some(Identity::Known(principal)) => (Some(principal.tenant), actor(principal)),
            _ => (None, Actor::ANONYMOUS),
        };
        let refused = matches!(request.extensions().get(), Some(Identity::Refused(_)));
        let refused_key = if refused { presented_key(request.headers()) } else { None };
        Some(Self {
            operation,
            tenant,
            actor,
            client: request.extensions().get::<ClientAddress>().map(|c| c.0),
            request_id: request_id::current(),
            refused_key,
            noted: Mutex::new(Noted { target: operation.target(request.uri().path()), ..Noted::default() }),
        })
    }

    /// An event of this request, which went well so far.
    fn event(&self, action: &'static str) -> Event {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        Event {
            id: AuditEventId::new(),
            tenant: noted.who.as_ref().map_or(self.tenant, |(tenant, _)| Some(*tenant)),
            actor: noted.who.as_ref().map_or_else(|| self.actor.clone(), |(_, actor)| actor.clone()),
            client: self.client,
            request_id: Some(self.request_id.clone()),
            action,
            target: noted.target.clone(),
            outcome: Outcome::Success,
            status: None,
            code: None,
            detail: noted.detail.clone(),
        }
    }

    /// What is to be written once the answer is known.
    fn settle(&self, status: u16, code: Option<Code>) -> Option<(Event, When)> {
        if let Some(action) = code.and_then(refusal) {
            let mut event = self.event(action);
            event.detail = Map::from_iter([("operation".to_owned(), self.operation.name().into())]);
            if let Some(key) = &self.refused_key {
                event.detail.insert("key".to_owned(), key.as_str().into());
            }
            return Some((ended(event, Outcome::Denied, status, code), When::Soon));
        }
        // a client that is slowed down is counted, not listed: it would fill the trail with what did not happen
        if status == 429 {
            return None;
        }
        let went_well = status < 400;
        let (noted, kept) = {
            let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            (noted.action, noted.kept.clone())
        };
        let (action, when) = match self.operation.rule {
            Rule::Change(action) if kept.contains(&action) => (action, When::Already),
            Rule::Change(action) if went_well => (action, When::BeforeTheAnswer),
            Rule::Change(action) => (action, When::Soon),
            Rule::Read(action) => (noted.unwrap_or(action), When::Soon),
            Rule::Exempt(_) => (noted.filter(|_| went_well)?, When::Soon),
        };
        let is_change = matches!(self.operation.rule, Rule::Change(_));
        let outcome = match status {
            ..400 => Outcome::Success,
            // what was asked may have happened before the fault
            408 | 500.. if is_change => Outcome::Unknown,
            _ => Outcome::Failed,
        };
        Some((ended(self.event(action), outcome, status, code), when))
    }

    /// What is to be written when no answer was given.
    fn broken_off(&self) -> Option<(Event, When)> {
        let Rule::Change(action) = self.operation.rule else { return None };
        let kept = self.noted.lock().unwrap_or_else(PoisonError::into_inner).kept.contains(&action);
        let event = self.event(action);
        Some(if kept { (event, When::Already) } else { (Event { outcome: Outcome::Unknown, ..event }, When::Soon) })
    }
}

fn actor(principal: &Principal) -> Actor {
    principal.session.map_or_else(|| Actor::key(&principal.key_public_id), Actor::session)
}

/// The event of a refusal, if the code is one.
fn refusal(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthorized | Code::InvalidToken | Code::InvalidGrant => Some("auth.failed"),
        Code::Forbidden | Code::AddressNotAllowed | Code::TenantSuspended => Some("auth.forbidden"),
        _ => None,
    }
}

fn ended(event: Event, outcome: Outcome, status: u16, code: Option<Code>) -> Event {
    Event { outcome, status: Some(status), code: code.map(Code::as_str), ..event }
}

/// A security event is a line of the log as well, for whoever watches there.
fn log(event: &Event) {
    if !event.is_security() {
        return;
    }
    let (target_kind, target_id) = event.target.as_ref().map(|t| (t.kind.as_str(), t.id.as_deref())).unzip();
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "audit",
                action = event.action,
                outcome = event.outcome.as_str(),
                actor_kind = event.actor.kind.as_str(),
                actor = event.actor.id.as_deref(),
                tenant = event.tenant.map(tracing::field::display),
                client = event.client.map(tracing::field::display),
                request_id = event.request_id.as_deref(),
                target.kind = target_kind,
                target.id = target_id.flatten(),
                status = event.status,
                code = event.code,
                "security event"
            )
        };
    }
    if event.outcome == Outcome::Success { line!(info) } else { line!(warn) }
}

/// An event of the request being handled, to be kept with the change it tells of; see [`kept`]. None outside of a request.
pub fn event(action: &'static str, status: u16) -> Option<Event> {
    CURRENT.try_with(|trail| Event { status: Some(status), ..trail.event(action) }).ok()
}

/// An event of the request being handled, or of the service itself where it goes on with what a request began.
pub fn event_or_own(action: &'static str, tenant: TenantId) -> Event {
    CURRENT.try_with(|trail| trail.event(action)).unwrap_or_else(|_| Event::own(tenant, action))
}

/// The same for a change that does not happen without its event; outside of a request it is the service's own.
pub fn change(action: &'static str, status: StatusCode, tenant: TenantId) -> Event {
    Event { status: Some(status.as_u16()), ..event_or_own(action, tenant) }
}

/// Says that the event was kept with its change, so that the layer does not write it again.
pub fn kept(action: &'static str) {
    note(|noted| noted.kept.push(action));
}

/// Names the thing where the path does not: what a request made.
pub fn target(kind: &str, id: impl ToString) {
    note(|noted| noted.target = Some(Target::new(kind, &id.to_string())));
}

/// Says whose request it is, where the credentials are in its body.
pub fn session(tenant: TenantId, id: SessionId) {
    note(|noted| {
        noted.who = Some((tenant, Actor::session(id)));
        noted.target = Some(Target::new("session", &id.to_string()));
    });
}

/// Adds a fact. It must be short, and no secret: no key, no token, no URL, no words of the client's.
pub fn detail(name: &'static str, value: impl Into<Value>) {
    note(|noted| drop(noted.detail.insert(name.to_owned(), value.into())));
}

/// Names more exactly what was done, where that depends on the request: what the answer holds.
pub fn action(action: &'static str) {
    note(|noted| noted.action = Some(action));
}

/// An event of something that was not let pass, besides how the request ends: a spent token that was used again.
pub fn alarm(action: &'static str, tenant: TenantId) -> Event {
    Event { outcome: Outcome::Denied, ..event_or_own(action, tenant) }
}

/// Tells the log of an [`alarm`] that was kept with what it made happen.
pub fn raised(alarm: &Event) {
    log(alarm);
}

/// Takes the request along into a task of its own.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let trail = CURRENT.try_with(Arc::clone).ok();
    // or the task would have room for it twice
    let work = Box::pin(work);
    async move {
        match trail {
            Some(trail) => CURRENT.scope(trail, work).await,
            None => work.await,
        }
    }
}

fn note(change: impl FnOnce(&mut Noted)) {
    // outside of a request nothing is noted: the work goes on by itself, and its events are the service's own
    let _ = CURRENT.try_with(|trail| change(&mut trail.noted.lock().unwrap_or_else(PoisonError::into_inner)));
}
