//! The time of one stream: from timestamps with holes and jumps to a continuous clock, with the evidence. Used by
//! [`super::stream`]. Decoding time leads, because it has an order; what is a gap and what a discontinuity is said in
//! [`super::report::Continuity`]. Whatever the numbers, it saturates and never overflows.

use super::evidence::Jumps;
use super::line::Packet;
use super::report::{Continuity, Jump, PauseAt, Spacing};
use super::steps::Steps;
use super::{LONGEST_GAP_SECONDS, LONGEST_STEP_BACK_SECONDS, LONGEST_STEP_SECONDS, MAX_SECONDS};

/// Steps needed to call a spacing constant or not.
const ENOUGH_STEPS: u64 = 3;

/// How far a time may be off because it was rounded to ticks, where ticks are so fine that this cannot hide a packet.
const ROUNDING_TICKS: i64 = 2;
/// Ticks per second that are fine. Clocks that tick once per frame (AVI, MXF) are not, and their times are exact.
const FINE_TICKS: i64 = 500;

/// Length of a tick in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    num: i64,
    den: i64,
}

impl Clock {
    /// From a time base with both parts above zero.
    pub(super) fn new((num, den): (u32, u32)) -> Self {
        Self { num: num.into(), den: den.into() }
    }

    /// Ticks as seconds.
    pub(super) fn seconds(self, ticks: i64) -> f64 {
        (i128::from(ticks) * i128::from(self.num)) as f64 / self.den as f64
    }

    /// Whole parts of a second, each 1/`parts`, that have passed at this tick.
    #[inline]
    pub(super) fn floor(self, ticks: i64, parts: i64) -> i64 {
        if let Some(product) = ticks.checked_mul(self.num).and_then(|product| product.checked_mul(parts)) {
            return product.div_euclid(self.den).clamp(-MAX_SECONDS * parts, MAX_SECONDS * parts);
        }
        let wide = i128::from(ticks) * i128::from(self.num) * i128::from(parts);
        let most = i128::from(MAX_SECONDS * parts);
        i64::try_from(wide.div_euclid(self.den.into()).clamp(-most, most)).unwrap_or(0)
    }

    /// Ticks that times may be off by rounding.
    fn rounding(self) -> i64 {
        if self.num.saturating_mul(FINE_TICKS) <= self.den { ROUNDING_TICKS } else { 0 }
    }

    /// So many seconds in ticks, at least one.
    fn ticks(self, seconds: i64) -> i64 {
        (seconds.saturating_mul(self.den) / self.num).max(1)
    }
}

/// Whether a stream goes on all the time or comes when it has something to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Pauses are gaps.
    Steady,
    /// Pauses are as they should be.
    Sparse,
}

/// Where a packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its decoding time on the continuous clock, in ticks.
    pub(super) decoded: i64,
    /// Its presentation time on the continuous clock, in ticks.
    pub(super) shown: Option<i64>,
    /// Whether the time broke just before it.
    pub(super) broken: bool,
}

/// The time of a stream so far.
#[derive(Debug)]
pub(super) struct Timeline {
    clock: Clock,
    pace: Pace,
    limits: TickLimits,
    offset: i64,
    last: Option<i64>,
    expected: Option<i64>,
    decoded: Option<i64>,
    steps: Steps,
    longest: Option<(i64, i64)>,
    gaps: Jumps,
    gap_ticks: i64,
    discontinuities: Jumps,
    repeated: u64,
    backward: u64,
}

/// The limits of [`super`] in ticks.
#[derive(Debug)]
struct TickLimits {
    gap: i64,
    step: i64,
    step_back: i64,
    rounding: i64,
}

impl Timeline {
    /// The time of a stream whose packets were not read yet.
    pub(super) fn new(clock: Clock, pace: Pace) -> Self {
        let limits = TickLimits {
            gap: clock.ticks(LONGEST_GAP_SECONDS),
            step: clock.ticks(LONGEST_STEP_SECONDS),
            step_back: clock.ticks(LONGEST_STEP_BACK_SECONDS),
            rounding: clock.rounding(),
        };
        Self {
            clock,
            pace,
            limits,
            offset: 0,
            last: None,
            expected: None,
            decoded: None,
            steps: Steps::new(clock.rounding()),
            longest: None,
            gaps: Jumps::default(),
            gap_ticks: 0,
            discontinuities: Jumps::default(),
            repeated: 0,
            backward: 0,
        }
    }

