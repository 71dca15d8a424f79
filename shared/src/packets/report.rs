//! What a scan of all packets found: the shape clients read. Filled by the other files of [`super`]. Times are seconds,
//! sizes bytes, rates bits per second; unknown is null.
//!
//! Two clocks occur. Timestamps are as the file states them. Places (`at_seconds`, `start_seconds`, `end_seconds`) are
//! told on a continuous clock: equal to the timestamps until the first discontinuity that runs back, or forward by more
//! than six hours, and closed up there.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::StreamKind;

/// A file, as its packets show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Packets {
    /// Packets of all streams.
    pub packets: u64,
    /// Bytes of all packets, without what the container adds.
    pub bytes: u64,
    /// Size of the file in bytes, as the worker saw it.
    pub file_bytes: u64,
    /// Byte behind the last packet whose place in the file is known. Much less than `file_bytes` means that something
    /// else follows (an index), or that the reading ended early.
    pub end_bytes: Option<u64>,
    /// `end_bytes` as a share of the file, 0 to 1.
    pub coverage: Option<f64>,
    /// Lines ffprobe printed that are no packets. Other than 0 is not expected.
    pub unparsed_lines: u64,
    /// Packets of streams that were not there when the file was opened; they are not described.
    pub unknown_stream_packets: u64,
    /// Every stream, in ffprobe's order, at most 256.
    pub streams: Vec<StreamPackets>,
    /// The first video stream compared with each audio stream. Empty without one of them.
    pub audio_video: Vec<AudioVideo>,
}

/// A stream, as its packets show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StreamPackets {
    /// ffprobe's stream index.
    pub index: u32,
    /// What kind of stream it is.
    pub kind: StreamKind,
    /// Number of packets.
    pub packets: u64,
    /// Bytes of all packets.
    pub bytes: u64,
    /// Packets that need no other to be decoded. For most sounds, all.
    pub keyframes: u64,
    /// Packets marked to be decoded and not shown, such as a sound's priming.
    pub discard_packets: u64,
    /// Packets marked as damaged; null where this ffprobe does not mark them.
    pub corrupt_packets: Option<u64>,
    /// Sizes of packets; null without packets.
    pub sizes: Option<Sizes>,
    /// Bit rates; null where the packets have no times.
    pub bit_rate: Option<BitRate>,
    /// When it is shown, without packets marked to be discarded.
    pub presentation: Option<Presentation>,
    /// Its timestamps as stated.
    pub timestamps: Timestamps,
    /// How its packets follow each other in decoding time.
    pub spacing: Option<Spacing>,
    /// Where its time breaks.
    pub continuity: Continuity,
    /// Groups of pictures; null unless it is video with a keyframe.
    pub gop: Option<Gop>,
}

/// Sizes of packets in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sizes {
    /// Mean.
    pub average_bytes: f64,
    /// Smallest.
    pub min_bytes: u64,
    /// Largest.
    pub max_bytes: u64,
    /// 95 % of the packets are not larger, told within 2 %.
    pub p95_bytes: u64,
}

/// Bit rates of packets in bits per second, without what the container adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BitRate {
    /// All bytes over the time shown; null if that is zero.
    pub average: Option<f64>,
    /// The most of any second in decoding time; seconds begin on tenths. A stream shorter than a second counts as one.
    pub peak: u64,
}

/// When a stream is shown, on the continuous clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Presentation {
    /// The earliest time shown, in seconds.
    pub start_seconds: f64,
    /// The latest end of a packet, in seconds. A packet that states no duration counts with the usual one.
    pub end_seconds: f64,
    /// `end_seconds` less `start_seconds`: how long it is, gaps included.
    pub duration_seconds: f64,
    /// The sum of what the packets state as their durations, in seconds; less than `duration_seconds` where something is
    /// missing.
    pub packet_seconds: f64,
}

/// Timestamps of a stream as the file states them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Timestamps {
    /// Presentation time of the first packet that has one, in seconds, in the order of decoding.
    pub first_pts_seconds: Option<f64>,
    /// Presentation time of the last packet that has one, in seconds, in the order of decoding.
    pub last_pts_seconds: Option<f64>,
    /// The first decoding time, in seconds.
    pub first_dts_seconds: Option<f64>,
    /// The last decoding time, in seconds.
    pub last_dts_seconds: Option<f64>,
    /// Packets without presentation time.
    pub missing_pts: u64,
    /// Packets without decoding time.
    pub missing_dts: u64,
    /// Packets without duration.
    pub missing_durations: u64,
    /// Packets with a presentation time that one of the 16 packets before had.
    pub duplicate_pts: u64,
    /// Packets with the decoding time of the packet before.
    pub repeated_dts: u64,
    /// Packets with an earlier decoding time than the packet before. Those that run back by more than a second are
    /// discontinuities as well.
    pub non_monotonic_dts: u64,
    /// Packets shown before one that was decoded earlier: B-frames and their like. Null where presentation times are missing.
    pub reordered_packets: Option<u64>,
    /// The longest time between decoding and showing, in seconds: how deep pictures are reordered.
    pub reorder_seconds: Option<f64>,
}

