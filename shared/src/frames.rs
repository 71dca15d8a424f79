//! What some decoded frames of a video stream say: kinds of pictures, interlacing, side data, captions, AFD, timecodes.
//! The first frames and windows spread over the file are looked at, and [`Coverage`] says which. The worker makes a
//! [`Plan`], gives ffprobe its [`Plan::arguments`] and reads the answer with [`Plan::read`].
//!
//! Pure, and bounded whatever ffprobe prints: frames are counted one by one and not kept, except a short list.

mod plan;
mod reading;
mod report;
mod sides;
mod tally;

pub use plan::{Plan, PlanError, Request};
pub use reading::MalformedFrames;
pub use report::{
    Asked, Coverage, Distances, FieldCounts, FormatAt, FrameEntry, Frames, FramesHdr, Lights, PictureTypes, Scanning,
    SideDataCount, Span, TimecodeAt, ValueCount,
};

/// Packets read from the beginning when the client does not say.
pub const DEFAULT_FIRST: u32 = 250;
/// Most packets read from the beginning.
pub const MAX_FIRST: u32 = 2_000;
/// Windows when the client does not say.
pub const DEFAULT_WINDOWS: u32 = 5;
/// Most windows.
pub const MAX_WINDOWS: u32 = 20;
/// Frames of a window when the client does not say.
pub const DEFAULT_WINDOW_FRAMES: u32 = 25;
/// Most frames of a window.
pub const MAX_WINDOW_FRAMES: u32 = 100;
/// Packets read more in each window where ffprobe does not begin on a keyframe: they cannot be decoded until one comes. A
/// group of pictures of two and a half seconds at 50 frames per second.
pub const WARM_UP: u32 = 128;

/// Frames listed one by one.
pub const MAX_LISTED: usize = 2_000;
/// Stretches of time told in the coverage; later ones lengthen the last.
pub const MAX_SPANS: usize = 64;
/// Kinds of side data counted apart.
pub const MAX_KINDS: usize = 64;
/// Changes of the picture's size or format told; all are counted.
pub const MAX_FORMATS: usize = 32;
/// Different values of AFD; the code has four bits.
pub const MAX_VALUES: usize = 16;
/// Bytes kept of a word from ffprobe: a kind of side data, a pixel format, a timecode.
pub const MAX_WORD_BYTES: usize = 128;
