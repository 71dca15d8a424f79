//! Where a file's timecode starts. Used by [`super::container`]. Only a well-formed SMPTE 12M label counts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::raw::{Format, Stream};

/// The timecode of the first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Timecode {
    /// The label as the file has it, `hours:minutes:seconds:frames`; `;` or `.` before the frames means drop-frame.
    #[schema(example = "01:00:00;00")]
    pub start: String,
    /// Whether labels are dropped to keep step with the clock at 29.97 or 59.94 frames per second.
    pub drop_frame: bool,
}

/// The timecode from the tags: of the container, else of the first video stream, else of a timecode track (`tmcd`),
/// else of any other stream. FFmpeg copies the label of a `tmcd` track to the video that refers to it.
pub(super) fn timecode(format: &Format, streams: &[Stream]) -> Option<Timecode> {
    let video = streams.iter().filter(|stream| stream.codec_type.text() == Some("video"));
    let tmcd = streams.iter().filter(|stream| stream.codec_tag_string.text() == Some("tmcd"));
    let tracks = video.chain(tmcd).chain(streams).map(|stream| &stream.tags);
    std::iter::once(&format.tags).chain(tracks).find_map(|tags| parse(tags.get("timecode")?))
}

fn parse(label: &str) -> Option<Timecode> {
    let &[h1, h2, b':', m1, m2, b':', s1, s2, separator, ref frames @ ..] = label.as_bytes() else { return None };
    let drop_frame = match separator {
        b':' => false,
        b';' | b'.' => true,
        _ => return None,
    };
    let digits = [h1, h2, m1, m2, s1, s2].iter().chain(frames).all(u8::is_ascii_digit);
    let in_range = h1 <= b'2' && m1 <= b'5' && s1 <= b'5' && (2..=3).contains(&frames.len());
    (digits && in_range).then(|| Timecode { start: label.to_owned(), drop_frame })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_smpte_labels_and_nothing_else() {
        assert!(!parse("10:00:00:00").unwrap().drop_frame);
        assert!(parse("01:00:00;29").unwrap().drop_frame);
        assert!(parse("01:00:00.29").unwrap().drop_frame);
        assert!(parse("01:00:00:119").is_some());
        for label in
            ["", "01:00:00", "1:00:00:00", "01:00:00:0", "01:00:00:0000", "aa:00:00:00", "01:60:00:00", "é1:00:00:00"]
        {
            assert_eq!(parse(label), None, "{label}");
        }
    }
}
