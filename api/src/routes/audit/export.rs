//! The audit trail as one stream. Events that happen meanwhile are not in it.

use std::sync::Arc;

use axum::response::Response;
use futures::stream;
use shared::store::audit::{After, Filter, Stored};
use shared::{Error, store};

use super::AuditEventView;
use crate::App;
use crate::export::{self, Format};

/// Events read at once.
const PAGE: i64 = 500;
/// Most events of one export; more are asked for by `from` and `to`.
const MOST: u64 = 10_000_000;
/// The first line of a CSV.
const HEADER: &str = "id,happened_at,tenant_id,actor_kind,actor_id,client_address,request_id,action,target_kind,target_id,\
                      outcome,status,code,detail\r\n";

/// Where an export stands.
struct Export {
    app: Arc<App>,
    filter: Filter,
    format: Format,
    /// None: nothing was read yet.
    after: Option<After>,
    sent: u64,
    /// The first page, read before the answer begins.
    ready: Option<Vec<Stored>>,
}

/// The answer that streams all events of the filter.
pub async fn stream(app: &Arc<App>, mut filter: Filter, format: Format) -> Result<Response, Error> {
    let now = store::audit::now(&app.db).await?;
    filter.to = Some(filter.to.map_or(now, |to| to.min(now)));
    // read now, so that a database that is away is a problem document and no broken body
    let ready = store::audit::list(&app.db, &filter, None, PAGE).await?;
    let export = Export { app: Arc::clone(app), filter, format, after: None, sent: 0, ready: Some(ready) };
    let pages = stream::try_unfold(Some(export), async |export| match export {
        Some(export) => export.next().await.map(Some),
        None => Ok(None),
    });
    export::answer(format, "audit", HEADER, pages)
}

impl Export {
    /// The next page as text, and what is left of the export.
    async fn next(mut self) -> Result<(String, Option<Self>), Error> {
        if self.app.draining.is_cancelled() {
            return Err(Error::unavailable("The service", "it stops"));
        }
        let events = match self.ready.take() {
            Some(events) => events,
            None => store::audit::list(&self.app.db, &self.filter, self.after, PAGE).await?,
        };
        let is_last = events.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        self.after = events.last().map(|e| After { happened_at: e.happened_at, id: e.id });
        self.sent += events.len() as u64;
        if self.sent > MOST {
            return Err(Error::internal(format!("an export of more than {MOST} events")));
        }
        let mut text = String::new();
        for event in events {
            match self.format {
                Format::Ndjson => export::push_json(&mut text, &AuditEventView::from(event))?,
                Format::Csv => write_csv(event, &mut text),
            }
        }
        Ok((text, if is_last { None } else { Some(self) }))
    }
}

fn write_csv(event: Stored, text: &mut String) {
    let (target_kind, target_id) = event.target.map(|t| (t.kind, t.id)).unzip();
    let fields = [
        event.id.to_string(),
        event.happened_at.to_rfc3339(),
        event.tenant.map(|t| t.to_string()).unwrap_or_default(),
        event.actor.kind.as_str().to_owned(),
        event.actor.id.unwrap_or_default(),
        event.client.map(|c| c.to_string()).unwrap_or_default(),
        event.request_id.unwrap_or_default(),
        event.action,
        target_kind.unwrap_or_default(),
        target_id.flatten().unwrap_or_default(),
        event.outcome.as_str().to_owned(),
        event.status.map(|s| s.to_string()).unwrap_or_default(),
        event.code.unwrap_or_default(),
        serde_json::Value::Object(event.detail).to_string(),
    ];
    export::push_csv(text, &fields);
}
