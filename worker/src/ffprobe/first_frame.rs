//! Whether a second run is worth its cost: one that reads a key frame, because HDR10's mastering display and light
//! levels, HDR10+ and Dolby Vision metadata often stand only there. Pure; called between the two runs.
//!
//! Why not in the one run: `-show_frames` shows frames of every stream and `-select_streams` would hide the other
//! streams. Of 11 files measured, 3 had no video packet first, so N packets would have to be read and decoded: 10 packets
//! of 4K HEVC cost 0.15–0.35 s of processor time, 10 of ProRes 0.38 s, and still promise no video frame. A second run
//! costs 0.07 s (mostly the loader's), and only the files below pay it.

use serde::Deserialize;

/// A frame worth reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Index of the stream.
    pub(super) stream: u32,
    /// How many of its packets to read.
    pub(super) packets: u32,
}

/// Formats that are often cut from a broadcast and so do not begin with a key frame.
const CUT_ANYWHERE: [&str; 5] = ["mpegts", "mpeg", "h264", "hevc", "mpegvideo"];
/// Enough packets to meet a key frame at two and a half seconds a group of pictures and 50 frames a second.
const GROUP_OF_PICTURES: u32 = 128;

#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Format {
    format_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Stream {
    index: u32,
    codec_type: String,
    pix_fmt: String,
    color_transfer: Option<String>,
    color_primaries: Option<String>,
    disposition: Disposition,
    side_data_list: Vec<SideData>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Disposition {
    attached_pic: u8,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SideData {
    side_data_type: String,
}

/// The frame to read of a file that ffprobe described, if any.
pub(super) fn wanted(description: &str) -> Option<Wanted> {
    let Description { streams, format } = serde_json::from_str(description).ok()?;
    let stream = streams.iter().find(|s| may_be_hdr(s))?.index;
    let packets = if CUT_ANYWHERE.contains(&format.format_name.as_str()) { GROUP_OF_PICTURES } else { 1 };
    Some(Wanted { stream, packets })
}

/// HDR needs a transfer function or primaries that say so, Dolby Vision, or (where nothing is said) more than 8 bits.
fn may_be_hdr(stream: &Stream) -> bool {
    if stream.codec_type != "video" || stream.disposition.attached_pic != 0 {
        return false;
    }
    if stream.side_data_list.iter().any(|s| s.side_data_type.starts_with("DOVI")) {
        return true;
    }
    if stream.color_primaries.as_deref() == Some("bt2020") {
        return true;
    }
    match stream.color_transfer.as_deref() {
        Some("smpte2084" | "arib-std-b67" | "bt2020-10" | "bt2020-12") => true,
        Some("unknown" | "reserved") | None => is_deep(&stream.pix_fmt),
        Some(_) => false,
    }
}

/// Whether a pixel format has more than 8 bits a sample: they end in the bits and the byte order, as in `yuv420p10le`.
fn is_deep(pix_fmt: &str) -> bool {
    let Some(rest) = pix_fmt.strip_suffix("le").or_else(|| pix_fmt.strip_suffix("be")) else { return false };
    ["9", "10", "12", "14", "16", "32", "48", "64"].iter().any(|bits| rest.ends_with(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(fields: &str) -> Option<Wanted> {
        wanted(&format!(
            r#"{{"streams":[{{"index":0,"codec_type":"audio"}},{{"index":1,"codec_type":"video"{fields}}}],"format":{{"format_name":"mov,mp4"}}}}"#
        ))
    }

    #[test]
    fn only_what_may_be_hdr_is_looked_at_again() {
        for fields in [
            r#","color_transfer":"smpte2084""#,
            r#","color_transfer":"arib-std-b67","pix_fmt":"yuv420p""#,
            r#","color_transfer":"bt709","color_primaries":"bt2020""#,
            r#","pix_fmt":"yuv420p10le""#,
            r#","color_transfer":"unknown","pix_fmt":"p010le""#,
            r#","pix_fmt":"yuv420p","side_data_list":[{"side_data_type":"DOVI configuration record"}]"#,
        ] {
            assert_eq!(video(fields), Some(Wanted { stream: 1, packets: 1 }), "{fields}");
        }
        for fields in [
            "",
            r#","pix_fmt":"yuv420p""#,
            r#","pix_fmt":"rgb565le","color_transfer":"unknown""#,
            r#","pix_fmt":"yuv422p10le","color_transfer":"bt709","color_primaries":"bt709""#,
            r#","pix_fmt":"yuv420p10le","disposition":{"attached_pic":1}"#,
        ] {
            assert_eq!(video(fields), None, "{fields}");
        }
        assert_eq!(wanted("{}"), None);
        assert_eq!(wanted("not json"), None);
    }

    #[test]
    fn a_stream_cut_anywhere_is_read_up_to_its_next_key_frame() {
        let ts = r#"{"streams":[{"index":0,"codec_type":"video","color_transfer":"smpte2084"}],"format":{"format_name":"mpegts"}}"#;
        assert_eq!(wanted(ts), Some(Wanted { stream: 0, packets: GROUP_OF_PICTURES }));
    }
}
