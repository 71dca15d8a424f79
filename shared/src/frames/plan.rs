//! Which frames to look at, and how ffprobe is told. Called by the worker between the main run and the run that decodes.
//!
//! What the intervals cost (measured with ffprobe 5.1): the number after `#` counts packets of the selected stream, and
//! every packet between them is read. ffprobe seeks to each window. In MP4, Matroska, MXF and FLV it lands on the keyframe
//! before; 100 packets from the start of a 50 GB MP4 read 14 MB, a window 45 to 130 MB. In transport and program streams
//! it lands on any packet, and nothing is decoded until a keyframe comes: windows there read [`WARM_UP`] packets more.
//! Pictures at the end of a window whose neighbours were cut off may be missing.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    DEFAULT_FIRST, DEFAULT_WINDOW_FRAMES, DEFAULT_WINDOWS, MAX_FIRST, MAX_WINDOW_FRAMES, MAX_WINDOWS, WARM_UP,
};
use crate::media::raw::{Document, Format, Scalar, Stream};

/// Formats in which ffprobe does not seek to a keyframe.
const SEEKS_ANYWHERE: [&str; 2] = ["mpegts", "mpeg"];
/// Frames per second assumed where the stream states none.
const ASSUMED_RATE: f64 = 25.0;
/// Times further from zero, in seconds, are damage: 30 years.
const LATEST: f64 = 1e9;
/// What ffprobe shall print of a frame.
const ENTRIES: &str = "frame=media_type,stream_index,key_frame,pict_type,best_effort_timestamp_time,pkt_pos,pkt_size,\
interlaced_frame,top_field_first,repeat_pict,width,height,pix_fmt:frame_tags=timecode:frame_side_data=side_data_type,\
red_x,red_y,green_x,green_y,blue_x,blue_y,white_point_x,white_point_y,min_luminance,max_luminance,max_content,\
max_average,active_format,timecode:timecode=value";

/// Which frames the profile `frames` looks at: the first ones, and windows spread evenly over the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = FrameSampling)]
pub struct Request {
    /// ffprobe's index of a video stream; without it the first that is no cover art.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<u32>,
    /// Packets from the beginning.
    #[schema(minimum = 1, maximum = 2_000, default = 250)]
    pub first: u32,
    /// Windows spread over the rest.
    #[schema(maximum = 20, default = 5)]
    pub windows: u32,
    /// Frames of a window.
    #[schema(minimum = 1, maximum = 100, default = 25)]
    pub window_frames: u32,
}

impl Default for Request {
    fn default() -> Self {
        let (first, windows) = (DEFAULT_FIRST, DEFAULT_WINDOWS);
        Self { stream: None, first, windows, window_frames: DEFAULT_WINDOW_FRAMES }
    }
}

impl Request {
    /// Says what is out of range, if something is.
    pub fn check(&self) -> Result<(), PlanError> {
        let bounds = [
            ("first", self.first, 1, MAX_FIRST),
            ("windows", self.windows, 0, MAX_WINDOWS),
            ("window_frames", self.window_frames, 1, MAX_WINDOW_FRAMES),
        ];
        match bounds.into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(value)) {
            Some((name, _, least, most)) => Err(PlanError::OutOfRange { name, least, most }),
            None => Ok(()),
        }
    }
}

/// Why no frames can be looked at.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A number of the request.
    #[error("`{name}` must be from {least} to {most}.")]
    OutOfRange {
        /// Which.
        name: &'static str,
        /// The least it may be.
        least: u32,
        /// The most it may be.
        most: u32,
    },
    /// The file has no video stream but cover art.
    #[error("The file has no video stream, so it has no frames to look at. Use another profile.")]
    NoVideo,
    /// The stream that was named is not there or is no video.
    #[error("Stream {0} is not a video stream of this file. Leave it out for the first one.")]
    NotVideo(u32),
    /// The output of the main run is not JSON.
    #[error("ffprobe's output is not valid JSON: {0}. Probe again; if it stays, raise the output limit.")]
    Malformed(serde_json::Error),
}

/// Which frames to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub(super) stream: u32,
    pub(super) first: u32,
    /// Starts of the windows, in seconds as the file states them.
    pub(super) windows: Vec<f64>,
    pub(super) window_packets: u32,
    pub(super) duration_seconds: Option<f64>,
    pub(super) frame_seconds: f64,
}

impl Plan {
    /// Chooses the stream and the places, from the output of ffprobe's main run (`-show_format -show_streams`). Windows
    /// are spread evenly behind the first frames; a file of unknown or short duration has fewer or none.
    pub fn new(request: &Request, ffprobe_json: &str) -> Result<Self, PlanError> {
        request.check()?;
        let document: Document = serde_json::from_str(ffprobe_json).map_err(PlanError::Malformed)?;
        let streams = document.streams.as_deref().unwrap_or_default();
        let mut videos = streams
            .iter()
            .enumerate()
            .filter(|(_, stream)| stream.codec_type.text() == Some("video") && !stream.disposition.has("attached_pic"));
        let (position, stream) = match request.stream {
            Some(wanted) => {
                let named = videos.find(|(position, stream)| stream.index(*position) == wanted);
                named.ok_or(PlanError::NotVideo(wanted))?
            }
            None => videos.next().ok_or(PlanError::NoVideo)?,
        };
        let no_format = Format::default();
        Ok(Self::of(request, stream.index(position), stream, document.format.as_ref().unwrap_or(&no_format)))
    }

