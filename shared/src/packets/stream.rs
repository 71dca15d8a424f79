//! Everything a scan knows of one stream while it runs. Used by [`super::scan`]. It only hands each packet to the parts
//! that count; nothing grows with their number.

use super::buckets::Buckets;
use super::gop::Gops;
use super::line::Packet;
use super::peak::{Peak, SLOTS_PER_SECOND};
use super::report::{BitRate, Continuity, Presentation, StreamPackets, Timestamps};
use super::sizes::SizeCounts;
use super::timeline::{Clock, Pace, Place, Timeline};
use super::{MAX_RECENT, StreamInfo, StreamKind};

/// A stream so far.
#[derive(Debug)]
pub(super) struct StreamScan {
    info: StreamInfo,
    time: Option<(Clock, Timeline)>,
    /// Bytes, packets and keyframes over time.
    pub(super) buckets: Buckets,
    sizes: SizeCounts,
    peak: Peak,
    gops: Gops,
    counts: Counts,
    stamps: Stamps,
    shown: Shown,
    recent: Recent,
}

#[derive(Debug, Default)]
struct Counts {
    packets: u64,
    keyframes: u64,
    discard: u64,
    corrupt: Option<u64>,
}

#[derive(Debug, Default)]
struct Stamps {
    first_pts: Option<i64>,
    last_pts: Option<i64>,
    first_dts: Option<i64>,
    last_dts: Option<i64>,
    missing_pts: u64,
    missing_dts: u64,
    missing_durations: u64,
    duplicate_pts: u64,
    reordered: u64,
    reorder: Option<i64>,
}

/// What is shown, on the continuous clock.
#[derive(Debug, Default)]
struct Shown {
    /// Earliest start and latest end; the start of the packet that ends last if it states no duration.
    span: Option<(i64, i64)>,
    latest: Option<i64>,
    ticks: i64,
}

/// Presentation times of the last packets.
#[derive(Debug, Default)]
struct Recent {
    pts: [i64; MAX_RECENT],
    used: usize,
    next: usize,
}

impl Recent {
    /// Whether it was there, and remembers it.
    #[inline]
    fn had(&mut self, pts: i64) -> bool {
        let had = self.pts[..self.used].contains(&pts);
        self.pts[self.next] = pts;
        self.next = (self.next + 1) % MAX_RECENT;
        self.used = (self.used + 1).min(MAX_RECENT);
        had
    }
}

impl StreamScan {
    /// A stream without packets yet, with at most `most_buckets`.
    pub(super) fn new(info: StreamInfo, most_buckets: usize) -> Self {
        let pace = match info.kind {
            StreamKind::Video | StreamKind::Audio => Pace::Steady,
            StreamKind::Subtitle | StreamKind::Data => Pace::Sparse,
        };
        let clock = info.time_base.map(Clock::new);
        Self {
            info,
            time: clock.map(|clock| (clock, Timeline::new(clock, pace))),
            buckets: Buckets::new(most_buckets),
            sizes: SizeCounts::default(),
            peak: Peak::default(),
            gops: Gops::default(),
            counts: Counts::default(),
            stamps: Stamps::default(),
            shown: Shown::default(),
            recent: Recent::default(),
        }
    }

    /// ffprobe's index and the kind.
    pub(super) fn info(&self) -> StreamInfo {
        self.info
    }

    /// Takes its next packet.
    #[inline]
    pub(super) fn take(&mut self, packet: &Packet) {
        self.sizes.add(packet.size);
        self.counts.packets += 1;
        self.counts.keyframes += u64::from(packet.flags.key);
        self.counts.discard += u64::from(packet.flags.discard);
        if let Some(corrupt) = packet.flags.corrupt {
            *self.counts.corrupt.get_or_insert(0) += u64::from(corrupt);
        }
        let place = self.time.as_mut().and_then(|(clock, timeline)| Some((*clock, timeline.take(packet)?)));
        if let Some((clock, place)) = place {
            let slot = clock.floor(place.decoded, SLOTS_PER_SECOND);
            self.buckets.add(slot.div_euclid(SLOTS_PER_SECOND), packet);
            self.peak.add(slot, packet.size);
            self.show(packet, place);
        }
        self.stamp(packet);
        if self.info.kind == StreamKind::Video {
            let place = place.map(|(_, place)| place);
            if packet.flags.key { self.gops.keyframe(place) } else { self.gops.other(place) }
        }
    }

