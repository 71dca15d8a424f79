//! The file as a whole, and what its container and its writer say about how far the tracks' numbers can be trusted.
//! Used by [`super::normalize`]. What only the box headers tell (faststart, fragments) stays null here.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::raw::{Format, Stream};
use super::timecode::{Timecode, timecode};

/// ffprobe's name for the demuxer of the MP4 and QuickTime family.
const MOV_FAMILY: &str = "mov,mp4,m4a,3gp,3g2,mj2";
/// ffprobe's name for the demuxer of Matroska and WebM.
const MATROSKA_FAMILY: &str = "matroska,webm";
/// Containers whose header fixes one rate for all frames.
const FIXED_RATE: [&str; 6] = ["mxf", "mxf_opatom", "avi", "dv", "gxf", "lxf"];
/// What a WebM file may hold.
const WEBM_CODECS: [&str; 6] = ["vp8", "vp9", "av1", "vorbis", "opus", "webvtt"];

/// The file as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Container {
    /// One word for the container. From ffprobe's `format_name`; where that names a family: by the major brand `mov`
    /// (`qt` or none), `m4a`, `3gp`, `3g2`, `mj2`, `heif`, `avif`, else `mp4`; and `webm` if every track is one that
    /// WebM allows and the name does not say `.mkv`, else `matroska`.
    #[schema(example = "mov")]
    pub format: Option<String>,
    /// Major brand of the MP4 family, without padding: `isom`, `qt`, `mp42`.
    pub brand: Option<String>,
    /// Size in bytes, as the worker saw it.
    pub size_bytes: u64,
    /// Duration in seconds: what ffprobe says of the container, else the longest track.
    pub duration_seconds: Option<f64>,
    /// Time stamp of the first packet in seconds; rarely zero in transport streams, negative with encoder delay.
    pub start_seconds: Option<f64>,
    /// Average bits per second of the whole file.
    pub bit_rate: Option<u64>,
    /// Whether the index stands before the media, so that playback can start while loading (MP4 family).
    pub faststart: Option<bool>,
    /// Whether the media is cut into movie fragments (MP4 family).
    pub fragmented: Option<bool>,
    /// The program that wrote the file: tag `encoder`, else the product of an MXF header, else tag `software`.
    pub writing_application: Option<String>,
    /// When the file says it was made: tag `creation_time`. Null without a time zone, and for clocks that were never set.
    pub created_at: Option<DateTime<Utc>>,
    /// Where the timecode starts.
    pub timecode: Option<Timecode>,
}

impl Container {
    /// Takes the longest track where the container states no duration.
    pub(super) fn fill_duration(&mut self, longest: Option<f64>) {
        self.duration_seconds = self.duration_seconds.or(longest);
    }
}

/// How the container times its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timing {
    /// A table of every sample's duration: an average over it is exact.
    SampleTable,
    /// One rate for the whole file.
    Fixed,
    /// Time stamps with at most a declared rate: proves nothing about all frames.
    Declared,
}

/// Who wrote the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// FFmpeg's muxers. They copy statistics tags from the input unchecked and count Matroska's DURATION from zero.
    Ffmpeg,
    /// Anybody else.
    Other,
}

/// What the tracks need to know about the file they are in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) timing: Timing,
    pub(super) writer: Writer,
}

impl Origin {
    /// Reads it from the container.
    pub(super) fn of(format: &Format) -> Self {
        let timing = match format.format_name.text() {
            Some(MOV_FAMILY) => Timing::SampleTable,
            Some(name) if FIXED_RATE.contains(&name) => Timing::Fixed,
            _ => Timing::Declared,
        };
        let ffmpeg = format.tags.get("encoder").is_some_and(|encoder| encoder.starts_with("Lavf"));
        Self { timing, writer: if ffmpeg { Writer::Ffmpeg } else { Writer::Other } }
    }
}

pub(super) fn container(name: &str, size_bytes: u64, format: &Format, streams: &[Stream]) -> Container {
    let brand = format.tags.get("major_brand").map(|brand| brand.trim().to_owned());
    Container {
        format: format.format_name.text().map(|family| format_word(family, brand.as_deref(), name, streams)),
        brand,
        size_bytes,
        duration_seconds: format.duration.number().filter(|seconds| *seconds >= 0.0),
        start_seconds: format.start_time.number(),
        bit_rate: format.bit_rate.positive(),
        faststart: None,
        fragmented: None,
        writing_application: writing_application(format),
        created_at: created_at(format, streams),
        timecode: timecode(format, streams),
    }
}

