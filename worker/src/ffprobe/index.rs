//! The one limit that ffprobe meets without a word: when the memory for the index of an MP4 track is refused, it goes on
//! without that index, exits with 0 and describes the track from its header alone. This compares what the headers claim with
//! what the limits give. Pure; called by [`super`] after the main run. It never touches the file.

use serde::Deserialize;
use serde_json::Value;

use super::arguments::MAX_ALLOC_BYTES;

/// Bytes of one entry of the index in memory: FFmpeg's `AVIndexEntry`.
const ENTRY_BYTES: u64 = 24;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
struct Format {
    #[serde(default)]
    format_name: String,
}

#[derive(Deserialize)]
struct Stream {
    index: u64,
    #[serde(default)]
    nb_frames: Value,
    #[serde(default)]
    duration_ts: Value,
    #[serde(default)]
    start_pts: Value,
    #[serde(default)]
    bit_rate: Value,
}

impl Stream {
    /// What its index takes in memory. Sound with one tick a sample is indexed by chunks and takes little.
    fn index_bytes(&self) -> u64 {
        let samples = self.nb_frames.as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        if self.duration_ts.as_u64() == Some(samples) { 0 } else { samples.saturating_mul(ENTRY_BYTES) }
    }
}

/// The warning that an index was left out, if one was: a track without a start or without a bit rate, whose index alone is
/// larger than the largest allocation, or which stands beside indexes that fill half of the memory.
pub(super) fn lost(main: &str, memory_bytes: u64) -> Option<String> {
    let answer: Answer = serde_json::from_str(main).ok()?;
    if !answer.format.format_name.starts_with("mov,") {
        return None;
    }
    let all = answer.streams.iter().map(Stream::index_bytes).fold(0, u64::saturating_add);
    let is_lost = |stream: &&Stream| {
        let own = stream.index_bytes();
        let is_incomplete = stream.start_pts.is_null() || stream.bit_rate.is_null();
        is_incomplete && own > 0 && (own > MAX_ALLOC_BYTES || all > memory_bytes / 2)
    };
    let stream = answer.streams.iter().find(is_lost)?;
    let bytes = if stream.index_bytes() > MAX_ALLOC_BYTES { stream.index_bytes() } else { all };
    Some(format!(
        "The index of stream {} was left out: indexes of {bytes} bytes do not fit into the memory that ffprobe gets.",
        stream.index
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: u64 = 1 << 30;

    fn movie(streams: &[String]) -> String {
        format!(r#"{{"streams":[{}],"format":{{"format_name":"mov,mp4,m4a,3gp,3g2,mj2"}}}}"#, streams.join(","))
    }

    fn track(samples: u64, ticks: u64, start: &str) -> String {
        format!(r#"{{"index":0,"nb_frames":"{samples}","duration_ts":{ticks}{start}}}"#)
    }

    #[test]
    fn an_index_that_does_not_fit_is_missed() {
        let (read, unread) = (r#","start_pts":0,"bit_rate":"1""#, "");
        let cut = r#","start_pts":0"#;
        let ten_million = || track(10_000_000, 20_000_000, read);
        for (streams, missed) in [
            (vec![track(30_000_000, 60_000_000, unread)], true),
            (vec![track(30_000_000, 60_000_000, read)], false),
            (vec![ten_million()], false),
            (vec![ten_million(), ten_million(), ten_million(), track(10, 20, unread)], true),
            (vec![ten_million(), ten_million(), ten_million(), track(10_000_000, 20_000_000, cut)], true),
            (vec![ten_million(), track(10, 20, unread)], false),
            // an hour of PCM, of which the profile quick read nothing
            (vec![track(172_800_000, 172_800_000, unread)], false),
            (vec![track(u64::MAX, 1, unread), track(u64::MAX, 1, unread)], true),
            (vec![r#"{"index":0}"#.to_owned()], false),
        ] {
            assert_eq!(lost(&movie(&streams), MEMORY).is_some(), missed, "{streams:?}");
        }
    }

    #[test]
    fn other_containers_and_other_text_say_nothing() {
        let other = movie(&[track(30_000_000, 1, "")]).replace("mov,", "matroska,");
        for text in [other.as_str(), "", "{}", "[]", r#"{"streams":[{}]}"#] {
            assert_eq!(lost(text, MEMORY), None, "{text}");
        }
    }
}
