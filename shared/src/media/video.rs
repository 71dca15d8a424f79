//! Moving pictures. Used by [`super::normalize`]; cover art is [`super::attachment`]'s.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::color::{Color, color};
use super::container::Origin;
use super::frame_rate::{FrameRate, edit_units, frame_rate};
use super::hdr::{Hdr, hdr};
use super::pixel_format::{bit_depth, chroma_subsampling};
use super::raw::{Frame, Scalar, Stream};
use super::rotation::rotation;
use super::track::{Track, statistics, track};

/// How lines are scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScanType {
    /// Whole frames.
    Progressive,
    /// Two fields per frame.
    Interlaced,
}

/// Which field is stored and which is shown first, in ffprobe's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldOrder {
    /// Top stored first, top shown first.
    Tt,
    /// Bottom stored first, bottom shown first.
    Bb,
    /// Top stored first, bottom shown first.
    Tb,
    /// Bottom stored first, top shown first.
    Bt,
}

/// A moving picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Video {
    /// ffprobe's stream index.
    pub index: u32,
    /// Codec in ffprobe's word: `h264`, `hevc`, `prores`.
    pub codec: Option<String>,
    /// The codec's tag in the container: `avc1`, `hvc1`, or a number such as `0x0002` (stream type of MPEG-TS).
    pub codec_tag: Option<String>,
    /// Profile in ffprobe's words: `High`, `Main 10`, `HQ`.
    pub profile: Option<String>,
    /// Level as the codec's standard writes it: `5.1` (H.264, HEVC, AV1, VP9), `Main` (MPEG-2); the plain number for others.
    #[schema(example = "5.1")]
    pub level: Option<String>,
    /// Width in pixels as stored, before rotation.
    pub width: Option<u32>,
    /// Height in pixels as stored, before rotation.
    pub height: Option<u32>,
    /// Shape of a pixel; null when not stated.
    #[schema(example = "1:1")]
    pub sample_aspect_ratio: Option<String>,
    /// Shape of the picture, before rotation; null when not stated.
    #[schema(example = "16:9")]
    pub display_aspect_ratio: Option<String>,
    /// Degrees clockwise to turn the decoded picture for display: 0, 90, 180 or 270. Null when it is mirrored as well, or
    /// turned by another angle.
    pub rotation: Option<u16>,
    /// Frames per second.
    pub frame_rate: Option<FrameRate>,
    /// Number of frames, where the container counts them: MP4 family, AVI (empty chunks included), MXF, and mkvmerge's
    /// statistics in Matroska. Null elsewhere.
    pub frame_count: Option<u64>,
    /// Average bits per second, from ffprobe, else from mkvmerge's statistics tags.
    pub bit_rate: Option<u64>,
    /// Pixel format in ffprobe's word: `yuv420p10le`.
    pub pixel_format: Option<String>,
    /// Chroma subsampling, from the pixel format: `4:2:0`; RGB counts as `4:4:4`.
    #[schema(example = "4:2:0")]
    pub chroma_subsampling: Option<String>,
    /// Bits per component, from `bits_per_raw_sample`, else from the pixel format.
    pub bit_depth: Option<u32>,
    /// Progressive or interlaced, from the field order of the stream, else from an interlaced first frame.
    pub scan_type: Option<ScanType>,
    /// Order of the fields; null unless interlaced.
    pub field_order: Option<FieldOrder>,
    /// How numbers become colours.
    pub color: Color,
    /// High dynamic range.
    pub hdr: Hdr,
    /// Whether captions (CEA-608/708) ride inside the picture. False means none in the frames looked at; null without them.
    pub closed_captions: Option<bool>,
    /// What every track has.
    #[serde(flatten)]
    pub track: Track,
}