    fn show(&mut self, packet: &Packet, place: Place) {
        let start = place.shown.unwrap_or(place.decoded);
        if place.broken {
            self.recent.used = 0;
            self.recent.next = 0;
            self.shown.latest = None;
        }
        if let Some(shown) = place.shown {
            self.stamps.reordered += u64::from(self.shown.latest.is_some_and(|latest| shown < latest));
            self.shown.latest = self.shown.latest.max(Some(shown));
        }
        if packet.flags.discard {
            return;
        }
        let usual = || self.time.as_ref().map_or(0, |(_, timeline)| timeline.usual_step());
        let length = if packet.duration > 0 { packet.duration } else { usual() };
        let end = start.saturating_add(length);
        let span = self.shown.span.map_or((start, end), |(from, to)| (from.min(start), to.max(end)));
        self.shown.span = Some(span);
        self.shown.ticks = self.shown.ticks.saturating_add(packet.duration);
    }

    #[inline]
    fn stamp(&mut self, packet: &Packet) {
        let stamps = &mut self.stamps;
        stamps.missing_pts += u64::from(packet.pts.is_none());
        stamps.missing_dts += u64::from(packet.dts.is_none());
        stamps.missing_durations += u64::from(packet.duration == 0);
        stamps.first_pts = stamps.first_pts.or(packet.pts);
        stamps.last_pts = packet.pts.or(stamps.last_pts);
        stamps.first_dts = stamps.first_dts.or(packet.dts);
        stamps.last_dts = packet.dts.or(stamps.last_dts);
        if let Some(pts) = packet.pts {
            stamps.duplicate_pts += u64::from(self.recent.had(pts));
            stamps.reorder = stamps.reorder.max(packet.dts.map(|dts| pts.saturating_sub(dts).max(0)));
        }
    }

    /// When it is shown, in seconds.
    fn presentation(&self) -> Option<Presentation> {
        let ((start, end), (clock, _)) = self.shown.span.zip(self.time.as_ref())?;
        Some(Presentation {
            start_seconds: clock.seconds(start),
            end_seconds: clock.seconds(end),
            duration_seconds: clock.seconds(end.saturating_sub(start)),
            packet_seconds: clock.seconds(self.shown.ticks),
        })
    }

    fn bit_rate(&self, presentation: Option<&Presentation>) -> Option<BitRate> {
        let seconds = presentation?.duration_seconds;
        let average = (seconds > 0.0).then(|| self.sizes.sum() as f64 * 8.0 / seconds);
        Some(BitRate { average, peak: self.peak.bytes().saturating_mul(8) })
    }

    fn timestamps(&self) -> Timestamps {
        let clock = self.time.as_ref().map(|(clock, _)| *clock);
        let seconds = |ticks: Option<i64>| clock.zip(ticks).map(|(clock, ticks)| clock.seconds(ticks));
        let stamps = &self.stamps;
        let (repeated_dts, non_monotonic_dts) = self.time.as_ref().map_or((0, 0), |(_, timeline)| timeline.disorder());
        Timestamps {
            first_pts_seconds: seconds(stamps.first_pts),
            last_pts_seconds: seconds(stamps.last_pts),
            first_dts_seconds: seconds(stamps.first_dts),
            last_dts_seconds: seconds(stamps.last_dts),
            missing_pts: stamps.missing_pts,
            missing_dts: stamps.missing_dts,
            missing_durations: stamps.missing_durations,
            duplicate_pts: stamps.duplicate_pts,
            repeated_dts,
            non_monotonic_dts,
            reordered_packets: (clock.is_some() && stamps.missing_pts == 0).then_some(stamps.reordered),
            reorder_seconds: seconds(stamps.reorder),
        }
    }

    /// What was found.
    pub(super) fn report(self) -> StreamPackets {
        let presentation = self.presentation();
        let clock = self.time.as_ref().map(|(clock, _)| *clock);
        StreamPackets {
            index: self.info.index,
            kind: self.info.kind,
            packets: self.counts.packets,
            bytes: self.sizes.sum(),
            keyframes: self.counts.keyframes,
            discard_packets: self.counts.discard,
            corrupt_packets: self.counts.corrupt,
            sizes: self.sizes.report(),
            bit_rate: self.bit_rate(presentation.as_ref()),
            timestamps: self.timestamps(),
            spacing: self.time.as_ref().and_then(|(_, timeline)| timeline.spacing()),
            continuity: self.time.map_or_else(Continuity::default, |(_, timeline)| timeline.into_continuity()),
            gop: self.gops.report(clock),
            presentation,
        }
    }
}
