//! Counts frames one by one, in the order ffprobe prints them. Used by [`super::reading`]. It tells where one interval ends
//! and the next begins by time, because ffprobe does not mark it, and counts a frame that two intervals reach once.

use super::plan::Plan;
use super::report::{
    Asked, Coverage, Distances, FieldCounts, FormatAt, FrameEntry, Frames, PictureTypes, Scanning, Span,
};
use super::sides::{Sides, word};
use super::{MAX_FORMATS, MAX_LISTED, MAX_SPANS};
use crate::media::ScanType;
use crate::media::raw::Frame;

/// Frames further apart than this many of the stream's are not neighbours, and never if less than a second.
const NEIGHBOURS: f64 = 10.0;
/// Times further from zero, in seconds, are damage.
const LATEST: f64 = 1e12;

/// A stretch of time without holes, while it grows.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    start: f64,
    end: f64,
    frames: u64,
    /// First and last place in the file, where known.
    places: Option<(u64, u64)>,
}

impl Stretch {
    /// Whether a frame of this time and place was in it.
    fn has(&self, at: f64, place: Option<u64>) -> bool {
        let beside = |((from, to), place): ((u64, u64), u64)| (from..=to).contains(&place);
        (self.start..=self.end).contains(&at) && self.places.zip(place).is_none_or(beside)
    }

    fn seconds(&self, frame_seconds: f64) -> f64 {
        let last = if self.frames > 1 { (self.end - self.start) / (self.frames - 1) as f64 } else { frame_seconds };
        self.end - self.start + last
    }
}

/// Everything counted so far.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    plan: &'a Plan,
    stretches: Vec<Stretch>,
    frames: u64,
    repeated: u64,
    untimed: u64,
    types: PictureTypes,
    keyframes: u64,
    since_key: Option<u64>,
    distances: Option<(u64, u64, u64, u64)>,
    fields: FieldCounts,
    sides: Sides,
    formats: Vec<FormatAt>,
    format: Option<FormatAt>,
    format_changes: u64,
    listed: Vec<FrameEntry>,
}

