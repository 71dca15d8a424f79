//! What all packets of a file say about it, made while ffprobe reads it: sizes, bit rates, groups of pictures, gaps in
//! time, how sound and picture lie beside each other. The worker feeds [`Scan`] with the output of ffprobe under
//! [`arguments`]; the API reads [`Packets`] and slices of [`Series`].
//!
//! Pure, and made for files of any size: no packet is kept, every list and table has a bound, so memory depends on the
//! number of streams only. Nothing is decoded and nothing is guessed: what packets cannot tell is null.

mod buckets;
mod evidence;
mod gop;
mod interleaving;
mod line;
mod peak;
mod report;
mod scan;
mod series;
mod sizes;
mod steps;
mod stream;
mod timeline;

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::media::raw::Document;

pub use report::{
    AudioVideo, BitRate, Continuity, Gop, GopKind, GopLengths, Jump, LengthCount, Packets, PauseAt, Presentation,
    Sizes, Spacing, StreamPackets, Timestamps,
};
pub use scan::Scan;
pub use series::{DecodeError, MAX_POINTS, Point, Series, Slice};

/// Streams scanned per file; ffprobe is told the same limit. Packets of streams beyond it are counted as of an unknown
/// stream.
pub const MAX_STREAMS: usize = crate::media::MAX_STREAMS;
/// Bytes of a line that are looked at. A packet's line has at most about 130.
pub const MAX_LINE_BYTES: usize = 512;
/// Buckets of a series. A longer file doubles the width of its buckets.
pub const MAX_BUCKETS: usize = 65_536;
/// Buckets of all streams together: 24 MiB. Only with more than 16 streams is a stream's share smaller than
/// [`MAX_BUCKETS`].
pub const MAX_BUCKETS_OF_ALL: usize = 16 * MAX_BUCKETS;
/// Gaps, and discontinuities, told with their place per stream. All are counted.
pub const MAX_EVIDENCE: usize = 32;
/// Different lengths of groups of pictures counted apart.
pub const MAX_GOP_LENGTHS: usize = 64;
/// Different distances between packets counted apart.
pub const MAX_STEPS: usize = 16;
/// How many packets back a presentation time is recognised as one that was there before.
pub const MAX_RECENT: usize = 16;
/// Furthest time from zero that has a place in a series, in seconds: 34,000 years. Later times count as this one.
pub const MAX_SECONDS: i64 = 1 << 40;

/// A pause longer than this, in seconds, is a discontinuity and not a gap.
pub const LONGEST_GAP_SECONDS: i64 = 10;
/// A step back further than this, in seconds, is a discontinuity and not only out of order.
pub const LONGEST_STEP_BACK_SECONDS: i64 = 1;
/// A step forward further than this, in seconds, is closed up in the series and in the times of presentation: six hours. A
/// transport stream whose clock starts anew shows such a step, because ffprobe takes it for a wrap of the 33-bit clock.
pub const LONGEST_STEP_SECONDS: i64 = 6 * 3600;

/// The fields of a packet's line, in the order ffprobe prints them whatever the order here.
const ENTRIES: &str = "packet=stream_index,pts,dts,duration,size,pos,flags";

/// What ffprobe has to be told, next to its input and its limits, to print what [`Scan`] reads.
///
/// One line per packet, such as `0,1536,-512,512,3075,7654,K_`. Unknown values are `N/A`. ffprobe 5.1 knows the flags `K`
/// and `D`, ffprobe from 6.0 on `C` as well. A packet with side data has a comma more, and an empty line follows.
pub fn arguments() -> [&'static str; 4] {
    ["-of", "csv=p=0", "-show_entries", ENTRIES]
}

/// What kind of stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamKind {
    /// Moving pictures.
    Video,
    /// Sound.
    Audio,
    /// Subtitles: comes when it has something to say, so pauses are no gaps.
    Subtitle,
    /// Everything else, cover art included; pauses are no gaps.
    Data,
}

/// What is known of a stream before its packets are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamInfo {
    /// ffprobe's index.
    pub index: u32,
    /// Its kind.
    pub kind: StreamKind,
    /// Length of a tick in seconds, as numerator and denominator; without it packets are counted but have no time.
    pub time_base: Option<(u32, u32)>,
}

/// The output of ffprobe's main run is not JSON.
#[derive(Debug)]
pub struct MalformedProbe(serde_json::Error);

impl fmt::Display for MalformedProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ffprobe's output is not valid JSON: {}. Probe again; if it stays, raise the output limit.", self.0)
    }
}

impl std::error::Error for MalformedProbe {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl StreamInfo {
    /// The streams of a file, from the output of `ffprobe -show_streams`.
    pub fn list(ffprobe_json: &str) -> Result<Vec<Self>, MalformedProbe> {
        let document: Document = serde_json::from_str(ffprobe_json).map_err(MalformedProbe)?;
        let streams = document.streams.as_deref().unwrap_or_default();
        let infos = streams.iter().enumerate().map(|(position, stream)| {
            let kind = match stream.codec_type.text() {
                Some("video") if !stream.disposition.has("attached_pic") => StreamKind::Video,
                Some("audio") => StreamKind::Audio,
                Some("subtitle") => StreamKind::Subtitle,
                _ => StreamKind::Data,
            };
            let base = stream.time_base.fraction();
            let base = base.and_then(|(num, den)| Some((u32::try_from(num).ok()?, u32::try_from(den).ok()?)));
            Self { index: stream.index(position), kind, time_base: base.filter(|base| base.0 > 0 && base.1 > 0) }
        });
        Ok(infos.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read_from_the_main_run() {
        let json = r#"{"streams":[{"index":0,"codec_type":"video","time_base":"1/12800"},
            {"index":1,"codec_type":"audio","time_base":"0/0"},{"codec_type":"subtitle","time_base":"1/1000"},
            {"index":5,"codec_type":"video","time_base":"1/90000","disposition":{"attached_pic":1}},{"time_base":"-1/5"}]}"#;
        let streams = StreamInfo::list(json).unwrap();
        let found: Vec<_> = streams.iter().map(|s| (s.index, s.kind, s.time_base)).collect();
        let expected = [
            (0, StreamKind::Video, Some((1, 12800))),
            (1, StreamKind::Audio, None),
            (2, StreamKind::Subtitle, Some((1, 1000))),
            (5, StreamKind::Data, Some((1, 90000))),
            (4, StreamKind::Data, None),
        ];
        assert_eq!(found, expected);
        assert!(StreamInfo::list("{").unwrap_err().to_string().starts_with("ffprobe's output"));
        assert_eq!(StreamInfo::list("{}").unwrap(), []);
    }
}
