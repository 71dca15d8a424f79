//! How a picture has to be turned to stand upright. Used by [`super::video`].
//!
//! Convention: degrees clockwise, 0, 90, 180 or 270, to be applied to the decoded picture before display. A phone held
//! upright usually says 90. ffprobe's `rotation` counts the other way; its old `rotate` tag counts like ours.

use super::raw::{Frame, SideData, Stream};

/// Degrees by which a matrix may miss a right angle; cameras write rounded sines.
const TOLERANCE_DEGREES: f64 = 1.0;

/// From the display matrix of the stream, else the `rotate` tag, else the display matrix of the first frame, else 0.
/// Null when the picture is mirrored or turned by another angle: no right angle describes that.
pub(super) fn rotation(stream: &Stream, frame: Option<&Frame>) -> Option<u16> {
    let of_matrix = |list: &[SideData]| list.iter().find(|data| data.rotation.number().is_some()).map(clockwise);
    let tag = || stream.tags.get("rotate").map(|tag| right_angle(tag.trim().parse().ok()?));
    of_matrix(&stream.side_data_list).or_else(tag).or_else(|| of_matrix(&frame?.side_data_list)).unwrap_or(Some(0))
}

fn clockwise(data: &SideData) -> Option<u16> {
    if data.displaymatrix.text().and_then(determinant).is_some_and(|determinant| determinant < 0) {
        return None;
    }
    right_angle(-data.rotation.number()?)
}

fn right_angle(degrees: f64) -> Option<u16> {
    let turned = degrees.rem_euclid(360.0);
    let near = |angle: u16| (turned - f64::from(angle)).abs() <= TOLERANCE_DEGREES;
    [0, 90, 180, 270, 360].into_iter().find(|angle| near(*angle)).map(|angle| angle % 360)
}

/// The sign of the plane part of ffprobe's printed matrix: three lines of `address: a b u`. Negative means mirrored.
fn determinant(matrix: &str) -> Option<i128> {
    let mut rows = matrix.lines().filter_map(|line| line.split_once(':')).map(|(_, row)| {
        let mut cells = row.split_whitespace().map(|cell| cell.parse::<i32>().ok().map(i128::from));
        Some((cells.next()??, cells.next()??))
    });
    let ((a, b), (c, d)) = (rows.next()??, rows.next()??);
    Some(a * d - b * c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Option<u16> {
        rotation(&serde_json::from_str(json).unwrap(), None)
    }

    #[test]
    fn clockwise_from_ffprobes_counterclockwise() {
        for (rotation, expected) in [("-90", 90), ("90", 270), ("180", 180), ("-180", 180), ("0", 0), ("\"-89.9\"", 90)]
        {
            let json = format!(r#"{{"side_data_list":[{{}},{{"rotation":{rotation}}}]}}"#);
            assert_eq!(of(&json), Some(expected), "{rotation}");
        }
        assert_eq!(of(r#"{"tags":{"rotate":"90"}}"#), Some(90));
        assert_eq!(of(r#"{"tags":{"rotate":"-90"}}"#), Some(270));
        assert_eq!(of("{}"), Some(0));
    }

    #[test]
    fn mirrored_and_odd_angles_have_no_right_angle() {
        let mirrored =
            r"\n00000000:       -65536           0           0\n00000001:            0       65536           0\n";
        let json = format!(r#"{{"side_data_list":[{{"rotation":-180,"displaymatrix":"{mirrored}"}}]}}"#);
        assert_eq!(of(&json), None);
        for rotation in ["45", "-9223372036854775808", "1e308", "\"nan\""] {
            let json = format!(r#"{{"side_data_list":[{{"rotation":{rotation}}}]}}"#);
            assert!(matches!(of(&json), None | Some(0)), "{rotation}");
        }
    }

    #[test]
    fn a_frame_may_know_what_the_stream_does_not() {
        let frame: Frame = serde_json::from_str(r#"{"side_data_list":[{"rotation":-90}]}"#).unwrap();
        assert_eq!(rotation(&Stream::default(), Some(&frame)), Some(90));
    }
}
