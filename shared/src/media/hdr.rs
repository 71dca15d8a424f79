//! High dynamic range: which formats a picture carries and its static metadata. Used by [`super::video`].
//!
//! HDR10's metadata often stands only in the first frame, so without that frame plain PQ is not told from HDR10, and a
//! stream that may be HDR is not called standard range. Rules for `formats`:
//!
//! * PQ (`smpte2084`) with mastering display or content light metadata and BT.2020 primaries (or none stated): `HDR10`;
//!   other PQ: `PQ`. HLG (`arib-std-b67`): `HLG`. Dynamic metadata and Dolby Vision by their own side data.
//! * A Dolby Vision stream whose base layer is compatible with nothing (profile 5) is only `Dolby Vision`.
//! * None of these, the first frame read: `[]` if the transfer is stated and is one of standard range, or is not stated and
//!   the picture has 8 bits, which no HDR format uses. Otherwise, as with log or untagged 10 bits: null.
//! * Without the first frame: what the stream itself proves, else null. A stream that states a standard-range transfer, or
//!   none and has 8 bits, and whose primaries are not BT.2020, proves that it is standard range: every HDR format needs PQ or
//!   HLG, wide primaries, a Dolby Vision record, or more than 8 bits. The worker spares such files the second run of
//!   ffprobe that reads a frame.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::raw::{Frame, Scalar, SideData, Stream};

const PQ: &str = "smpte2084";
const HLG: &str = "arib-std-b67";
/// Transfer characteristics that mean standard dynamic range, in ffprobe's words.
const STANDARD_RANGE: [&str; 11] = [
    "bt709",
    "smpte170m",
    "smpte240m",
    "bt470m",
    "bt470bg",
    "gamma22",
    "gamma28",
    "iec61966-2-1",
    "iec61966-2-4",
    "bt2020-10",
    "bt2020-12",
];
/// Codec tags that say Dolby Vision.
const DOLBY_TAGS: [&str; 5] = ["dvh1", "dvhe", "dvav", "dva1", "dav1"];

/// A kind of high dynamic range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum HdrFormat {
    /// PQ with static metadata (SMPTE ST 2086, CTA-861.3).
    #[serde(rename = "HDR10")]
    Hdr10,
    /// Dynamic metadata, SMPTE ST 2094-40.
    #[serde(rename = "HDR10+")]
    Hdr10Plus,
    /// Hybrid log-gamma, ITU-R BT.2100.
    #[serde(rename = "HLG")]
    Hlg,
    /// Perceptual quantiser, ITU-R BT.2100, without static metadata.
    #[serde(rename = "PQ")]
    Pq,
    /// Dolby Vision.
    #[serde(rename = "Dolby Vision")]
    DolbyVision,
    /// HDR Vivid, CUVA 005.1.
    #[serde(rename = "HDR Vivid")]
    Vivid,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HdrBasis {
    /// The stream's headers and the first frame.
    FirstFrame,
    /// The stream's headers only.
    Stream,
}

/// High dynamic range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Hdr {
    /// The formats carried, several if compatible; `[]` is known standard range, null is unknown.
    pub formats: Option<Vec<HdrFormat>>,
    /// Maximum content light level in cd/m².
    pub max_cll: Option<u32>,
    /// Maximum frame-average light level in cd/m².
    pub max_fall: Option<u32>,
    /// The display the picture was graded on.
    pub mastering_display: Option<MasteringDisplay>,
    /// Dolby Vision's configuration; all null inside if only its frames were seen.
    pub dolby_vision: Option<DolbyVision>,
    /// What was looked at.
    pub basis: HdrBasis,
}

/// The display the picture was graded on (SMPTE ST 2086).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MasteringDisplay {
    /// Red primary.
    pub red: Option<Chromaticity>,
    /// Green primary.
    pub green: Option<Chromaticity>,
    /// Blue primary.
    pub blue: Option<Chromaticity>,
    /// White point.
    pub white_point: Option<Chromaticity>,
    /// Darkest luminance in cd/m².
    pub min_luminance: Option<f64>,
    /// Brightest luminance in cd/m².
    pub max_luminance: Option<f64>,
}