    fn of(request: &Request, index: u32, stream: &Stream, format: &Format) -> Self {
        let positive = |scalar: &Scalar| scalar.number().filter(|seconds| *seconds > 0.0 && *seconds < LATEST);
        let duration_seconds = positive(&format.duration).or_else(|| positive(&stream.duration));
        let start = format.start_time.number().filter(|start| start.abs() < LATEST).unwrap_or(0.0);
        let rate = |scalar: &Scalar| scalar.ratio().filter(|rate| (0.001..=1000.0).contains(rate));
        let rate = rate(&stream.avg_frame_rate).or_else(|| rate(&stream.r_frame_rate)).unwrap_or(ASSUMED_RATE);
        let first_seconds = f64::from(request.first) / rate;
        let places = (1..=request.windows).filter_map(|number| {
            let offset = duration_seconds? * f64::from(number) / f64::from(request.windows + 1);
            (offset > first_seconds).then_some(start + offset)
        });
        let format_name = format.format_name.text().unwrap_or_default();
        let anywhere = format_name.split(',').any(|name| SEEKS_ANYWHERE.contains(&name));
        Self {
            stream: index,
            first: request.first,
            windows: places.collect(),
            window_packets: request.window_frames + if anywhere { WARM_UP } else { 0 },
            duration_seconds,
            frame_seconds: 1.0 / rate,
        }
    }

    /// ffprobe's index of the stream that is looked at.
    pub fn stream_index(&self) -> u32 {
        self.stream
    }

    /// What ffprobe has to be told, next to its input and its limits. It prints JSON, about 400 bytes per frame.
    pub fn arguments(&self) -> Vec<String> {
        let mut intervals = format!("%+#{}", self.first);
        for start in &self.windows {
            intervals.push_str(&format!(",{start:.6}%+#{}", self.window_packets));
        }
        let stream = self.stream.to_string();
        let arguments =
            ["-of", "json=c=1", "-select_streams", &stream, "-read_intervals", &intervals, "-show_entries", ENTRIES];
        arguments.into_iter().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"format":{"format_name":"mov,mp4","duration":"60.0","start_time":"1.5"},"streams":[
        {"index":0,"codec_type":"audio"},{"index":1,"codec_type":"video","disposition":{"attached_pic":1}},
        {"index":2,"codec_type":"video","avg_frame_rate":"25/1"},{"index":3,"codec_type":"video"}]}"#;

    fn intervals(request: Request, file: &str) -> String {
        Plan::new(&request, file).unwrap().arguments()[5].clone()
    }

    #[test]
    fn windows_are_spread_behind_the_first_frames() {
        let expected = "%+#250,11.500000%+#25,21.500000%+#25,31.500000%+#25,41.500000%+#25,51.500000%+#25";
        // the first window would begin at 10 s, where the first 250 frames end
        assert_eq!(intervals(Request::default(), FILE), expected.replacen("11.500000%+#25,", "", 1));
        assert_eq!(intervals(Request { first: 249, ..Request::default() }, FILE), expected.replacen("250", "249", 1));
        let transport = FILE.replace("mov,mp4", "mpegts");
        assert_eq!(intervals(Request { windows: 1, ..Request::default() }, &transport), "%+#250,31.500000%+#153");
        let unknown = FILE.replace("60.0", "N/A");
        assert_eq!(intervals(Request::default(), &unknown), "%+#250");
    }

    #[test]
    fn the_stream_is_the_first_picture_that_moves_or_the_named_one() {
        let chosen = |stream| Plan::new(&Request { stream, ..Request::default() }, FILE).map(|plan| plan.stream);
        assert_eq!((chosen(None).unwrap(), chosen(Some(3)).unwrap()), (2, 3));
        assert!(matches!(chosen(Some(0)), Err(PlanError::NotVideo(0))));
        assert!(matches!(chosen(Some(1)), Err(PlanError::NotVideo(1))));
        assert!(matches!(Plan::new(&Request::default(), "{}"), Err(PlanError::NoVideo)));
        assert!(matches!(Plan::new(&Request::default(), "{"), Err(PlanError::Malformed(_))));
    }

    #[test]
    fn requests_have_bounds() {
        let standard = Request::default();
        for request in [
            Request { first: 0, ..standard },
            Request { first: MAX_FIRST + 1, ..standard },
            Request { windows: MAX_WINDOWS + 1, ..standard },
            Request { window_frames: 0, ..standard },
            Request { window_frames: MAX_WINDOW_FRAMES + 1, ..standard },
        ] {
            assert!(matches!(Plan::new(&request, FILE), Err(PlanError::OutOfRange { .. })), "{request:?}");
        }
    }
}
