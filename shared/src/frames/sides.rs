//! Side data of frames: kinds, HDR metadata, captions, AFD and timecodes. Used by [`super::tally`]. Kinds are ffprobe's
//! words; what ffprobe prints of each was read off ffprobe 5.1, and later ones print more, which is not looked at.

use super::report::{FramesHdr, Lights, SideDataCount, TimecodeAt, ValueCount};
use super::{MAX_KINDS, MAX_VALUES, MAX_WORD_BYTES};
use crate::media::mastering_display;
use crate::media::raw::{Frame, Scalar, SideData};

/// What the side data of the frames so far said.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub(super) kinds: Vec<SideDataCount>,
    pub(super) hdr: FramesHdr,
    pub(super) captions: bool,
    pub(super) afd: Vec<ValueCount>,
    pub(super) first_timecode: Option<TimecodeAt>,
    pub(super) last_timecode: Option<TimecodeAt>,
}

impl Sides {
    /// Takes the next frame.
    pub(super) fn take(&mut self, frame: &Frame, at_seconds: Option<f64>) {
        let list = &frame.side_data_list;
        let kind_of = |data: &SideData| word(&data.side_data_type);
        for (place, data) in list.iter().enumerate() {
            let Some(kind) = kind_of(data) else { continue };
            self.read(&kind, data);
            // a frame may carry several of a kind, and counts once
            if !list[..place].iter().any(|earlier| kind_of(earlier).as_deref() == Some(&kind)) {
                self.count(kind);
            }
        }
        if let Some(timecode) = timecode(frame) {
            let found = TimecodeAt { timecode, at_seconds };
            self.first_timecode.get_or_insert_with(|| found.clone());
            self.last_timecode = Some(found);
        }
    }

    fn count(&mut self, kind: String) {
        let hdr = &mut self.hdr;
        hdr.hdr10_plus_frames += u64::from(kind.contains("SMPTE2094-40"));
        hdr.vivid_frames += u64::from(kind.contains("CUVA 005.1"));
        // the raw record and what was read of it stand beside each other
        hdr.dolby_vision_frames += u64::from(kind == "Dolby Vision RPU Data");
        if let Some(count) = self.kinds.iter_mut().find(|count| count.kind == kind) {
            count.frames += 1;
        } else if self.kinds.len() < MAX_KINDS {
            self.kinds.push(SideDataCount { kind, frames: 1 });
        }
    }

    fn read(&mut self, kind: &str, data: &SideData) {
        match kind {
            "Mastering display metadata" => {
                let display = mastering_display(data);
                self.hdr.first_mastering_display.get_or_insert_with(|| display.clone());
                self.hdr.last_mastering_display = Some(display);
            }
            "Content light level metadata" => {
                let lights = Lights { max_cll: data.max_content.positive(), max_fall: data.max_average.positive() };
                self.hdr.first_light.get_or_insert(lights);
                self.hdr.last_light = Some(lights);
            }
            "Active format description" => {
                // the code has four bits; what is more is damage
                let value = data.active_format.positive_or_zero().filter(|value: &u8| usize::from(*value) < MAX_VALUES);
                if let Some(value) = value {
                    match self.afd.iter_mut().find(|count| count.value == value) {
                        Some(count) => count.frames += 1,
                        None => self.afd.push(ValueCount { value, frames: 1 }),
                    }
                    self.afd.sort_by_key(|count| count.value);
                }
            }
            _ if kind.starts_with("ATSC A53") => self.captions = true,
            _ => {}
        }
    }
}

/// The timecode of a frame: of SMPTE ST 12-1 (as side data, else as the tag decoders make of it), else of the group.
fn timecode(frame: &Frame) -> Option<String> {
    let listed =
        || frame.side_data_list.iter().find_map(|data| data.timecodes.iter().find_map(|code| word(&code.value)));
    let tagged = || frame.tags.get("timecode").and_then(bounded);
    let of_group = || frame.side_data_list.iter().find_map(|data| word(&data.timecode));
    listed().or_else(tagged).or_else(of_group)
}

/// A word of ffprobe's, if it is short enough to be one.
pub(super) fn word(scalar: &Scalar) -> Option<String> {
    scalar.text().and_then(bounded)
}

fn bounded(text: &str) -> Option<String> {
    (text.len() <= MAX_WORD_BYTES).then(|| text.to_owned())
}
