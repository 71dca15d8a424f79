//! How many frames a second, and whether that is true of all frames. Used by [`super::video`].
//!
//! ffprobe prints two rates: `r_frame_rate`, the nominal one, and `avg_frame_rate`, a measured or declared average. How
//! much the average proves depends on the container, so the mode is decided per container and is null where only a
//! reading of all packets could tell:
//!
//! * MP4 family: the average comes from the table of all samples. With `n` frames, the real length `n / average` and the
//!   nominal length `n / nominal` are compared. Equal within two ticks of the time base: constant. Apart by more than one
//!   frame: variable. Between the two, an odd last frame and jitter look the same: null. Fragmented files: null.
//! * MXF, AVI, DV, GXF, LXF, and MPEG-1, MPEG-2 and DV video anywhere: one rate is coded for the whole file; constant if
//!   both rates agree within 1 %.
//! * Everything else (Matroska, MPEG-TS with H.264 or HEVC, FLV …) only declares a rate, and FFmpeg declares the nominal
//!   one for variable files too. With trusted Matroska statistics the rule of the MP4 family applies, else null.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::container::{Origin, Timing};
use super::raw::{Scalar, Stream};
use super::track::statistics;

/// How far two rates may differ to be the same one.
const SAME: f64 = 0.01;
/// How far a rate may miss a standard rate to be it: `23.98` is 24000/1001 (0.017 %), `23.976` is not 24 (0.1 %).
const SNAP: f64 = 0.0002;
/// Whole rates that, with their 1000/1001 companions, count as standard.
const STANDARD: [u32; 10] = [12, 15, 24, 25, 30, 48, 50, 60, 100, 120];
/// Codecs whose headers code one frame rate.
const FIXED_RATE_CODECS: [&str; 3] = ["mpeg1video", "mpeg2video", "dvvideo"];

/// Whether all frames last equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FrameRateMode {
    /// They do.
    Constant,
    /// They do not.
    Variable,
}

/// Frames per second as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FrameRate {
    /// Numerator: 30000 for 29.97.
    pub num: u32,
    /// Denominator: 1001 for 29.97.
    pub den: u32,
    /// Whether all frames last equally long; null where the headers cannot tell. If variable, the fraction is the average.
    pub mode: Option<FrameRateMode>,
}

/// A positive fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    num: u32,
    den: u32,
}

impl Rate {
    fn of(scalar: &Scalar) -> Option<Self> {
        let (num, den) = scalar.fraction()?;
        let (num, den) = (u32::try_from(num).ok()?, u32::try_from(den).ok()?);
        (num > 0 && den > 0).then_some(Self { num, den })
    }

    fn value(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }

    /// The standard rate that this is, if it is one but for rounding.
    fn snapped(self) -> Self {
        let whole = STANDARD.into_iter().map(|num| Self { num, den: 1 });
        let ntsc = STANDARD.into_iter().map(|num| Self { num: num * 1000, den: 1001 });
        whole.chain(ntsc).find(|standard| near(self.value() / standard.value(), 1.0, SNAP)).unwrap_or(self)
    }
}

/// How the nominal rate relates to the average.
enum Relation {
    /// They agree.
    Same,
    /// The nominal rate counts fields.
    Fields,
    /// Neither explains the other; the rate that is meant.
    Apart(Rate),
}

/// The frame rate of a video stream. `fields_per_frame` is 2 if the stream is known to be interlaced, else 1.
pub(super) fn frame_rate(stream: &Stream, fields_per_frame: u32, origin: Origin) -> Option<FrameRate> {
    let average = Rate::of(&stream.avg_frame_rate);
    let (nominal, average) = match (Rate::of(&stream.r_frame_rate), average) {
        (Some(nominal), Some(average)) => (nominal, average),
        (None, Some(average)) => return Some(with(average.snapped(), None)),
        (Some(nominal), None) => return (!echoes_time_base(nominal, stream)).then(|| with(nominal.snapped(), None)),
        (None, None) => return None,
    };
    let relation = relate(nominal, average, fields_per_frame);
    let mode = mode(stream, nominal, average, &relation, origin);
    let rate = match (mode, relation) {
        (Some(FrameRateMode::Variable), _) => average,
        (_, Relation::Same) => nominal.snapped(),
        (_, Relation::Fields) => average.snapped(),
        (_, Relation::Apart(rate)) => rate,
    };
    Some(with(rate, mode))
}

