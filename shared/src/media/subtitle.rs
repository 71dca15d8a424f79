//! Subtitle and caption tracks. Used by [`super::normalize`]. Captions inside the picture are not tracks; see
//! `closed_captions` of a video.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::container::Origin;
use super::raw::Stream;
use super::track::{Track, track};

/// A subtitle or caption track. `disposition` tells forced ones and those for the hard of hearing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Subtitle {
    /// ffprobe's stream index.
    pub index: u32,
    /// Codec in ffprobe's word: `subrip`, `ass`, `mov_text`, `dvb_subtitle`, `eia_608`.
    pub codec: Option<String>,
    /// The codec's tag in the container: `tx3g`, `c608`, or a number such as `0x0006`.
    pub codec_tag: Option<String>,
    /// Width of the canvas in pixels, for pictures.
    pub width: Option<u32>,
    /// Height of the canvas in pixels, for pictures.
    pub height: Option<u32>,
    /// What every track has.
    #[serde(flatten)]
    pub track: Track,
}

pub(super) fn subtitle(index: u32, stream: &Stream, origin: Origin) -> Subtitle {
    Subtitle {
        index,
        codec: stream.codec_name.text().map(str::to_owned),
        codec_tag: stream.codec_tag(),
        width: stream.width.positive(),
        height: stream.height.positive(),
        track: track(stream, origin),
    }
}