pub(super) fn video(index: u32, stream: &Stream, frame: Option<&Frame>, origin: Origin) -> Video {
    let pixel_format = stream.pix_fmt.text();
    let statistics = statistics(&stream.tags, origin);
    let bit_depth = stream.bits_per_raw_sample.positive().or_else(|| bit_depth(pixel_format?));
    let (scan_type, field_order) = scan(stream, frame);
    let fields_per_frame = if scan_type == Some(ScanType::Interlaced) { 2 } else { 1 };
    Video {
        index,
        codec: stream.codec_name.text().map(str::to_owned),
        codec_tag: stream.codec_tag(),
        profile: stream.profile.word(),
        level: level(stream),
        width: stream.width.positive(),
        height: stream.height.positive(),
        sample_aspect_ratio: aspect(&stream.sample_aspect_ratio),
        display_aspect_ratio: aspect(&stream.display_aspect_ratio),
        rotation: rotation(stream, frame),
        frame_rate: frame_rate(stream, fields_per_frame, origin),
        frame_count: stream.nb_frames.positive().or(statistics.frame_count).or_else(|| edit_units(stream, origin)),
        bit_rate: stream.bit_rate.positive().or(statistics.bit_rate),
        pixel_format: pixel_format.map(str::to_owned),
        chroma_subsampling: pixel_format.and_then(chroma_subsampling).map(str::to_owned),
        bit_depth,
        scan_type,
        field_order,
        color: color(stream, frame),
        hdr: hdr(stream, frame, bit_depth),
        closed_captions: closed_captions(stream, frame),
        track: track(stream, origin),
    }
}

/// ffprobe prints `0:1` for an unknown shape.
fn aspect(scalar: &Scalar) -> Option<String> {
    let text = scalar.text()?;
    let (width, height) = text.split_once(':')?;
    let positive = |side: &str| side.parse::<u32>().is_ok_and(|side| side > 0);
    (positive(width) && positive(height)).then(|| text.to_owned())
}

fn scan(stream: &Stream, frame: Option<&Frame>) -> (Option<ScanType>, Option<FieldOrder>) {
    let order = match stream.field_order.text() {
        Some("progressive") => return (Some(ScanType::Progressive), None),
        Some("tt") => Some(FieldOrder::Tt),
        Some("bb") => Some(FieldOrder::Bb),
        Some("tb") => Some(FieldOrder::Tb),
        Some("bt") => Some(FieldOrder::Bt),
        _ => None,
    };
    // One progressive frame proves nothing about the others; an interlaced one does.
    let of_frame = || {
        let frame = frame.filter(|frame| frame.interlaced_frame.flag() == Some(true))?;
        Some(if frame.top_field_first.flag()? { FieldOrder::Tt } else { FieldOrder::Bb })
    };
    let order = order.or_else(of_frame);
    (order.map(|_| ScanType::Interlaced), order)
}

