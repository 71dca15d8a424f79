//! The normalised description of a media file, made from what `ffprobe` printed.
//!
//! Called by the worker after a probe; read by the API, policies and clients. Pure: text in, [`Media`] out. It never
//! guesses: what the JSON does not say is `null`. It must never panic, overflow or grow without bound, whatever a
//! hostile file made `ffprobe` print.

mod attachment;
mod audio;
mod chapter;
mod color;
mod container;
mod data;
mod filename;
mod frame_rate;
mod hdr;
mod pixel_format;
mod plausibility;
mod program;
pub(crate) mod raw;
mod rotation;
mod subtitle;
mod text;
mod timecode;
mod track;
mod video;

#[cfg(test)]
mod mutation;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use attachment::{Attachment, AttachmentKind};
pub use audio::Audio;
pub use chapter::Chapter;
pub use color::Color;
pub use container::Container;
pub use data::Data;
pub use filename::rename_filename;
pub use frame_rate::{FrameRate, FrameRateMode};
pub(crate) use hdr::mastering_display;
pub use hdr::{Chromaticity, DolbyVision, Hdr, HdrBasis, HdrFormat, MasteringDisplay};
pub use plausibility::suspicious;
pub use program::Program;
pub use subtitle::Subtitle;
pub use timecode::Timecode;
pub use track::Track;
pub use video::{FieldOrder, ScanType, Video};

/// The version of the shape of [`Media`]. It rises when a key changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;
/// Streams described per file. `ffprobe` itself is told the same limit.
pub const MAX_STREAMS: usize = 256;
/// Programs described per file.
pub const MAX_PROGRAMS: usize = 256;
/// Chapters described per file.
pub const MAX_CHAPTERS: usize = 10_000;
/// Tags kept per track, chapter, program and container, in the order of the file.
pub const MAX_TAGS: usize = 64;
/// Bytes kept of a tag's name.
pub const MAX_TAG_KEY_BYTES: usize = 256;
/// Bytes kept of any text copied from the file, tag values included.
pub const MAX_TEXT_BYTES: usize = 4096;
/// Disposition flags kept per track. FFmpeg knows about twenty.
pub const MAX_DISPOSITIONS: usize = 32;
/// Side data entries looked at per stream and per frame.
pub const MAX_SIDE_DATA: usize = 64;
/// Timecodes looked at per entry of side data. SMPTE ST 12-1 side data has at most three.
pub const MAX_TIMECODES: usize = 4;

/// What a media file is, in one shape for every container. Keys are always present and unknown is `null`; enumerated
/// values are ffprobe's own words; sizes are bytes, times are seconds, bit rates are bits per second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Media {
    /// Version of this shape; 1.
    pub schema_version: u32,
    /// The name the client gave the source.
    pub name: String,
    /// The file as a whole.
    pub container: Container,
    /// Moving pictures, in the order of the file. Cover art stands under `attachments`.
    pub video: Vec<Video>,
    /// Sound tracks.
    pub audio: Vec<Audio>,
    /// Subtitle and caption tracks.
    pub subtitles: Vec<Subtitle>,
    /// Everything else that is timed: timecode tracks, KLV, SCTE-35, streams of unknown kind.
    pub data: Vec<Data>,
    /// Cover art and attached files such as fonts.
    pub attachments: Vec<Attachment>,
    /// Chapters, in the order of the file.
    pub chapters: Vec<Chapter>,
    /// Programs (services) of a transport stream.
    pub programs: Vec<Program>,
}

/// Why what ffprobe printed could not be described.
#[derive(Debug, thiserror::Error)]
pub enum NormalizeError {
    /// A document is not JSON, usually because the output was cut off.
    #[error(
        "ffprobe's {document} output is not valid JSON: {cause}. Probe again; if it stays, raise the output limit."
    )]
    Malformed {
        /// Which output: `probe` or `frames`.
        document: &'static str,
        /// Where and why the parser stopped.
        cause: serde_json::Error,
    },
    /// Valid JSON, but neither `format` nor `streams` is in it: ffprobe found nothing it could open.
    #[error("ffprobe described no container and no stream. Check that the file is a media file and is complete.")]
    Nothing,
}

