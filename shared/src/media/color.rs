//! How numbers become colours. Used by [`super::video`] and, for the transfer, by [`super::hdr`].

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::raw::{Frame, Scalar, Stream};

/// Colour description in ffprobe's words (those of ITU-T H.273), from the stream, else from the first frame. Null means
/// that the file does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Color {
    /// `tv` (limited) or `pc` (full).
    pub range: Option<String>,
    /// Primaries: `bt709`, `bt2020`, `smpte432`.
    pub primaries: Option<String>,
    /// Transfer characteristics: `bt709`, `smpte2084` (PQ), `arib-std-b67` (HLG).
    pub transfer: Option<String>,
    /// Matrix coefficients: `bt709`, `bt2020nc`, `gbr`.
    pub matrix: Option<String>,
}

pub(super) fn color(stream: &Stream, frame: Option<&Frame>) -> Color {
    let pick = |of_stream: &Scalar, of_frame: fn(&Frame) -> &Scalar| {
        of_stream.text().or_else(|| of_frame(frame?).text()).map(str::to_owned)
    };
    Color {
        range: pick(&stream.color_range, |frame| &frame.color_range),
        primaries: pick(&stream.color_primaries, |frame| &frame.color_primaries),
        transfer: pick(&stream.color_transfer, |frame| &frame.color_transfer),
        matrix: pick(&stream.color_space, |frame| &frame.color_space),
    }
}