/// A colour in the CIE 1931 diagram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Chromaticity {
    /// x, 0 to 1.
    pub x: f64,
    /// y, 0 to 1.
    pub y: f64,
}

/// Dolby Vision's configuration record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DolbyVision {
    /// Profile: 5, 7, 8, 10.
    pub profile: Option<u32>,
    /// Level.
    pub level: Option<u32>,
    /// Whether the base layer is in this stream.
    pub bl_present: Option<bool>,
    /// Whether an enhancement layer is in this stream.
    pub el_present: Option<bool>,
    /// Whether dynamic metadata is in this stream.
    pub rpu_present: Option<bool>,
    /// What the base layer is compatible with: 0 nothing, 1 HDR10, 2 SDR, 4 HLG, 6 Blu-ray HDR10.
    pub bl_compatibility_id: Option<u32>,
}

/// Reads it from the stream and, if it was read, the first frame. `bit_depth` is that of the stream.
pub(super) fn hdr(stream: &Stream, frame: Option<&Frame>, bit_depth: Option<u32>) -> Hdr {
    let of_frame: &[SideData] = frame.map_or(&[], |frame| &frame.side_data_list);
    let side_data = SideDataOf { of_frame, of_stream: &stream.side_data_list };
    let light = side_data.find(|kind| kind == "Content light level metadata");
    let mastering_display = side_data.find(|kind| kind == "Mastering display metadata").map(mastering_display);
    let dolby_vision = dolby_vision(stream, &side_data);
    let mut formats = Vec::new();
    if dolby_vision.is_some() {
        formats.push(HdrFormat::DolbyVision);
    }
    if side_data.find(|kind| kind.contains("SMPTE2094-40")).is_some() {
        formats.push(HdrFormat::Hdr10Plus);
    }
    if side_data.find(|kind| kind.contains("CUVA 005.1")).is_some() {
        formats.push(HdrFormat::Vivid);
    }
    let transfer = transfer(stream, frame);
    if dolby_vision.as_ref().and_then(|dolby| dolby.bl_compatibility_id) != Some(0) {
        let has_static = light.is_some() || mastering_display.is_some();
        match transfer {
            Some(PQ) if has_static && wide(stream, frame) => formats.push(HdrFormat::Hdr10),
            // HDR10+ implies PQ, and so do the others; without the frame, this may be HDR10 as well.
            Some(PQ) if formats.is_empty() && frame.is_some() => formats.push(HdrFormat::Pq),
            Some(HLG) => formats.push(HdrFormat::Hlg),
            _ => {}
        }
    }
    let is_standard_range = || {
        let stated = transfer.is_some_and(|transfer| STANDARD_RANGE.contains(&transfer));
        let proven = frame.is_some() || !may_hide_hdr(stream);
        proven && (stated || (transfer.is_none() && bit_depth == Some(8)))
    };
    let known = !formats.is_empty() || is_standard_range();
    Hdr {
        formats: known.then_some(formats),
        max_cll: light.and_then(|light| light.max_content.positive()),
        max_fall: light.and_then(|light| light.max_average.positive()),
        mastering_display,
        dolby_vision,
        basis: if frame.is_some() { HdrBasis::FirstFrame } else { HdrBasis::Stream },
    }
}

/// Whether a frame may say more than the stream does: wide primaries or the transfers of BT.2020 come with HDR, too.
fn may_hide_hdr(stream: &Stream) -> bool {
    let wide = stream.color_primaries.text() == Some("bt2020");
    wide || matches!(stream.color_transfer.text(), Some("bt2020-10" | "bt2020-12"))
}

/// Side data of the first frame, then of the stream.
struct SideDataOf<'a> {
    of_frame: &'a [SideData],
    of_stream: &'a [SideData],
}

impl<'a> SideDataOf<'a> {
    fn find(&self, is_kind: impl Fn(&str) -> bool) -> Option<&'a SideData> {
        self.of_frame.iter().chain(self.of_stream).find(|data| data.side_data_type.text().is_some_and(&is_kind))
    }
}