/// Describes a file.
///
/// `name` is the client's name for the source and `size_bytes` its size as the worker saw it. `ffprobe_json` is the
/// output of `-show_format -show_streams -show_chapters -show_programs`; `frames_json` that of `-show_frames` for the
/// first video frame. Frames may also stand in the first document.
pub fn normalize(
    name: &str,
    size_bytes: u64,
    ffprobe_json: &str,
    frames_json: Option<&str>,
) -> Result<Media, NormalizeError> {
    let mut document = read(ffprobe_json, "probe")?;
    if let Some(json) = frames_json {
        let frames = read(json, "frames")?.frames;
        if !frames.is_empty() {
            document.frames = frames;
        }
    }
    if document.format.is_none() && document.streams.is_none() {
        return Err(NormalizeError::Nothing);
    }
    Ok(describe(name, size_bytes, &document))
}

fn read(json: &str, document: &'static str) -> Result<raw::Document, NormalizeError> {
    serde_json::from_str(json).map_err(|cause| NormalizeError::Malformed { document, cause })
}

fn describe(name: &str, size_bytes: u64, document: &raw::Document) -> Media {
    let no_format = raw::Format::default();
    let format = document.format.as_ref().unwrap_or(&no_format);
    let streams: &[raw::Stream] = document.streams.as_deref().unwrap_or_default();
    let origin = container::Origin::of(format);
    let mut media = Media {
        schema_version: SCHEMA_VERSION,
        name: text::clean(name, MAX_TEXT_BYTES),
        container: container::container(name, size_bytes, format, streams),
        video: Vec::new(),
        audio: Vec::new(),
        subtitles: Vec::new(),
        data: Vec::new(),
        attachments: Vec::new(),
        chapters: document.chapters.iter().map(chapter::chapter).collect(),
        programs: document.programs.iter().map(program::program).collect(),
    };
    for (position, stream) in streams.iter().enumerate() {
        let index = stream.index(position);
        let frame = first_frame(document, index);
        match (stream.codec_type.text(), attachment::kind(stream)) {
            (_, Some(kind)) => media.attachments.push(attachment::attachment(index, kind, stream)),
            (Some("video"), None) => media.video.push(video::video(index, stream, frame, origin)),
            (Some("audio"), None) => media.audio.push(audio::audio(index, stream, origin)),
            (Some("subtitle"), None) => media.subtitles.push(subtitle::subtitle(index, stream, origin)),
            _ => media.data.push(data::data(index, stream, origin)),
        }
    }
    media.container.fill_duration(longest(&media));
    media
}

/// The first video frame of the stream with this index, if it was read.
fn first_frame(document: &raw::Document, index: u32) -> Option<&raw::Frame> {
    document.frames.iter().find(|frame| {
        matches!(frame.media_type.text(), Some("video") | None) && frame.stream_index.integer() == Some(index.into())
    })
}

