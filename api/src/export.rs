//! Lists as one stream, for archives and spreadsheets: page after page is read and sent, so that memory stays flat and no
//! connection to the database is held while the client takes its time. A fault breaks the body off, which every client of HTTP
//! can tell from its end. Used by the audit trail and by batches.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use shared::Error;
use utoipa::ToSchema;

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ExportFormat)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values (RFC 4180) with a header.
    Csv,
}

impl Format {
    /// The stream that the Accept header asks for; none if it would take JSON as well.
    pub fn of_accept(headers: &HeaderMap) -> Option<Self> {
        let accept = headers.get(ACCEPT)?.to_str().ok()?;
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

    fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }
}

/// The answer that streams `pages`, to be saved as `name`. `header` is the first line of a CSV, with its end.
pub fn answer(
    format: Format,
    name: &str,
    header: &'static str,
    pages: impl Stream<Item = Result<String, Error>> + Send + 'static,
) -> Result<Response, Error> {
    let header = (format == Format::Csv).then(|| Ok(header.to_owned()));
    let pages = stream::iter(header).chain(pages).map_ok(Bytes::from).inspect_err(|error| {
        tracing::error!(%error, "an export broke off");
    });
    let file = format!("attachment; filename=\"{name}.{}\"", format.extension());
    let file = HeaderValue::from_str(&file).map_err(Error::internal)?;
    Ok(([(CONTENT_TYPE, format.content_type()), (CONTENT_DISPOSITION, file)], Body::from_stream(pages)).into_response())
}

/// Adds an item as a line of JSON. What ffprobe wrote is kept with its line breaks; between the tokens of JSON they mean
/// nothing, and inside of its strings none can stand.
pub fn push_json(text: &mut String, item: &impl Serialize) -> Result<(), Error> {
    let mut line = OneLine(Vec::new());
    serde_json::to_writer(&mut line, item).map_err(Error::internal)?;
    line.0.push(b'\n');
    text.push_str(std::str::from_utf8(&line.0).map_err(Error::internal)?);
    Ok(())
}

/// Leaves line breaks out.
struct OneLine(Vec<u8>);

impl Write for OneLine {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        for part in piece.split(|byte| matches!(byte, b'\n' | b'\r')) {
            self.0.extend_from_slice(part);
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Adds a line of comma-separated fields.
pub fn push_csv(text: &mut String, fields: &[String]) {
    for (position, field) in fields.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        push_field(text, field);
    }
    text.push_str("\r\n");
}

/// What makes a spreadsheet take a field for a formula: signs, what it leaves out before them, and the wide forms that some take
/// for the signs (OWASP, CSV Injection).
const FORMULAS: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// A field. One that a spreadsheet would take for a formula gets an apostrophe: clients choose names and request ids.
fn push_field(text: &mut String, field: &str) {
    let is_formula = field.starts_with(FORMULAS) && field.parse::<f64>().is_err();
    if !is_formula && !field.contains([',', '"', '\r', '\n']) {
        text.push_str(field);
        return;
    }
    text.push('"');
    if is_formula {
        text.push('\'');
    }
    text.push_str(&field.replace('"', "\"\""));
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_sent_to_those_who_ask_for_nothing_else() {
        let of = |accept: &'static str| {
            Format::of_accept(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert_eq!(of("application/x-ndjson"), Some(Format::Ndjson));
        assert_eq!(of("text/csv;q=1, application/x-ndjson;q=0.5"), Some(Format::Csv));
        for json in ["", "*/*", "application/json", "application/json, text/csv", "text/csv, */*"] {
            assert_eq!(of(json), None, "{json}");
        }
        assert_eq!(Format::of_accept(&HeaderMap::new()), None);
    }

    fn line(fields: &[&str]) -> String {
        let fields: Vec<String> = fields.iter().map(|f| (*f).to_owned()).collect();
        let mut text = String::new();
        push_csv(&mut text, &fields);
        text
    }

    #[test]
    fn a_field_is_neither_a_formula_nor_two_fields() {
        assert_eq!(line(&["job.create", "{\"a\":1}", "a,b"]), "job.create,\"{\"\"a\"\":1}\",\"a,b\"\r\n");
        assert_eq!(line(&["=cmd+1", "@x", "+a\nb", "-"]), "\"'=cmd+1\",\"'@x\",\"'+a\nb\",\"'-\"\r\n");
        assert_eq!(line(&["＝x", "\n=x"]), "\"'＝x\",\"'\n=x\"\r\n");
        assert_eq!(line(&["-1", "+2.5", "", "é"]), "-1,+2.5,,é\r\n", "numbers are no formulas");
    }
}