/// The transfer characteristics, where one that says HDR wins over one that does not: a container may repeat what an
/// older player should believe.
fn transfer<'a>(stream: &'a Stream, frame: Option<&'a Frame>) -> Option<&'a str> {
    let of_frame = frame.and_then(|frame| frame.color_transfer.text());
    let of_stream = stream.color_transfer.text();
    let says_hdr = |transfer: &&str| [PQ, HLG].contains(transfer);
    of_frame.filter(says_hdr).or(of_stream.filter(says_hdr)).or(of_frame).or(of_stream)
}

/// Whether the primaries are those HDR10 demands, or are not stated.
fn wide(stream: &Stream, frame: Option<&Frame>) -> bool {
    let of_frame = frame.and_then(|frame| frame.color_primaries.text());
    matches!(of_frame.or(stream.color_primaries.text()), None | Some("bt2020"))
}

/// Reads it from an entry of side data of its kind.
pub(crate) fn mastering_display(data: &SideData) -> MasteringDisplay {
    let within = |scalar: &Scalar| scalar.ratio().filter(|value| (0.0..=1.0).contains(value));
    let point = |x: &Scalar, y: &Scalar| Some(Chromaticity { x: within(x)?, y: within(y)? });
    let luminance = |scalar: &Scalar| scalar.ratio().filter(|value| *value >= 0.0);
    MasteringDisplay {
        red: point(&data.red_x, &data.red_y),
        green: point(&data.green_x, &data.green_y),
        blue: point(&data.blue_x, &data.blue_y),
        white_point: point(&data.white_point_x, &data.white_point_y),
        min_luminance: luminance(&data.min_luminance),
        max_luminance: luminance(&data.max_luminance),
    }
}