/// The number of frames in a container of one rate whose clock ticks once per frame: its duration counts them.
pub(super) fn edit_units(stream: &Stream, origin: Origin) -> Option<u64> {
    let rate = Rate::of(&stream.r_frame_rate).filter(|_| origin.timing == Timing::Fixed)?;
    if echoes_time_base(rate, stream) { stream.duration_ts.positive() } else { None }
}

fn with(rate: Rate, mode: Option<FrameRateMode>) -> FrameRate {
    FrameRate { num: rate.num, den: rate.den, mode }
}

fn near(value: f64, target: f64, tolerance: f64) -> bool {
    (value - target).abs() <= tolerance * target
}

/// Whether a rate is one tick per frame. Without an average, ffprobe prints that where it has found no rate.
fn echoes_time_base(nominal: Rate, stream: &Stream) -> bool {
    Rate::of(&stream.time_base).is_some_and(|base| (base.num, base.den) == (nominal.den, nominal.num))
}

fn relate(nominal: Rate, average: Rate, fields_per_frame: u32) -> Relation {
    let ratio = nominal.value() / average.value();
    if near(ratio, 1.0, SAME) {
        Relation::Same
    } else if fields_per_frame == 2 && near(ratio, 2.0, SAME) {
        Relation::Fields
    } else if near(ratio, 0.5, SAME) {
        // AVI with a doubled clock: every other chunk is empty, and counted.
        Relation::Apart(nominal.snapped())
    } else {
        Relation::Apart(average.snapped())
    }
}

fn mode(stream: &Stream, nominal: Rate, average: Rate, relation: &Relation, origin: Origin) -> Option<FrameRateMode> {
    let fixed_codec = stream.codec_name.text().is_some_and(|codec| FIXED_RATE_CODECS.contains(&codec));
    match origin.timing {
        Timing::SampleTable => {
            let frames: u32 = stream.nb_frames.positive()?;
            compare(frames, f64::from(frames) / average.value(), nominal, stream)
        }
        Timing::Fixed => agreed(relation),
        Timing::Declared if fixed_codec => agreed(relation),
        Timing::Declared => {
            let frames = u32::try_from(statistics(&stream.tags, origin).frame_count?).ok()?;
            let track = super::track::track(stream, origin);
            compare(frames, track.duration_seconds?, nominal, stream)
        }
    }
}

fn agreed(relation: &Relation) -> Option<FrameRateMode> {
    matches!(relation, Relation::Same | Relation::Fields).then_some(FrameRateMode::Constant)
}

