//! Sound tracks. Used by [`super::normalize`]. Never states a bit depth for lossy codecs, which have none.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::container::Origin;
use super::raw::Stream;
use super::track::{Track, statistics, track};

/// A sound track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Audio {
    /// ffprobe's stream index.
    pub index: u32,
    /// Codec in ffprobe's word: `aac`, `ac3`, `pcm_s24le`.
    pub codec: Option<String>,
    /// Number of channels.
    pub channels: Option<u32>,
    /// Channel layout in ffprobe's word: `stereo`, `5.1(side)`. Null when the file does not say, as often in MXF.
    pub channel_layout: Option<String>,
    /// Samples per second.
    pub sample_rate: Option<u32>,
    /// Bits per sample of lossless codecs: ffprobe's `bits_per_raw_sample`, for PCM else `bits_per_sample`.
    pub bit_depth: Option<u32>,
    /// Average bits per second, from ffprobe, else from mkvmerge's statistics tags.
    pub bit_rate: Option<u64>,
    /// What every track has.
    #[serde(flatten)]
    pub track: Track,
}

pub(super) fn audio(index: u32, stream: &Stream, origin: Origin) -> Audio {
    let is_pcm = stream.codec_name.text().is_some_and(|codec| codec.starts_with("pcm_"));
    let stored = || stream.bits_per_sample.positive().filter(|_| is_pcm);
    // Newer releases of FFmpeg print "6 channels" where they know no layout.
    let layout = stream.channel_layout.text().filter(|layout| !layout.ends_with(" channels"));
    Audio {
        index,
        codec: stream.codec_name.text().map(str::to_owned),
        channels: stream.channels.positive(),
        channel_layout: layout.map(str::to_owned),
        sample_rate: stream.sample_rate.positive(),
        bit_depth: stream.bits_per_raw_sample.positive().or_else(stored),
        bit_rate: stream.bit_rate.positive().or(statistics(&stream.tags, origin).bit_rate),
        track: track(stream, origin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::container::{Timing, Writer};

    fn read(json: &str) -> Audio {
        let origin = Origin { timing: Timing::Declared, writer: Writer::Other };
        audio(1, &serde_json::from_str(json).unwrap(), origin)
    }

    #[test]
    fn bit_depth_is_for_lossless() {
        assert_eq!(read(r#"{"codec_name":"pcm_s16le","bits_per_sample":16}"#).bit_depth, Some(16));
        assert_eq!(read(r#"{"codec_name":"flac","bits_per_sample":0,"bits_per_raw_sample":"24"}"#).bit_depth, Some(24));
        assert_eq!(read(r#"{"codec_name":"aac","bits_per_sample":0}"#).bit_depth, None);
        assert_eq!(read(r#"{"codec_name":"adpcm_ms","bits_per_sample":4}"#).bit_depth, None);
    }

    #[test]
    fn zero_and_nonsense_are_unknown() {
        let audio = read(r#"{"sample_rate":"0","channels":0,"channel_layout":"6 channels","bit_rate":"N/A"}"#);
        assert_eq!((audio.sample_rate, audio.channels, audio.channel_layout, audio.bit_rate), (None, None, None, None));
    }
}