fn format_word(family: &str, brand: Option<&str>, name: &str, streams: &[Stream]) -> String {
    let word = match family {
        MOV_FAMILY => match brand {
            None | Some("qt") => "mov",
            Some("M4A" | "M4B" | "M4P") => "m4a",
            Some("mjp2" | "mj2s") => "mj2",
            Some("heic" | "heix" | "hevc" | "hevx" | "mif1" | "msf1") => "heif",
            Some("avif" | "avis") => "avif",
            Some(brand) if brand.starts_with("3g2") => "3g2",
            Some(brand) if brand.starts_with("3g") => "3gp",
            Some(_) => "mp4",
        },
        MATROSKA_FAMILY if is_webm(name, streams) => "webm",
        _ => family.split(',').next().unwrap_or(family),
    };
    word.to_owned()
}

/// ffprobe does not print Matroska's DocType, so the tracks decide, and a name that says Matroska.
fn is_webm(name: &str, streams: &[Stream]) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let named_matroska = matches!(extension.as_deref(), Some("mkv" | "mka" | "mks" | "mk3d"));
    let allowed = |stream: &Stream| stream.codec_name.text().is_some_and(|codec| WEBM_CODECS.contains(&codec));
    !named_matroska && !streams.is_empty() && streams.iter().all(allowed)
}

fn writing_application(format: &Format) -> Option<String> {
    let tag = |name| format.tags.get(name).map(str::to_owned);
    let mxf = || {
        let parts = ["company_name", "product_name", "product_version"].map(|name| format.tags.get(name));
        parts[1]?;
        Some(parts.into_iter().flatten().collect::<Vec<_>>().join(" "))
    };
    tag("encoder").or_else(mxf).or_else(|| tag("software")).or_else(|| tag("com.apple.quicktime.software"))
}

fn created_at(format: &Format, streams: &[Stream]) -> Option<DateTime<Utc>> {
    let tags = std::iter::once(&format.tags).chain(streams.iter().map(|stream| &stream.tags));
    tags.filter_map(|tags| tags.get("creation_time")).find_map(moment)
}

fn moment(text: &str) -> Option<DateTime<Utc>> {
    let moment = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    // The zero of QuickTime's clock and of Unix's: nobody set it.
    let zeros = ["1904-01-01T00:00:00Z", "1970-01-01T00:00:00Z"];
    let unset = zeros.iter().filter_map(|zero| DateTime::parse_from_rfc3339(zero).ok()).any(|zero| zero == moment);
    (!unset).then_some(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(family: &str, brand: Option<&str>, name: &str, streams: &str) -> String {
        let streams: Vec<Stream> = serde_json::from_str(streams).unwrap();
        format_word(family, brand, name, &streams)
    }

    #[test]
    fn one_word_for_a_family() {
        for (brand, expected) in [
            (None, "mov"),
            (Some("qt"), "mov"),
            (Some("isom"), "mp4"),
            (Some("XAVC"), "mp4"),
            (Some("M4A"), "m4a"),
            (Some("M4V"), "mp4"),
            (Some("3gp5"), "3gp"),
            (Some("3ge6"), "3gp"),
            (Some("3g2a"), "3g2"),
        ] {
            assert_eq!(word(MOV_FAMILY, brand, "a", "[]"), expected, "{brand:?}");
        }
        for plain in ["mpegts", "mpeg", "mxf", "wav", "flac", "mp3", "ogg"] {
            assert_eq!(word(plain, None, "a", "[]"), plain);
        }
        assert_eq!(word("x,y", None, "a", "[]"), "x");
    }

    #[test]
    fn webm_is_what_webm_allows() {
        let webm = r#"[{"codec_name":"vp9"},{"codec_name":"opus"}]"#;
        assert_eq!(word(MATROSKA_FAMILY, None, "upload-7", webm), "webm");
        assert_eq!(word(MATROSKA_FAMILY, None, "a.MKV", webm), "matroska");
        assert_eq!(word(MATROSKA_FAMILY, None, "a.webm", r#"[{"codec_name":"h264"}]"#), "matroska");
        assert_eq!(word(MATROSKA_FAMILY, None, "a.webm", r#"[{"codec_name":"vp9"},{}]"#), "matroska");
        assert_eq!(word(MATROSKA_FAMILY, None, "a.webm", "[]"), "matroska");
    }

    #[test]
    fn creation_times_need_a_zone_and_a_clock() {
        assert_eq!(moment("2024-05-06T07:08:09.000000Z").unwrap().to_rfc3339(), "2024-05-06T07:08:09+00:00");
        assert_eq!(moment("2024-05-06T09:08:09+02:00"), moment("2024-05-06T07:08:09Z"));
        for text in
            ["07:08:09", "2024-05-06", "2024-05-06T07:08:09", "1904-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z"]
        {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    #[test]
    fn the_writer_of_an_mxf_stands_in_three_tags() {
        let format: Format = serde_json::from_str(
            r#"{"tags":{"company_name":"FFmpeg","product_name":"OP1a Muxer","product_version":"59.27.100"}}"#,
        )
        .unwrap();
        assert_eq!(writing_application(&format).as_deref(), Some("FFmpeg OP1a Muxer 59.27.100"));
    }
}
