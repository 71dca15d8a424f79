//! Groups of pictures of one video stream, in one pass. Used by [`super::stream`]. Whether a group is open is told from
//! leading pictures: decoded after the keyframe, shown before it. A group with a packet that has no presentation time,
//! or in which the time breaks, is neither open nor closed.

use std::collections::BTreeMap;

use super::MAX_GOP_LENGTHS;
use super::report::{Gop, GopKind, GopLengths, LengthCount};
use super::timeline::{Clock, Place};

/// The group that is being read.
#[derive(Debug, Clone, Copy)]
struct Current {
    length: u64,
    decoded: Option<i64>,
    shown: Option<i64>,
    leading: bool,
    doubtful: bool,
}

/// All groups so far.
#[derive(Debug, Default)]
pub(super) struct Gops {
    before_first: u64,
    current: Option<Current>,
    complete: u64,
    packets: u64,
    lengths: BTreeMap<u64, u64>,
    other_lengths: u64,
    min: u64,
    max: u64,
    longest_ticks: Option<i64>,
    open: u64,
    closed: u64,
}

impl Gops {
    /// Takes the next packet of the stream. `place` is none where it has no time.
    #[inline]
    pub(super) fn keyframe(&mut self, place: Option<Place>) {
        let decoded = place.map(|place| place.decoded);
        if let Some(group) = self.current {
            self.complete(group);
            if let (Some(from), Some(to)) = (group.decoded, decoded) {
                let ticks = to.saturating_sub(from).max(0);
                self.longest_ticks = Some(self.longest_ticks.map_or(ticks, |longest| longest.max(ticks)));
            }
        }
        let shown = place.and_then(|place| place.shown);
        self.current = Some(Current { length: 1, decoded, shown, leading: false, doubtful: shown.is_none() });
    }

    /// Takes a packet that is no keyframe.
    #[inline]
    pub(super) fn other(&mut self, place: Option<Place>) {
        let Some(group) = &mut self.current else {
            self.before_first += 1;
            return;
        };
        group.length += 1;
        group.doubtful |= place.is_none_or(|place| place.broken || place.shown.is_none());
        if let (Some(key), Some(shown)) = (group.shown, place.and_then(|place| place.shown)) {
            group.leading |= shown < key;
        }
    }

    fn complete(&mut self, group: Current) {
        let length = group.length;
        self.min = if self.complete == 0 { length } else { self.min.min(length) };
        self.max = self.max.max(length);
        self.complete += 1;
        self.packets = self.packets.saturating_add(length);
        if self.lengths.len() < MAX_GOP_LENGTHS || self.lengths.contains_key(&length) {
            *self.lengths.entry(length).or_default() += 1;
        } else {
            self.other_lengths += 1;
        }
        self.judge(group);
    }

    fn judge(&mut self, group: Current) {
        self.open += u64::from(group.leading && !group.doubtful);
        self.closed += u64::from(!group.leading && !group.doubtful);
    }

    /// What was found; none without a keyframe.
    pub(super) fn report(mut self, clock: Option<Clock>) -> Option<Gop> {
        let last = self.current?;
        self.judge(last);
        let kind = match (self.open, self.closed) {
            (0, 0) => None,
            (_, 0) => Some(GopKind::Open),
            (0, _) => Some(GopKind::Closed),
            _ => Some(GopKind::Mixed),
        };
        let lengths = (self.complete > 0).then(|| GopLengths {
            min: self.min,
            max: self.max,
            mean: self.packets as f64 / self.complete as f64,
            fixed: self.min == self.max,
            histogram: self.lengths.into_iter().map(|(length, count)| LengthCount { length, count }).collect(),
            other_lengths: self.other_lengths,
        });
        Some(Gop {
            count: self.complete + 1,
            lengths,
            last_length: last.length,
            packets_before_first: self.before_first,
            longest_seconds: clock.zip(self.longest_ticks).map(|(clock, ticks)| clock.seconds(ticks)),
            kind,
            open: self.open,
            closed: self.closed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gop(packets: &[(&str, i64, Option<i64>)]) -> Option<Gop> {
        let mut gops = Gops::default();
        for (kind, decoded, shown) in packets {
            let place = Some(Place { decoded: *decoded, shown: *shown, broken: *kind == "!" });
            if *kind == "K" { gops.keyframe(place) } else { gops.other(place) }
        }
        gops.report(Some(Clock::new((1, 10))))
    }

    #[test]
    fn leading_pictures_make_a_group_open() {
        let first = [("K", 0, Some(1)), ("P", 1, Some(3)), ("B", 2, Some(2))];
        let open = [("K", 3, Some(6)), ("B", 4, Some(4)), ("B", 5, Some(5))];
        let found = gop(&[first, open].concat()).unwrap();
        assert_eq!((found.count, found.last_length, found.kind), (2, 3, Some(GopKind::Mixed)));
        assert_eq!((found.open, found.closed, found.longest_seconds), (1, 1, Some(0.3)));
        assert_eq!(found.lengths.map(|l| (l.min, l.max, l.fixed)), Some((3, 3, true)));
        assert_eq!(gop(&first).unwrap().kind, Some(GopKind::Closed));
        assert_eq!(gop(&open).unwrap().kind, Some(GopKind::Open));
    }

    #[test]
    fn what_cannot_be_known_is_null() {
        assert_eq!(gop(&[("P", 0, Some(0))]), None);
        assert_eq!(gop(&[("K", 0, None), ("B", 1, Some(-1))]).unwrap().kind, None);
        assert_eq!(gop(&[("K", 0, Some(5)), ("B", 1, None)]).unwrap().kind, None);
        let broken = gop(&[("P", 0, Some(0)), ("K", 0, Some(5)), ("!", 1, Some(1))]).unwrap();
        assert_eq!((broken.kind, broken.packets_before_first, broken.lengths), (None, 1, None));
    }

    #[test]
    fn lengths_are_bounded() {
        let mut gops = Gops::default();
        for length in 0..200_u64 {
            gops.keyframe(None);
            (0..length).for_each(|_| gops.other(None));
        }
        let lengths = gops.report(None).unwrap().lengths.unwrap();
        assert_eq!((lengths.histogram.len(), lengths.other_lengths), (MAX_GOP_LENGTHS, 199 - 64));
        assert_eq!((lengths.min, lengths.max, lengths.fixed, lengths.mean), (1, 199, false, 100.0));
    }
}