/// Whether packets follow each other evenly, by decoding time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Spacing {
    /// True if 99 % of the steps are the usual one. Null below three steps. Clocks of at least 500 ticks per second may round:
    /// two ticks more or less are the same step there.
    pub constant: Option<bool>,
    /// The most frequent step in seconds.
    pub usual_seconds: f64,
    /// Share of the steps that are the usual one, 0 to 1.
    pub usual_share: f64,
    /// The shortest step in seconds.
    pub min_seconds: f64,
    /// The longest step, gaps included and discontinuities not. Where frames may last as long as they like (MP4), a pause
    /// is a long frame and shows only here.
    pub longest: PauseAt,
}

/// A pause and its place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PauseAt {
    /// Where it begins, in seconds.
    pub at_seconds: f64,
    /// How long it is, in seconds.
    pub seconds: f64,
}

/// Where the time of a stream breaks. A packet is expected at the decoding time of the packet before plus its duration
/// (the usual step if it states none). Gaps and leaps forward are looked for in video and audio only.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Continuity {
    /// Packets that come later than expected, by more than half a duration (and more than rounding), and at most 10 seconds.
    pub gaps: u64,
    /// The first 32 of them.
    pub first_gaps: Vec<Jump>,
    /// How much time all gaps lack, in seconds.
    pub gap_seconds: f64,
    /// Packets that come more than 10 seconds later than expected, or run back by more than a second. Where the clock of
    /// a transport stream starts anew, ffprobe takes it for a wrap and shows a leap forward of up to 26.5 hours.
    pub discontinuities: u64,
    /// The first 32 of them.
    pub first_discontinuities: Vec<Jump>,
}

/// A packet that did not come when it was expected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Jump {
    /// When it was expected, in seconds on the continuous clock.
    pub at_seconds: f64,
    /// How much later it came, in seconds; negative if it ran back.
    pub seconds: f64,
    /// Its place in the file.
    pub position_bytes: Option<u64>,
}

/// Whether pictures depend on the group before theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GopKind {
    /// Every group has pictures that are decoded after its keyframe and shown before it.
    Open,
    /// No group has.
    Closed,
    /// Some have.
    Mixed,
}

/// Groups of pictures: a keyframe and what follows until the next, in the order of decoding. Lengths are counted in
/// packets, which are frames, or fields where the container keeps them apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Gop {
    /// Number of groups, the last one included.
    pub count: u64,
    /// Lengths of the groups that another follows; null with a single group.
    pub lengths: Option<GopLengths>,
    /// Length of the last group, which the end of the file may have cut.
    pub last_length: u64,
    /// Packets before the first keyframe: not decodable.
    pub packets_before_first: u64,
    /// The longest time from one keyframe to the next, in seconds of decoding time; null with a single group.
    pub longest_seconds: Option<f64>,
    /// Open or closed; null where presentation times are missing. Told from leading pictures alone: some codecs (HEVC's
    /// RADL) have leading pictures that depend on nothing before, and packets do not show that.
    pub kind: Option<GopKind>,
    /// Groups with leading pictures.
    pub open: u64,
    /// Groups without leading pictures.
    pub closed: u64,
}

/// Lengths of groups of pictures in packets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GopLengths {
    /// Shortest.
    pub min: u64,
    /// Longest.
    pub max: u64,
    /// Mean.
    pub mean: f64,
    /// Whether all are equally long.
    pub fixed: bool,
    /// How many groups have which length, by length; the first 64 different lengths.
    pub histogram: Vec<LengthCount>,
    /// Groups of other lengths.
    pub other_lengths: u64,
}

/// How many groups have a length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LengthCount {
    /// Packets of a group.
    pub length: u64,
    /// Groups.
    pub count: u64,
}

/// A video and an audio stream side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AudioVideo {
    /// Index of the video stream.
    pub video_index: u32,
    /// Index of the audio stream.
    pub audio_index: u32,
    /// How much later sound begins than picture, in seconds; negative if earlier.
    pub start_offset_seconds: Option<f64>,
    /// How much later sound ends than picture, in seconds; negative if earlier.
    pub end_offset_seconds: Option<f64>,
    /// Interleaving: the largest distance in the file between sound and picture of the same bucket of time, in bytes.
    /// Null where places are not known.
    pub byte_distance: Option<u64>,
    /// Interleaving: the largest distance in time between sound and picture that lie beside each other in the file, in
    /// seconds, in steps of `resolution_seconds`.
    pub time_distance_seconds: Option<u64>,
    /// Width of a bucket of time in seconds: 1, more for files of many hours.
    pub resolution_seconds: Option<u64>,
}