fn closed_captions(stream: &Stream, frame: Option<&Frame>) -> Option<bool> {
    let in_frame = frame.map(|frame| {
        let is_captions = |kind: &str| kind.starts_with("ATSC A53");
        frame.side_data_list.iter().any(|data| data.side_data_type.text().is_some_and(is_captions))
    });
    match (stream.closed_captions.flag(), in_frame) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

/// The level in the notation of the codec's standard. ffprobe prints the coded number, and -99 for none.
fn level(stream: &Stream) -> Option<String> {
    let number: u32 = stream.level.positive_or_zero()?;
    let tenths = || (10..100).contains(&number).then(|| format!("{}.{}", number / 10, number % 10));
    match stream.codec_name.text()? {
        "h264" if number == 9 => Some("1b".to_owned()),
        "h264" | "vp9" => tenths(),
        "hevc" => (number > 0).then(|| format!("{}.{}", number / 30, number % 30 / 3)),
        "av1" => (number < 24).then(|| format!("{}.{}", 2 + number / 4, number % 4)),
        "mpeg2video" => mpeg2_level(stream.profile.text(), number).map(str::to_owned),
        _ => Some(number.to_string()),
    }
}

/// ISO/IEC 13818-2, tables 8-3 and 8-8: the 4:2:2 profile numbers its levels differently.
fn mpeg2_level(profile: Option<&str>, number: u32) -> Option<&'static str> {
    match (profile, number) {
        (Some("4:2:2"), 2) => Some("High"),
        (Some("4:2:2"), 5) => Some("Main"),
        (_, 4) => Some("High"),
        (_, 6) => Some("High 1440"),
        (_, 8) => Some("Main"),
        (_, 10) => Some("Low"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(json: &str) -> Stream {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn levels_as_the_standards_write_them() {
        for (codec, profile, number, expected) in [
            ("h264", "High", 51, Some("5.1")),
            ("h264", "High", 40, Some("4.0")),
            ("h264", "Baseline", 9, Some("1b")),
            ("hevc", "Main 10", 153, Some("5.1")),
            ("hevc", "Main", 120, Some("4.0")),
            ("av1", "Main", 13, Some("5.1")),
            ("av1", "Main", 31, None),
            ("vp9", "Profile 0", 31, Some("3.1")),
            ("mpeg2video", "Main", 8, Some("Main")),
            ("mpeg2video", "4:2:2", 5, Some("Main")),
            ("mpeg2video", "Main", 3, None),
            ("mpeg4", "Simple Profile", 1, Some("1")),
            ("prores", "HQ", -99, None),
        ] {
            let json = format!(r#"{{"codec_name":"{codec}","profile":"{profile}","level":{number}}}"#);
            assert_eq!(level(&stream(&json)).as_deref(), expected, "{codec} {number}");
        }
    }

    #[test]
    fn scan_from_the_stream_then_from_an_interlaced_frame() {
        let frame = |json: &str| -> Frame { serde_json::from_str(json).unwrap() };
        let interlaced = frame(r#"{"interlaced_frame":1,"top_field_first":0}"#);
        let unknown = stream(r#"{"field_order":"unknown"}"#);
        assert_eq!(scan(&unknown, Some(&interlaced)), (Some(ScanType::Interlaced), Some(FieldOrder::Bb)));
        assert_eq!(scan(&unknown, Some(&frame(r#"{"interlaced_frame":0}"#))), (None, None));
        let progressive = stream(r#"{"field_order":"progressive"}"#);
        assert_eq!(scan(&progressive, Some(&interlaced)), (Some(ScanType::Progressive), None));
        let top = stream(r#"{"field_order":"tt"}"#);
        assert_eq!(scan(&top, None), (Some(ScanType::Interlaced), Some(FieldOrder::Tt)));
    }

    #[test]
    fn captions_are_absent_only_where_frames_were_seen() {
        let frame: Frame = serde_json::from_str("{}").unwrap();
        let a53 = r#"{"side_data_list":[{"side_data_type":"ATSC A53 Part 4 Closed Captions"}]}"#;
        let a53: Frame = serde_json::from_str(a53).unwrap();
        assert_eq!(closed_captions(&stream(r#"{"closed_captions":1}"#), None), Some(true));
        assert_eq!(closed_captions(&stream(r#"{"closed_captions":0}"#), None), None);
        assert_eq!(closed_captions(&stream(r#"{"closed_captions":0}"#), Some(&frame)), Some(false));
        assert_eq!(closed_captions(&stream(r#"{"closed_captions":0}"#), Some(&a53)), Some(true));
        assert_eq!(closed_captions(&stream("{}"), Some(&frame)), None);
    }

    #[test]
    fn tags_of_the_codec_are_readable_or_numbers() {
        let tag = |text: &str, number: &str| {
            stream(&format!(r#"{{"codec_tag_string":"{text}","codec_tag":"{number}"}}"#)).codec_tag()
        };
        assert_eq!(tag("avc1", "0x31637661").as_deref(), Some("avc1"));
        assert_eq!(tag("[2][0][0][0]", "0x0002").as_deref(), Some("0x0002"));
        assert_eq!(tag("[0][0][0][0]", "0x0000"), None);
    }

    #[test]
    fn unknown_shapes_are_null() {
        for text in ["0:1", "1:0", "N/A", "16", "a:b", "-1:1"] {
            assert_eq!(aspect(&serde_json::from_str(&format!("\"{text}\"")).unwrap()), None, "{text}");
        }
    }
}
