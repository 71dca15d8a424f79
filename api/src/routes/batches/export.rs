//! The results of a batch as one stream, in the order of its jobs: NDJSON with everything (each line is what
//! `GET /api/v1/jobs/{id}?include=result` shows), CSV with what fits into a table.

use std::sync::Arc;

use axum::response::Response;
use futures::stream;
use serde_json::Value;
use shared::id::{BatchId, TenantId};
use shared::job::{Job, Source};
use shared::store::result::StoredResult;
use shared::{Error, store};

use crate::App;
use crate::export::{self, Format};
use crate::routes::jobs::results::Results;
use crate::routes::jobs::view::JobView;

/// Most jobs read at once, with their results.
const PAGE: i64 = 20;

/// A column of the CSV: its name, and where in `media` it stands (RFC 6901).
const COLUMNS: [(&str, &str); 19] = [
    ("format", "/container/format"),
    ("size_bytes", "/container/size_bytes"),
    ("duration_seconds", "/container/duration_seconds"),
    ("bit_rate", "/container/bit_rate"),
    ("video_codec", "/video/0/codec"),
    ("video_profile", "/video/0/profile"),
    ("width", "/video/0/width"),
    ("height", "/video/0/height"),
    ("display_aspect_ratio", "/video/0/display_aspect_ratio"),
    ("frame_rate_num", "/video/0/frame_rate/num"),
    ("frame_rate_den", "/video/0/frame_rate/den"),
    ("pixel_format", "/video/0/pixel_format"),
    ("bit_depth", "/video/0/bit_depth"),
    ("hdr_formats", "/video/0/hdr/formats"),
    ("audio_codec", "/audio/0/codec"),
    ("audio_channels", "/audio/0/channels"),
    ("audio_channel_layout", "/audio/0/channel_layout"),
    ("audio_sample_rate", "/audio/0/sample_rate"),
    ("audio_language", "/audio/0/language"),
];
/// The first line of the CSV.
const HEADER: &str = "number,job_id,external_id,source,state,failure_code,failure_message,completeness,suspicious,format,size_bytes,\
    duration_seconds,bit_rate,video_codec,video_profile,width,height,display_aspect_ratio,frame_rate_num,frame_rate_den,\
    pixel_format,bit_depth,hdr_formats,audio_codec,audio_channels,audio_channel_layout,audio_sample_rate,audio_language\r\n";

/// Where an export stands.
struct Export {
    app: Arc<App>,
    tenant: TenantId,
    batch: BatchId,
    format: Format,
    after: i32,
}

/// The answer that streams the jobs of the batch with their results.
pub fn stream(app: &Arc<App>, tenant: TenantId, batch: BatchId, format: Format) -> Result<Response, Error> {
    let export = Export { app: Arc::clone(app), tenant, batch, format, after: 0 };
    let pages = stream::try_unfold(export, async |mut export| {
        let page = export.next().await?;
        Ok(page.map(|text| (text, export)))
    });
    export::answer(format, "results", HEADER, pages)
}

impl Export {
    /// The next page as text; `None` behind the last.
    async fn next(&mut self) -> Result<Option<String>, Error> {
        if self.app.draining.is_cancelled() {
            return Err(Error::unavailable("The service", "it stops"));
        }
        let db = &self.app.db;
        let jobs = store::job::bulk::list(db, self.tenant, self.batch, self.after, PAGE).await?;
        if jobs.is_empty() {
            return Ok(None);
        }
        let mut results = Results::of(db, self.tenant, jobs.iter().map(|(_, job)| job)).await?;
        let mut text = String::new();
        for (number, job) in jobs.into_iter().take(results.fit) {
            self.after = number;
            let result = results.take(job.id);
            match self.format {
                Format::Ndjson => export::push_json(&mut text, &JobView::new(job, result))?,
                Format::Csv => export::push_csv(&mut text, &fields(number, &job, result.as_ref())),
            }
        }
        Ok(Some(text))
    }
}

fn fields(number: i32, job: &Job, result: Option<&StoredResult>) -> Vec<String> {
    let failure = job.failure.as_ref();
    let complete = result.and_then(|r| r.completeness.as_ref()).and_then(|c| c.0.get("verdict"));
    let mut fields = vec![
        number.to_string(),
        job.id.to_string(),
        job.external_id.clone().unwrap_or_default(),
        place(&job.source),
        job.state.as_str().to_owned(),
        failure.map(|f| f.code.as_str().to_owned()).unwrap_or_default(),
        failure.map(|f| f.message.clone()).unwrap_or_default(),
        complete.map(plain).unwrap_or_default(),
        result.map(|r| r.suspicious.join(" ")).unwrap_or_default(),
    ];
    let media = result.map(|r| &r.media.0);
    fields.extend(COLUMNS.map(|(_, pointer)| media.and_then(|m| m.pointer(pointer)).map(plain).unwrap_or_default()));
    fields
}

/// Where the bytes are, in one word.
fn place(source: &Source) -> String {
    match source {
        Source::Upload { id } => id.to_string(),
        Source::Path { path } => path.clone(),
        Source::Url { url } => url.clone(),
        Source::S3 { bucket, key, .. } => format!("s3://{bucket}/{key}"),
    }
}

/// A value as a person would write it into a table.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_names_the_columns() {
        let names: Vec<&str> = HEADER.trim_end().split(',').collect();
        let columns: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names[names.len() - columns.len()..], columns);
    }
}