impl<'a> Tally<'a> {
    /// Nothing yet.
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            stretches: Vec::new(),
            frames: 0,
            repeated: 0,
            untimed: 0,
            types: PictureTypes::default(),
            keyframes: 0,
            since_key: None,
            distances: None,
            fields: FieldCounts::default(),
            sides: Sides::default(),
            formats: Vec::new(),
            format: None,
            format_changes: 0,
            listed: Vec::new(),
        }
    }

    /// Frames counted so far.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Takes the next frame; those of other streams are passed over.
    pub(super) fn take(&mut self, frame: &Frame) {
        let ours = frame.stream_index.integer().is_none_or(|index| index == i64::from(self.plan.stream));
        if !ours || !matches!(frame.media_type.text(), Some("video") | None) {
            return;
        }
        let at = frame.best_effort_timestamp_time.number().filter(|at| at.abs() < LATEST);
        if !self.place(at, frame.pkt_pos.positive_or_zero()) {
            self.repeated += 1;
            return;
        }
        self.frames += 1;
        self.pictures(frame, at);
        self.scan(frame);
        self.sides.take(frame, at);
        self.format(frame, at);
    }

    /// Finds its stretch. False if the frame was there before.
    fn place(&mut self, at: Option<f64>, place: Option<u64>) -> bool {
        let Some(at) = at else {
            self.untimed += 1;
            return true;
        };
        let apart = (self.plan.frame_seconds * NEIGHBOURS).max(1.0);
        if self.stretches.iter().any(|stretch| stretch.has(at, place)) {
            self.since_key = None;
            return false;
        }
        let full = self.stretches.len() >= MAX_SPANS;
        match self.stretches.last_mut() {
            Some(last) if at >= last.end && (at - last.end <= apart || full) => {
                last.end = at;
                last.frames += 1;
                last.places = last.places.zip(place).map(|((from, to), place)| (from.min(place), to.max(place)));
            }
            Some(last) if full => last.frames += 1,
            _ => {
                self.since_key = None;
                let places = place.map(|place| (place, place));
                self.stretches.push(Stretch { start: at, end: at, frames: 1, places });
            }
        }
        true
    }

    fn pictures(&mut self, frame: &Frame, at: Option<f64>) {
        let picture_type = word(&frame.pict_type);
        match picture_type.as_deref() {
            Some("I") => self.types.i += 1,
            Some("P") => self.types.p += 1,
            Some("B") => self.types.b += 1,
            _ => self.types.other += 1,
        }
        let key = frame.key_frame.flag() == Some(true);
        self.since_key = self.since_key.map(|since| since + 1);
        if key {
            self.keyframes += 1;
            if let Some(since) = self.since_key {
                let (count, min, max, sum) = self.distances.unwrap_or((0, since, since, 0));
                self.distances = Some((count + 1, min.min(since), max.max(since), sum + since));
            }
            self.since_key = Some(0);
        }
        if self.listed.len() < MAX_LISTED {
            let bytes = frame.pkt_size.positive_or_zero();
            self.listed.push(FrameEntry { at_seconds: at, picture_type, key, bytes });
        }
    }

    fn scan(&mut self, frame: &Frame) {
        match (frame.interlaced_frame.flag(), frame.top_field_first.flag()) {
            (Some(false), _) => self.fields.progressive += 1,
            (Some(true), Some(true)) => self.fields.top_first += 1,
            (Some(true), Some(false)) => self.fields.bottom_first += 1,
            _ => self.fields.unknown += 1,
        }
        self.fields.repeated_fields += u64::from(frame.repeat_pict.positive::<u32>().is_some());
    }

    fn format(&mut self, frame: &Frame, at_seconds: Option<f64>) {
        let (width, height) = (frame.width.positive(), frame.height.positive());
        let found = FormatAt { at_seconds, width, height, pixel_format: word(&frame.pix_fmt) };
        let same = |before: &FormatAt| FormatAt { at_seconds: before.at_seconds, ..found.clone() } == *before;
        if self.format.as_ref().is_some_and(same) {
            return;
        }
        self.format_changes += u64::from(self.format.is_some());
        if self.formats.len() < MAX_FORMATS {
            self.formats.push(found.clone());
        }
        self.format = Some(found);
    }

    /// What was found. `complete` says whether the answer ended as it should.
    pub(super) fn report(self, complete: bool) -> Frames {
        let fields = self.fields;
        let interlaced = fields.top_first + fields.bottom_first;
        let verdict = match (fields.progressive, interlaced, fields.unknown) {
            (1.., 0, 0) => Some(ScanType::Progressive),
            (0, 1.., 0) => Some(ScanType::Interlaced),
            _ => None,
        };
        Frames {
            stream_index: self.plan.stream,
            coverage: self.coverage(complete),
            picture_types: self.types,
            keyframes: self.keyframes,
            keyframe_distances: self.distances.map(|(count, min, max, sum)| {
                let mean = sum as f64 / count as f64;
                Distances { count, min, max, mean }
            }),
            scanning: Scanning { counts: fields, verdict },
            closed_captions: (self.frames > 0).then_some(self.sides.captions),
            side_data: self.sides.kinds,
            hdr: self.sides.hdr,
            afd: self.sides.afd,
            first_timecode: self.sides.first_timecode,
            last_timecode: self.sides.last_timecode,
            formats: self.formats,
            format_changes: self.format_changes,
            frames: self.listed,
        }
    }

    fn coverage(&self, complete: bool) -> Coverage {
        let plan = self.plan;
        let windows = plan.windows.iter().map(|start| (Some(*start), plan.window_packets));
        let asked = std::iter::once((None, plan.first)).chain(windows);
        let seconds = self.stretches.iter().map(|stretch| stretch.seconds(plan.frame_seconds)).sum::<f64>();
        let span = |stretch: &Stretch| Span {
            start_seconds: stretch.start,
            end_seconds: stretch.start + stretch.seconds(plan.frame_seconds),
            frames: stretch.frames,
        };
        Coverage {
            asked: asked.map(|(start_seconds, packets)| Asked { start_seconds, packets }).collect(),
            seen: self.stretches.iter().map(span).collect(),
            frames: self.frames,
            repeated_frames: self.repeated,
            untimed_frames: self.untimed,
            seconds,
            share: plan.duration_seconds.map(|duration| (seconds / duration).clamp(0.0, 1.0)),
            complete,
        }
    }
}
