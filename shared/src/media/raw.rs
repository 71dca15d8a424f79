//! What ffprobe prints, read leniently: only the keys we use, every value of any type, last of repeated keys wins.
//!
//! Used by the other files of [`super`] as their input. Everything is bounded while it is read, so a hostile file
//! cannot make the description larger than its bounds. It never fails on a value, only on text that is not JSON.

mod bounded;
mod scalar;

pub(crate) use bounded::{Dispositions, List, Tags};
pub(crate) use scalar::Scalar;

use super::{MAX_CHAPTERS, MAX_PROGRAMS, MAX_SIDE_DATA, MAX_STREAMS, MAX_TIMECODES};

/// Defines a struct that reads itself from a JSON object: known keys by name, others skipped, and from anything that is
/// not an object as its default. A derived `Deserialize` would fail on repeated keys and on wrong types.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name { $(pub(crate) $field: $type,)* }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl<'de> serde::de::Visitor<'de> for Reader {
                    type Value = $name;

                    bounded::anything_else!();

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut object = $name::default();
                        while let Some(key) = map.next_key::<String>()? {
                            match key.as_str() {
                                $(stringify!($field) => object.$field = map.next_value()?,)*
                                _ => { map.next_value::<serde::de::IgnoredAny>()?; }
                            }
                        }
                        Ok(object)
                    }

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<$name, A::Error> {
                        bounded::skip(seq)
                    }
                }
                deserializer.deserialize_any(Reader)
            }
        }
    };
}

object! {
    /// The whole document.
    Document {
        format: Option<Format>,
        streams: Option<List<Stream, MAX_STREAMS>>,
        chapters: List<Chapter, MAX_CHAPTERS>,
        programs: List<Program, MAX_PROGRAMS>,
        frames: List<Frame, MAX_STREAMS>,
    }
}

object! {
    /// `-show_format`.
    Format {
        format_name: Scalar,
        start_time: Scalar,
        duration: Scalar,
        bit_rate: Scalar,
        tags: Tags,
    }
}

object! {
    /// One entry of `-show_streams`.
    Stream {
        index: Scalar,
        id: Scalar,
        codec_name: Scalar,
        codec_type: Scalar,
        codec_tag_string: Scalar,
        codec_tag: Scalar,
        profile: Scalar,
        level: Scalar,
        width: Scalar,
        height: Scalar,
        sample_aspect_ratio: Scalar,
        display_aspect_ratio: Scalar,
        pix_fmt: Scalar,
        bits_per_raw_sample: Scalar,
        bits_per_sample: Scalar,
        field_order: Scalar,
        color_range: Scalar,
        color_space: Scalar,
        color_transfer: Scalar,
        color_primaries: Scalar,
        closed_captions: Scalar,
        r_frame_rate: Scalar,
        avg_frame_rate: Scalar,
        time_base: Scalar,
        start_time: Scalar,
        duration: Scalar,
        duration_ts: Scalar,
        bit_rate: Scalar,
        nb_frames: Scalar,
        extradata_size: Scalar,
        sample_rate: Scalar,
        channels: Scalar,
        channel_layout: Scalar,
        disposition: Dispositions,
        tags: Tags,
        side_data_list: List<SideData, MAX_SIDE_DATA>,
    }
}

object! {
    /// One entry of `-show_frames`.
    Frame {
        media_type: Scalar,
        stream_index: Scalar,
        interlaced_frame: Scalar,
        top_field_first: Scalar,
        color_range: Scalar,
        color_space: Scalar,
        color_transfer: Scalar,
        color_primaries: Scalar,
        key_frame: Scalar,
        pict_type: Scalar,
        best_effort_timestamp_time: Scalar,
        pkt_pos: Scalar,
        pkt_size: Scalar,
        repeat_pict: Scalar,
        width: Scalar,
        height: Scalar,
        pix_fmt: Scalar,
        tags: Tags,
        side_data_list: List<SideData, MAX_SIDE_DATA>,
    }
}

object! {
    /// One entry of a `side_data_list`: the union of the kinds we use.
    SideData {
        side_data_type: Scalar,
        displaymatrix: Scalar,
        rotation: Scalar,
        red_x: Scalar,
        red_y: Scalar,
        green_x: Scalar,
        green_y: Scalar,
        blue_x: Scalar,
        blue_y: Scalar,
        white_point_x: Scalar,
        white_point_y: Scalar,
        min_luminance: Scalar,
        max_luminance: Scalar,
        max_content: Scalar,
        max_average: Scalar,
        dv_profile: Scalar,
        dv_level: Scalar,
        rpu_present_flag: Scalar,
        el_present_flag: Scalar,
        bl_present_flag: Scalar,
        dv_bl_signal_compatibility_id: Scalar,
        active_format: Scalar,
        timecode: Scalar,
        timecodes: List<TimecodeValue, MAX_TIMECODES>,
    }
}

object! {
    /// One entry of the `timecodes` of a frame's side data.
    TimecodeValue {
        value: Scalar,
    }
}

object! {
    /// One entry of `-show_chapters`.
    Chapter {
        id: Scalar,
        start_time: Scalar,
        end_time: Scalar,
        tags: Tags,
    }
}

object! {
    /// One entry of `-show_programs`.
    Program {
        program_id: Scalar,
        program_num: Scalar,
        pmt_pid: Scalar,
        pcr_pid: Scalar,
        tags: Tags,
        streams: List<ProgramStream, MAX_STREAMS>,
    }
}

object! {
    /// A stream inside a program; ffprobe repeats the whole stream there.
    ProgramStream {
        index: Scalar,
    }
}

impl Stream {
    /// ffprobe's index, or the position in the list when it is missing or absurd.
    pub(crate) fn index(&self, position: usize) -> u32 {
        self.index.positive_or_zero().unwrap_or_else(|| u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// The codec's tag in the container: the four characters if they are readable (`avc1`), else the number
    /// (`0x0002`), null when there is none.
    pub(crate) fn codec_tag(&self) -> Option<String> {
        let number = self.codec_tag.text().filter(|tag| *tag != "0x0000");
        let characters = self.codec_tag_string.text().filter(|tag| !tag.contains('['));
        characters.or(number).map(str::to_owned)
    }
}