/// Length of the longest track, for containers that state none.
fn longest(media: &Media) -> Option<f64> {
    let video = media.video.iter().map(|video| &video.track);
    let audio = media.audio.iter().map(|audio| &audio.track);
    video.chain(audio).filter_map(|track| track.duration_seconds).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_document_is_broken() {
        let error = normalize("a", 0, "{\"format\":", None).unwrap_err();
        assert!(error.to_string().starts_with("ffprobe's probe output"), "{error}");
        let error = normalize("a", 0, r#"{"format":{}}"#, Some("")).unwrap_err();
        assert!(error.to_string().starts_with("ffprobe's frames output"), "{error}");
    }

    #[test]
    fn an_answer_without_format_and_streams_describes_nothing() {
        for json in ["{}", "[]", "null", "7", r#"{"error":{"code":-1094995529}}"#, r#"{"format":null}"#] {
            assert!(matches!(normalize("a", 0, json, None), Err(NormalizeError::Nothing)), "{json}");
        }
    }

    #[test]
    fn every_key_is_present_when_nothing_is_known() {
        let json = r#"{"streams":[{"codec_type":"video"},{"codec_type":"audio"},{"codec_type":"subtitle"},{}]}"#;
        let media = serde_json::to_value(normalize("n.bin", 9, json, None).unwrap()).unwrap();
        for pointer in [
            "/container/format",
            "/container/faststart",
            "/container/timecode",
            "/video/0/codec",
            "/video/0/frame_rate",
            "/video/0/hdr/formats",
            "/video/0/color/range",
            "/video/0/id",
            "/audio/0/bit_depth",
            "/subtitles/0/language",
            "/data/0/codec_tag",
        ] {
            assert_eq!(media.pointer(pointer), Some(&serde_json::Value::Null), "{pointer}");
        }
        assert_eq!(media["container"]["size_bytes"], 9);
        assert_eq!(media["data"][0]["index"], 3, "the position stands in for a missing index");
    }

    #[test]
    fn wrong_types_and_repeated_keys_are_unknown_not_errors() {
        let json = r#"{"format":{"format_name":7,"duration":{},"tags":"x"},"streams":[
            {"index":0,"codec_type":"video","width":"wide","height":1e300,"width":[1],"r_frame_rate":"0/0",
             "avg_frame_rate":"1/-1","tags":{"title":"a","title":"b","n":5},"disposition":{"default":"1","forced":1},
             "side_data_list":{"rotation":90}}, "N/A", null],
            "chapters":"none","programs":{},"future":{"deep":[{}]}}"#;
        let media = normalize("a", 0, json, None).unwrap();
        let video = &media.video[0];
        assert_eq!((video.width, video.height, video.rotation), (None, None, Some(0)));
        assert_eq!(video.track.title.as_deref(), Some("b"));
        assert_eq!(video.track.tags["n"], "5");
        assert_eq!(video.track.disposition, ["default", "forced"]);
        assert_eq!(media.data.len(), 2);
    }

    #[test]
    fn a_description_survives_a_round_trip() {
        let json =
            r#"{"format":{"format_name":"wav","duration":"1.5"},"streams":[{"codec_type":"audio","channels":2}]}"#;
        let media = normalize("a.wav", 4, json, None).unwrap();
        let back: Media = serde_json::from_str(&serde_json::to_string(&media).unwrap()).unwrap();
        assert_eq!(media, back);
    }

    #[test]
    fn bounds_hold_and_nul_is_removed() {
        let streams = vec![r#"{"codec_type":"audio"}"#; MAX_STREAMS + 5].join(",");
        let chapters = vec!["{}"; MAX_CHAPTERS + 5].join(",");
        let tags: Vec<String> = (0..MAX_TAGS + 9).map(|n| format!(r#""k{n}":"\u0000é""#)).collect();
        let long = "é".repeat(MAX_TEXT_BYTES);
        let json = format!(
            r#"{{"streams":[{{"codec_type":"audio","tags":{{"title":"x{long}",{}}}}},{streams}],"chapters":[{chapters}]}}"#,
            tags.join(",")
        );
        let media = normalize("a\0b", 0, &json, None).unwrap();
        assert_eq!((media.audio.len(), media.chapters.len()), (MAX_STREAMS, MAX_CHAPTERS));
        assert_eq!(media.audio[0].track.tags.len(), MAX_TAGS);
        assert_eq!(media.audio[0].track.title.as_ref().unwrap().len(), MAX_TEXT_BYTES - 1, "cut between characters");
        assert_eq!(media.audio[0].track.tags["k1"], "é");
        assert_eq!(media.name, "ab");
    }
}
