//! From what ffprobe said to what is stored: the normalised description, doubts, scans and series. Called by
//! [`super::examine`]; off the runtime's threads, because the JSON may be megabytes.

use serde_json::Value;
use shared::completeness::Completeness;
use shared::frames::Frames;
use shared::job::{Failure, FailureCode};
use shared::media;
use shared::packets::{Packets, Series};
use shared::store::result::{NewResult, NewSeries};

use super::End;
use super::examine::complete;
use crate::ffprobe::{Report, Run};

/// What was found beside ffprobe's own description.
#[derive(Default)]
pub(super) struct Found {
    /// Whether the file is all there.
    pub(super) completeness: Option<Completeness>,
    /// The summary of every packet.
    pub(super) packets: Option<Packets>,
    /// What was seen in the frames.
    pub(super) frames: Option<Frames>,
    /// Bit rate over time.
    pub(super) series: Vec<Series>,
    /// The arguments of the scan.
    pub(super) scan_arguments: Option<Vec<String>>,
}

/// Normalises what ffprobe said.
pub(super) async fn describe(name: String, size: u64, run: Run, found: Found, provenance: Value) -> End {
    let Run { outcome, stderr_tail, warnings, degraded, .. } = run;
    let report = match outcome {
        Ok(report) => report,
        Err(failure) => return End::Failure { failure, stderr_tail: Some(stderr_tail) },
    };
    let described = tokio::task::spawn_blocking(move || result(&name, size, &report, found));
    let reason = match described.await {
        Ok(Ok(result)) => {
            let result = NewResult { provenance, warnings, degraded, ..result };
            return End::Result { result: Box::new(result), stderr_tail };
        }
        Ok(Err(reason)) => reason,
        Err(_) => "normalising broke off".to_owned(),
    };
    let failure = Failure::new(FailureCode::UnreadableOutput, format!("ffprobe's answer could not be read: {reason}."));
    End::Failure { failure, stderr_tail: Some(stderr_tail) }
}

fn result(name: &str, size: u64, report: &Report, found: Found) -> Result<NewResult, String> {
    fn text(e: &dyn std::fmt::Display) -> String {
        e.to_string()
    }
    let mut media = media::normalize(name, size, &report.main, report.first_frame.as_deref()).map_err(|e| text(&e))?;
    complete(&mut media.container, found.completeness.as_ref());
    let mut suspicious = media::suspicious(&media);
    suspicious.extend(found.completeness.as_ref().and_then(Completeness::doubt));
    let ffprobe = media::rename_filename(&report.main, name).map_err(|e| text(&e))?;
    let mut series = Vec::new();
    for one in &found.series {
        let stream_index = i32::try_from(one.stream_index()).map_err(|e| text(&e))?;
        series.push(NewSeries { stream_index, data: one.encode().map_err(|e| text(&e))? });
    }
    let json = |value: Result<Value, serde_json::Error>| value.map_err(|e| text(&e));
    Ok(NewResult {
        media: json(serde_json::to_value(&media))?,
        ffprobe,
        suspicious,
        completeness: found.completeness.map(serde_json::to_value).transpose().map_err(|e| text(&e))?,
        packets: found.packets.map(serde_json::to_value).transpose().map_err(|e| text(&e))?,
        frames: found.frames.map(serde_json::to_value).transpose().map_err(|e| text(&e))?,
        series,
        ..NewResult::default()
    })
}
