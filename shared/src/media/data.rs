//! Tracks that are neither picture, sound nor text. Used by [`super::normalize`], also for streams of unknown kind, so
//! that no stream of a file disappears from its description.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::container::Origin;
use super::raw::Stream;
use super::track::{Track, track};

/// A track of other data: timecode (`tmcd`), KLV, SCTE-35, or of a kind ffprobe does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Data {
    /// ffprobe's stream index.
    pub index: u32,
    /// Codec in ffprobe's word: `klv`, `scte_35`, `timed_id3`; often null.
    pub codec: Option<String>,
    /// The codec's tag in the container: `tmcd`, `KLVA`, or a number such as `0x0086`.
    pub codec_tag: Option<String>,
    /// What every track has.
    #[serde(flatten)]
    pub track: Track,
}

pub(super) fn data(index: u32, stream: &Stream, origin: Origin) -> Data {
    Data {
        index,
        codec: stream.codec_name.text().map(str::to_owned),
        codec_tag: stream.codec_tag(),
        track: track(stream, origin),
    }
}
