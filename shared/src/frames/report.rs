//! What was found in the frames looked at: the shape clients read. Filled by the other files of [`super`]. Times are
//! seconds as the file states them; unknown is null. Nothing here speaks for frames outside [`Coverage`].

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::media::{MasteringDisplay, ScanType};

/// A sample of the frames of one video stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Frames {
    /// ffprobe's index of the stream.
    pub stream_index: u32,
    /// Which frames were looked at.
    pub coverage: Coverage,
    /// Kinds of pictures.
    pub picture_types: PictureTypes,
    /// Frames that need no other to be decoded.
    pub keyframes: u64,
    /// Frames from one keyframe to the next within the same span; null if none has two.
    pub keyframe_distances: Option<Distances>,
    /// Interlacing.
    pub scanning: Scanning,
    /// Kinds of side data and how many frames have them, in the order they were met, at most 64.
    pub side_data: Vec<SideDataCount>,
    /// High dynamic range as the frames state it.
    pub hdr: FramesHdr,
    /// Whether captions (CEA-608/708 in A/53 user data) were met. ffprobe does not tell 608 from 708. Null without frames.
    pub closed_captions: Option<bool>,
    /// Values of the Active Format Description, by code (SMPTE ST 2016-1), with the number of frames.
    pub afd: Vec<ValueCount>,
    /// The first timecode inside the picture (SMPTE ST 12-1, or of an MPEG group of pictures).
    pub first_timecode: Option<TimecodeAt>,
    /// The last one.
    pub last_timecode: Option<TimecodeAt>,
    /// Size and pixel format of the first frame and of each that differs from the one before; the first 32.
    pub formats: Vec<FormatAt>,
    /// How often size or pixel format changed.
    pub format_changes: u64,
    /// The first 2,000 frames one by one, in the order they are shown.
    pub frames: Vec<FrameEntry>,
}

/// Which frames were looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Coverage {
    /// What ffprobe was asked for: the beginning, then the windows.
    pub asked: Vec<Asked>,
    /// The stretches of time that frames came from, at most 64.
    pub seen: Vec<Span>,
    /// Frames counted.
    pub frames: u64,
    /// Frames that came twice because a window reached back into another; counted once.
    pub repeated_frames: u64,
    /// Frames without time; they are counted and belong to no span.
    pub untimed_frames: u64,
    /// Seconds of all spans together.
    pub seconds: f64,
    /// `seconds` as a share of the file's duration, 0 to 1; null where that is not known.
    pub share: Option<f64>,
    /// Whether ffprobe's answer was whole. False: it was cut off, and this is what came before.
    pub complete: bool,
}

/// An interval ffprobe was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Asked {
    /// Where it was to begin, in seconds; null is the beginning of the file. Reading begins at a keyframe near it.
    pub start_seconds: Option<f64>,
    /// Packets of the stream that were read.
    pub packets: u32,
}

/// A stretch of time without holes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Span {
    /// Time of its first frame, in seconds.
    pub start_seconds: f64,
    /// End of its last frame, in seconds.
    pub end_seconds: f64,
    /// Its frames.
    pub frames: u64,
}

/// Frames by kind of picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PictureTypes {
    /// Intra.
    pub i: u64,
    /// Predicted.
    pub p: u64,
    /// Predicted from both sides.
    pub b: u64,
    /// Of other or unknown kind.
    pub other: u64,
}

/// Distances in frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Distances {
    /// How many were measured.
    pub count: u64,
    /// Shortest.
    pub min: u64,
    /// Longest.
    pub max: u64,
    /// Mean.
    pub mean: f64,
}

/// Interlacing of the frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Scanning {
    /// Frames by the way they are scanned.
    pub counts: FieldCounts,
    /// What all frames are; null if they differ or do not say. Coded flags: interlaced pictures may be flagged progressive.
    pub verdict: Option<ScanType>,
}

/// Frames by the way they are scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct FieldCounts {
    /// Whole frames.
    pub progressive: u64,
    /// Two fields, top first.
    pub top_first: u64,
    /// Two fields, bottom first.
    pub bottom_first: u64,
    /// Frames that do not say.
    pub unknown: u64,
    /// Frames with a repeated field or frame, as in pulldown; also counted above.
    pub repeated_fields: u64,
}

/// How many frames have a kind of side data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SideDataCount {
    /// The kind in ffprobe's words.
    #[schema(example = "Mastering display metadata")]
    pub kind: String,
    /// Frames that have it.
    pub frames: u64,
}

/// High dynamic range as the frames state it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct FramesHdr {
    /// The display the picture was graded on, where it was first stated (SMPTE ST 2086).
    pub first_mastering_display: Option<MasteringDisplay>,
    /// The one stated last.
    pub last_mastering_display: Option<MasteringDisplay>,
    /// Light levels where they were first stated (CTA-861.3).
    pub first_light: Option<Lights>,
    /// Those stated last.
    pub last_light: Option<Lights>,
    /// Frames with HDR10+ metadata (SMPTE ST 2094-40).
    pub hdr10_plus_frames: u64,
    /// Frames with Dolby Vision metadata.
    pub dolby_vision_frames: u64,
    /// Frames with HDR Vivid metadata.
    pub vivid_frames: u64,
}

/// Light levels in cd/m².
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lights {
    /// Maximum content light level.
    pub max_cll: Option<u32>,
    /// Maximum frame-average light level.
    pub max_fall: Option<u32>,
}

/// How many frames have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValueCount {
    /// The value.
    pub value: u8,
    /// Frames that have it.
    pub frames: u64,
}

/// A timecode and the frame that has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TimecodeAt {
    /// The label as ffprobe prints it.
    #[schema(example = "01:00:00:00")]
    pub timecode: String,
    /// Time of the frame, in seconds.
    pub at_seconds: Option<f64>,
}

/// Size and pixel format from a frame on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FormatAt {
    /// Time of the frame, in seconds.
    pub at_seconds: Option<f64>,
    /// Width in pixels.
    pub width: Option<u32>,
    /// Height in pixels.
    pub height: Option<u32>,
    /// Pixel format in ffprobe's word.
    pub pixel_format: Option<String>,
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FrameEntry {
    /// Its time, in seconds.
    pub at_seconds: Option<f64>,
    /// Its kind in ffprobe's word: `I`, `P`, `B`.
    pub picture_type: Option<String>,
    /// Whether it needs no other.
    pub key: bool,
    /// Bytes of its packet.
    pub bytes: Option<u64>,
}
