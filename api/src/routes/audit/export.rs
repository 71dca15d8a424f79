//! The audit trail as one stream: page after page is read and sent, so that memory stays flat and no connection to the
//! database is held while the client takes its time. Events that happen meanwhile are not in it. A fault breaks the body off,
//! which every client of HTTP can tell from its end.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use shared::store::audit::{After, Filter, Stored};
use shared::{Error, store};
use utoipa::ToSchema;

use super::AuditEventView;
use crate::App;

/// Events read at once.
const PAGE: i64 = 500;
/// Most events of one export; more are asked for by `from` and `to`.
const MOST: u64 = 10_000_000;
/// The first line of a CSV.
const HEADER: &str = "id,happened_at,tenant_id,actor_kind,actor_id,client_address,request_id,action,target_kind,target_id,\
                      outcome,status,code,detail\r\n";

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AuditFormat)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values (RFC 4180) with a header.
    Csv,
}

impl Format {
    /// The stream that an Accept header asks for; none if it would take JSON as well.
    pub fn of_accept(accept: &str) -> Option<Self> {
        let mut formats = accept.split(',').map(|range| {
            let kind = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            match kind.as_str() {
                "application/x-ndjson" => Some(Self::Ndjson),
                "text/csv" => Some(Self::Csv),
                _ => None,
            }
        });
        let first = formats.next().flatten()?;
        formats.all(|format| format.is_some()).then_some(first)
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        })
    }

    fn file(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Ndjson => "attachment; filename=\"audit.ndjson\"",
            Self::Csv => "attachment; filename=\"audit.csv\"",
        })
    }

    fn write(self, event: Stored, text: &mut String) -> Result<(), Error> {
        match self {
            Self::Ndjson => {
                text.push_str(&serde_json::to_string(&AuditEventView::from(event)).map_err(Error::internal)?);
                text.push('\n');
            }
            Self::Csv => write_csv(event, text),
        }
        Ok(())
    }
}

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
    let header = Some(HEADER).filter(|_| format == Format::Csv);
    let pages = stream::try_unfold((Some(export), header), async |(export, header)| {
        if let Some(header) = header {
            return Ok(Some((Bytes::from_static(header.as_bytes()), (export, None))));
        }
        let Some(export) = export else { return Ok(None) };
        let (text, rest) = export.next().await.inspect_err(|error| {
            tracing::error!(target: "audit", %error, "an export broke off");
        })?;
        Ok::<_, Error>(Some((Bytes::from(text), (rest, None))))
    });
    let headers = [(CONTENT_TYPE, format.content_type()), (CONTENT_DISPOSITION, format.file())];
    Ok((headers, Body::from_stream(Box::pin(pages))).into_response())
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
            self.format.write(event, &mut text)?;
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
    let line: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
    text.push_str(&line.join(","));
    text.push_str("\r\n");
}

/// A field of a CSV. One that a spreadsheet would take for a formula gets an apostrophe: clients choose request ids.
fn quoted(field: &str) -> String {
    let guard = if field.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !field.contains([',', '"', '\r', '\n']) {
        return field.to_owned();
    }
    format!("\"{guard}{}\"", field.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_sent_to_those_who_ask_for_nothing_else() {
        assert_eq!(Format::of_accept("application/x-ndjson"), Some(Format::Ndjson));
        assert_eq!(Format::of_accept("text/csv;q=1, application/x-ndjson;q=0.5"), Some(Format::Csv));
        for json in ["", "*/*", "application/json", "application/json, text/csv", "text/csv, */*"] {
            assert_eq!(Format::of_accept(json), None, "{json}");
        }
    }

    #[test]
    fn a_field_is_neither_a_formula_nor_two_fields() {
        assert_eq!(quoted("job.create"), "job.create");
        assert_eq!(quoted("{\"a\":1}"), "\"{\"\"a\"\":1}\"");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("=cmd+1"), "\"'=cmd+1\"");
        assert_eq!(quoted("-1"), "\"'-1\"");
    }
}