fn dolby_vision(stream: &Stream, side_data: &SideDataOf) -> Option<DolbyVision> {
    let record = side_data.find(|kind| kind == "DOVI configuration record");
    let tagged = stream.codec_tag_string.text().is_some_and(|tag| DOLBY_TAGS.contains(&tag));
    let in_frame = side_data.find(|kind| kind.starts_with("Dolby Vision")).is_some();
    let nothing = SideData::default();
    let record = record.or((tagged || in_frame).then_some(&nothing))?;
    Some(DolbyVision {
        profile: record.dv_profile.positive_or_zero(),
        level: record.dv_level.positive_or_zero(),
        bl_present: record.bl_present_flag.flag(),
        el_present: record.el_present_flag.flag(),
        rpu_present: record.rpu_present_flag.flag(),
        bl_compatibility_id: record.dv_bl_signal_compatibility_id.positive_or_zero(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTERING: &str = r#"{"side_data_type":"Mastering display metadata","red_x":"34000/50000","red_y":"16000/50000",
        "white_point_x":"1/0","white_point_y":"16450/50000","min_luminance":"50/10000","max_luminance":"10000000/10000"}"#;
    const LIGHT: &str = r#"{"side_data_type":"Content light level metadata","max_content":1000,"max_average":0}"#;

    fn read(stream: &str, frame: Option<&str>, bits: u32) -> Hdr {
        let frame: Option<Frame> = frame.map(|frame| serde_json::from_str(frame).unwrap());
        hdr(&serde_json::from_str(stream).unwrap(), frame.as_ref(), Some(bits))
    }

    fn formats(stream: &str, frame: Option<&str>, bits: u32) -> Option<Vec<HdrFormat>> {
        read(stream, frame, bits).formats
    }

    #[test]
    fn hdr10_metadata_may_stand_only_in_the_frame() {
        let stream = r#"{"color_transfer":"smpte2084","color_primaries":"bt2020"}"#;
        let frame = format!(r#"{{"side_data_list":[{MASTERING},{LIGHT}]}}"#);
        let hdr = read(stream, Some(&frame), 10);
        assert_eq!(hdr.formats, Some(vec![HdrFormat::Hdr10]));
        assert_eq!((hdr.max_cll, hdr.max_fall, hdr.basis), (Some(1000), None, HdrBasis::FirstFrame));
        let display = hdr.mastering_display.unwrap();
        assert_eq!(display.red, Some(Chromaticity { x: 0.68, y: 0.32 }));
        assert_eq!(
            (display.white_point, display.min_luminance, display.max_luminance),
            (None, Some(0.005), Some(1000.0))
        );
        assert_eq!(formats(stream, None, 10), None, "not seen is not plain PQ");
        assert_eq!(formats(stream, Some("{}"), 10), Some(vec![HdrFormat::Pq]));
    }

    #[test]
    fn standard_range_is_never_a_guess() {
        assert_eq!(formats("{}", None, 8), Some(vec![]));
        assert_eq!(formats(r#"{"color_transfer":"bt709"}"#, None, 10), Some(vec![]));
        assert_eq!(formats("{}", None, 10), None, "a frame may say more");
        assert_eq!(formats(r#"{"color_transfer":"bt2020-10"}"#, None, 10), None);
        assert_eq!(formats(r#"{"color_transfer":"bt709","color_primaries":"bt2020"}"#, None, 8), None);
        assert_eq!(formats(r#"{"color_transfer":"bt709"}"#, Some("{}"), 10), Some(vec![]));
        assert_eq!(formats("{}", Some("{}"), 8), Some(vec![]));
        assert_eq!(formats("{}", Some("{}"), 10), None, "untagged 10 bits may be anything");
        assert_eq!(formats(r#"{"color_transfer":"log100"}"#, Some("{}"), 10), None);
        assert_eq!(formats(r#"{"color_transfer":"arib-std-b67"}"#, None, 10), Some(vec![HdrFormat::Hlg]));
    }

    #[test]
    fn an_hdr_transfer_in_the_frame_wins() {
        let stream = r#"{"color_transfer":"bt2020-10"}"#;
        let frame = r#"{"color_transfer":"arib-std-b67"}"#;
        assert_eq!(formats(stream, Some(frame), 10), Some(vec![HdrFormat::Hlg]));
    }

    #[test]
    fn p3_in_pq_is_not_hdr10() {
        let stream = r#"{"color_transfer":"smpte2084","color_primaries":"smpte432"}"#;
        let frame = format!(r#"{{"side_data_list":[{MASTERING}]}}"#);
        assert_eq!(formats(stream, Some(&frame), 12), Some(vec![HdrFormat::Pq]));
    }

    #[test]
    fn dolby_vision_and_its_base_layer() {
        let record = |profile: u32, id: u32| {
            format!(
                r#"{{"color_transfer":"smpte2084","side_data_list":[{MASTERING},{{"side_data_type":"DOVI configuration record",
                "dv_profile":{profile},"dv_level":6,"rpu_present_flag":1,"el_present_flag":0,"bl_present_flag":1,
                "dv_bl_signal_compatibility_id":{id}}}]}}"#
            )
        };
        assert_eq!(formats(&record(5, 0), Some("{}"), 10), Some(vec![HdrFormat::DolbyVision]));
        let hdr = read(&record(8, 1), None, 10);
        assert_eq!(hdr.formats, Some(vec![HdrFormat::DolbyVision, HdrFormat::Hdr10]));
        let dolby = hdr.dolby_vision.unwrap();
        assert_eq!((dolby.profile, dolby.level, dolby.el_present), (Some(8), Some(6), Some(false)));
        let tagged = read(r#"{"codec_tag_string":"dvh1"}"#, None, 10);
        assert_eq!(tagged.formats, Some(vec![HdrFormat::DolbyVision]));
        assert_eq!(tagged.dolby_vision.unwrap().profile, None);
    }

    #[test]
    fn dynamic_metadata() {
        let frame = r#"{"color_transfer":"smpte2084","side_data_list":[
            {"side_data_type":"HDR Dynamic Metadata SMPTE2094-40 (HDR10+)"},
            {"side_data_type":"HDR Dynamic Metadata CUVA 005.1 2021 (Vivid)"}]}"#;
        assert_eq!(formats("{}", Some(frame), 10), Some(vec![HdrFormat::Hdr10Plus, HdrFormat::Vivid]));
    }
}