    /// Takes the next packet of the stream. None if it has no time and none before it had.
    #[inline]
    pub(super) fn take(&mut self, packet: &Packet) -> Option<Place> {
        let mut broken = false;
        let decoded = match packet.dts {
            Some(dts) => {
                if let Some(last) = self.last {
                    broken = self.step(packet, last, dts);
                }
                self.last = Some(dts);
                self.expected = self.length(packet).map(|length| dts.saturating_add(length));
                dts.saturating_add(self.offset)
            }
            None => {
                self.expected = self.expected.zip(self.length(packet)).map(|(at, length)| at.saturating_add(length));
                match (self.last, self.decoded) {
                    (Some(_), Some(decoded)) => decoded,
                    (_, before) => packet.pts.or(before)?,
                }
            }
        };
        self.decoded = Some(decoded);
        Some(Place { decoded, shown: packet.pts.map(|pts| pts.saturating_add(self.offset)), broken })
    }

    /// How long a packet lasts in ticks: as stated, else the usual step so far.
    #[inline]
    fn length(&self, packet: &Packet) -> Option<i64> {
        if packet.duration > 0 { Some(packet.duration) } else { self.steps.usual() }
    }

    /// Judges the step from the packet before. True if the time broke.
    #[inline]
    fn step(&mut self, packet: &Packet, last: i64, dts: i64) -> bool {
        let step = dts.saturating_sub(last);
        let expected = self.expected.unwrap_or(dts);
        let late = dts.saturating_sub(expected);
        self.backward += u64::from(step < 0);
        self.repeated += u64::from(step == 0);
        let ran_back = step < self.limits.step_back.saturating_neg();
        if ran_back || (self.pace == Pace::Steady && late > self.limits.gap) || step > self.limits.step {
            self.break_at(packet, last, dts);
            return true;
        }
        if step <= 0 {
            return false;
        }
        if self.pace == Pace::Steady && late > self.limits.rounding {
            let tolerance = (expected.saturating_sub(last) / 2).max(self.limits.rounding);
            if late > tolerance {
                self.gap_ticks = self.gap_ticks.saturating_add(late);
                let jump = self.jump(packet, expected, late);
                self.gaps.add(|| jump);
            }
        }
        self.steps.add(step);
        if self.longest.is_none_or(|(_, longest)| step > longest) {
            self.longest = Some((last.saturating_add(self.offset), step));
        }
        false
    }

    #[cold]
    fn break_at(&mut self, packet: &Packet, last: i64, dts: i64) {
        let most = last.saturating_add(self.limits.gap);
        let expected = self.expected.unwrap_or(last).clamp(last, most);
        let jump = self.jump(packet, expected, dts.saturating_sub(expected));
        self.discontinuities.add(|| jump);
        if dts < expected || dts.saturating_sub(last) > self.limits.step {
            self.offset = self.offset.saturating_add(expected.saturating_sub(dts));
        }
    }

    fn jump(&self, packet: &Packet, expected: i64, late: i64) -> Jump {
        Jump {
            at_seconds: self.clock.seconds(expected.saturating_add(self.offset)),
            seconds: self.clock.seconds(late),
            position_bytes: packet.position,
        }
    }

    /// The usual step in ticks, 0 if there is none.
    pub(super) fn usual_step(&self) -> i64 {
        self.steps.usual().unwrap_or(0)
    }

    /// Packets with the decoding time of the packet before, and with an earlier one.
    pub(super) fn disorder(&self) -> (u64, u64) {
        (self.repeated, self.backward)
    }

    /// How evenly packets followed; none without two of them.
    pub(super) fn spacing(&self) -> Option<Spacing> {
        let (at, longest) = self.longest?;
        let share = self.steps.usual_count() as f64 / self.steps.count() as f64;
        let tick = self.clock.seconds(1);
        Some(Spacing {
            constant: (self.steps.count() >= ENOUGH_STEPS).then_some(share >= 0.99),
            usual_seconds: self.steps.usual_mean()? * tick,
            usual_share: share,
            min_seconds: self.clock.seconds(self.steps.min()?),
            longest: PauseAt { at_seconds: self.clock.seconds(at), seconds: self.clock.seconds(longest) },
        })
    }

    /// Where the time broke.
    pub(super) fn into_continuity(self) -> Continuity {
        Continuity {
            gaps: self.gaps.count(),
            gap_seconds: self.clock.seconds(self.gap_ticks),
            first_gaps: self.gaps.into_first(),
            discontinuities: self.discontinuities.count(),
            first_discontinuities: self.discontinuities.into_first(),
        }
    }
}