/// Compares the real length of some frames with their nominal length, both in seconds.
fn compare(frames: u32, real: f64, nominal: Rate, stream: &Stream) -> Option<FrameRateMode> {
    if frames < 2 || real <= 0.0 {
        return None;
    }
    let tick = Rate::of(&stream.time_base).map_or(0.0, Rate::value);
    let apart = |rate: Rate| (real - f64::from(frames) / rate.value()).abs();
    // A nominal 29.97 may stand for 30000/1001; over an hour that would make a difference of four milliseconds.
    let apart = apart(nominal).min(apart(nominal.snapped()));
    if apart <= 2.0 * tick + real * 1e-9 {
        Some(FrameRateMode::Constant)
    } else if apart > real / f64::from(frames) {
        Some(FrameRateMode::Variable)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::container::Writer;

    fn rate(timing: Timing, stream: &str) -> Option<(u32, u32, Option<FrameRateMode>)> {
        fields(timing, 1, stream)
    }

    fn fields(timing: Timing, fields: u32, stream: &str) -> Option<(u32, u32, Option<FrameRateMode>)> {
        let origin = Origin { timing, writer: Writer::Other };
        let stream = serde_json::from_str(&format!("{{{stream}}}")).unwrap();
        frame_rate(&stream, fields, origin).map(|rate| (rate.num, rate.den, rate.mode))
    }

    const CONSTANT: Option<FrameRateMode> = Some(FrameRateMode::Constant);
    const VARIABLE: Option<FrameRateMode> = Some(FrameRateMode::Variable);

    #[test]
    fn a_sample_table_proves_constant_and_variable() {
        let table = |r, a, n| {
            let json =
                format!(r#""r_frame_rate":"{r}","avg_frame_rate":"{a}","nb_frames":"{n}","time_base":"1/90000""#);
            rate(Timing::SampleTable, &json)
        };
        assert_eq!(table("30000/1001", "30000/1001", 30), Some((30000, 1001, CONSTANT)));
        assert_eq!(table("2997/100", "30000/1001", 400_000), Some((30000, 1001, CONSTANT)));
        assert_eq!(table("30000/1001", "225000/11011", 30), Some((225_000, 11011, VARIABLE)));
        // A phone: nominal 30, a minute at 29.95.
        assert_eq!(table("30/1", "599/20", 1797), Some((599, 20, VARIABLE)));
        // A screen recording whose rate ffprobe could not find.
        assert_eq!(table("90000/1", "1200/41", 100), Some((1200, 41, VARIABLE)));
        // A millisecond too long after three seconds: jitter or an odd last frame.
        assert_eq!(table("30/1", "8100000/270091", 90), Some((30, 1, None)));
        assert_eq!(table("25/1", "25/1", 1), Some((25, 1, None)));
        assert_eq!(table("25/1", "25/1", 0), Some((25, 1, None)), "fragmented");
    }

    #[test]
    fn a_fixed_rate_is_constant_if_both_agree() {
        let pal = r#""r_frame_rate":"25/1","avg_frame_rate":"25/1""#;
        assert_eq!(rate(Timing::Fixed, pal), Some((25, 1, CONSTANT)));
        assert_eq!(rate(Timing::Declared, pal), Some((25, 1, None)));
        assert_eq!(rate(Timing::Declared, &format!(r#"{pal},"codec_name":"mpeg2video""#)), Some((25, 1, CONSTANT)));
        let doubled = r#""r_frame_rate":"30000/1001","avg_frame_rate":"60000/1001""#;
        assert_eq!(rate(Timing::Fixed, doubled), Some((30000, 1001, None)));
        let pulldown = r#""r_frame_rate":"30000/1001","avg_frame_rate":"2997/125","codec_name":"mpeg2video""#;
        assert_eq!(rate(Timing::Declared, pulldown), Some((24000, 1001, None)));
    }

    #[test]
    fn edit_units_count_frames() {
        let count = |timing, json: &str| {
            edit_units(&serde_json::from_str(json).unwrap(), Origin { timing, writer: Writer::Other })
        };
        let mxf = r#"{"r_frame_rate":"30000/1001","time_base":"1001/30000","duration_ts":107892}"#;
        assert_eq!(count(Timing::Fixed, mxf), Some(107_892));
        assert_eq!(count(Timing::Declared, mxf), None);
        let fine = r#"{"r_frame_rate":"25/1","time_base":"1/50","duration_ts":50}"#;
        assert_eq!(count(Timing::Fixed, fine), None);
    }

    #[test]
    fn fields_are_not_frames() {
        let paff = r#""r_frame_rate":"50/1","avg_frame_rate":"25/1""#;
        assert_eq!(fields(Timing::Fixed, 2, paff), Some((25, 1, CONSTANT)));
        assert_eq!(fields(Timing::Fixed, 1, paff), Some((25, 1, None)));
    }

    #[test]
    fn matroska_needs_statistics() {
        let mkv = |tags: &str| {
            let json = r#""r_frame_rate":"19001/317","avg_frame_rate":"19001/317","time_base":"1/1000","tags":"#;
            rate(Timing::Declared, &format!("{json}{tags}"))
        };
        assert_eq!(mkv("{}"), Some((60000, 1001, None)));
        let statistics = |duration: &str| {
            mkv(&format!(
                r#"{{"DURATION":"{duration}","NUMBER_OF_FRAMES":"120","_STATISTICS_WRITING_APP":"mkvmerge"}}"#
            ))
        };
        assert_eq!(statistics("00:00:02.002000000"), Some((60000, 1001, CONSTANT)));
        assert_eq!(statistics("00:00:03.002000000"), Some((19001, 317, VARIABLE)));
    }

    #[test]
    fn nonsense_is_no_rate() {
        for json in [
            r#""r_frame_rate":"0/0","avg_frame_rate":"0/0""#,
            r#""r_frame_rate":"-25/1","avg_frame_rate":"25/-1""#,
            r#""r_frame_rate":"99999999999/1","avg_frame_rate":25"#,
            r#""r_frame_rate":"90000/1","avg_frame_rate":"0/0","time_base":"1/90000""#,
        ] {
            assert_eq!(rate(Timing::SampleTable, json), None, "{json}");
        }
        assert_eq!(rate(Timing::Declared, r#""r_frame_rate":"30/1","avg_frame_rate":"0/0""#), Some((30, 1, None)));
        let extremes = r#""r_frame_rate":"4294967295/1","avg_frame_rate":"1/4294967295","nb_frames":"4294967295""#;
        assert_eq!(rate(Timing::SampleTable, extremes), Some((1, 4_294_967_295, VARIABLE)));
    }
}
