//! What every track has, whatever it carries, and the statistics that Matroska writers leave in tags.
//! Used by video, audio, subtitle, data and attachment. It never trusts statistics that FFmpeg copied from elsewhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::container::{Origin, Writer};
use super::raw::{Stream, Tags};

/// What every track has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Track {
    /// The container's own id of the track as ffprobe prints it: track id (`0x1`), PID (`0x100`).
    #[schema(example = "0x1")]
    pub id: Option<String>,
    /// Language as tagged, usually ISO 639-2 (`eng`); null when missing or `und`.
    pub language: Option<String>,
    /// Title as tagged.
    pub title: Option<String>,
    /// Disposition flags that are set, in ffprobe's words: `default`, `forced`, `hearing_impaired`.
    pub disposition: Vec<String>,
    /// Duration in seconds: what ffprobe says of the stream, else Matroska's DURATION tag.
    pub duration_seconds: Option<f64>,
    /// Time stamp of the first packet in seconds; negative with encoder delay.
    pub start_seconds: Option<f64>,
    /// Tags of the track; at most 64, values cut at 4096 bytes.
    pub tags: BTreeMap<String, String>,
}

/// The common part of a timed track.
pub(super) fn track(stream: &Stream, origin: Origin) -> Track {
    Track {
        duration_seconds: duration(stream, origin),
        start_seconds: stream.start_time.number(),
        ..untimed_track(stream)
    }
}

/// The common part of a track without time, such as cover art: ffprobe repeats the container's times there.
pub(super) fn untimed_track(stream: &Stream) -> Track {
    Track {
        id: stream.id.word(),
        language: stream.tags.get("language").filter(|language| *language != "und").map(str::to_owned),
        title: stream.tags.get("title").map(str::to_owned),
        disposition: stream.disposition.to_vec(),
        duration_seconds: None,
        start_seconds: None,
        tags: stream.tags.to_map(),
    }
}

fn duration(stream: &Stream, origin: Origin) -> Option<f64> {
    let stated = stream.duration.number().filter(|seconds| *seconds >= 0.0);
    stated.or_else(|| {
        let tagged = clock(stream.tags.matroska("DURATION")?)?;
        // FFmpeg writes the end time there, mkvmerge the time between first and last frame.
        let start = match origin.writer {
            Writer::Ffmpeg => stream.start_time.number().unwrap_or(0.0).max(0.0),
            Writer::Other => 0.0,
        };
        let microseconds = ((tagged - start) * 1e6).round();
        (microseconds >= 0.0).then_some(microseconds / 1e6)
    })
}

/// Seconds from `hours:minutes:seconds.fraction`.
fn clock(text: &str) -> Option<f64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds: f64 = seconds.parse().ok().filter(|seconds| (0.0..60.0).contains(seconds))?;
    (minutes < 60 && parts.next().is_none()).then(|| f64::from(hours) * 3600.0 + f64::from(minutes) * 60.0 + seconds)
}

/// Numbers that mkvmerge and others write into tags, because Matroska has no place for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    /// Bits per second.
    pub(super) bit_rate: Option<u64>,
    /// Frames (blocks) in the track.
    pub(super) frame_count: Option<u64>,
}

/// The statistics of a track. FFmpeg copies such tags from its input even when it encodes anew, so in a file of FFmpeg's
/// they describe some other file.
pub(super) fn statistics(tags: &Tags, origin: Origin) -> Statistics {
    if origin.writer == Writer::Ffmpeg || tags.matroska("_STATISTICS_WRITING_APP").is_none() {
        return Statistics::default();
    }
    let count = |name| tags.matroska(name)?.parse().ok().filter(|count: &u64| (1..1 << 53).contains(count));
    Statistics { bit_rate: count("BPS"), frame_count: count("NUMBER_OF_FRAMES") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::container::Timing;

    const FFMPEG: Origin = Origin { timing: Timing::Declared, writer: Writer::Ffmpeg };
    const OTHER: Origin = Origin { timing: Timing::Declared, writer: Writer::Other };

    fn stream(json: &str) -> Stream {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn duration_of_a_matroska_track() {
        let json = r#"{"start_time":"0.005000","duration":"N/A","tags":{"DURATION":"01:00:01.006000000"}}"#;
        assert_eq!(track(&stream(json), FFMPEG).duration_seconds, Some(3601.001));
        assert_eq!(track(&stream(json), OTHER).duration_seconds, Some(3601.006));
        let suffixed = r#"{"start_time":"-0.007","tags":{"DURATION-eng":"00:00:01.008000000"}}"#;
        assert_eq!(track(&stream(suffixed), FFMPEG).duration_seconds, Some(1.008));
        for bad in ["", "1", "00:60:00", "0:0:0:0", "00:00:inf", "00:00:-1", "99999999999:00:00", "00:00:61"] {
            assert_eq!(clock(bad), None, "{bad}");
        }
    }

    #[test]
    fn negative_durations_and_und_are_unknown() {
        let track = track(&stream(r#"{"duration":"-9223372036854.775807","tags":{"LANGUAGE":"und"}}"#), OTHER);
        assert_eq!((track.duration_seconds, track.language), (None, None));
    }

    #[test]
    fn statistics_that_ffmpeg_copied_are_not_believed() {
        let json =
            r#"{"tags":{"BPS-eng":"904000","NUMBER_OF_FRAMES-eng":"30","_STATISTICS_WRITING_APP-eng":"mkvmerge"}}"#;
        let known = Statistics { bit_rate: Some(904_000), frame_count: Some(30) };
        assert_eq!(statistics(&stream(json).tags, OTHER), known);
        assert_eq!(statistics(&stream(json).tags, FFMPEG), Statistics::default());
        assert_eq!(statistics(&stream(r#"{"tags":{"BPS":"1"}}"#).tags, OTHER), Statistics::default());
    }
}
