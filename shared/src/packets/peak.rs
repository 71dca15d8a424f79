//! The most bytes of any second, in one pass: a window of ten tenths of a second that moves with the packets. Used by
//! [`super::stream`]. Windows begin on a tenth, so the true peak may be a little higher.

/// Slots of the window.
const SLOTS: usize = 10;

/// Slots in a second.
pub(super) const SLOTS_PER_SECOND: i64 = SLOTS as i64;

/// The moving window.
#[derive(Debug, Default)]
pub(super) struct Peak {
    slots: [u64; SLOTS],
    newest: i64,
    begun: bool,
    sum: u64,
    peak: u64,
}

impl Peak {
    /// Counts bytes in a slot, tenths of a second from zero. Slots older than the window count as its oldest.
    #[inline]
    pub(super) fn add(&mut self, slot: i64, bytes: u64) {
        if !self.begun {
            self.begun = true;
            self.newest = slot;
        } else if slot > self.newest {
            self.advance(slot);
        }
        let oldest = self.newest.saturating_sub(SLOTS_PER_SECOND - 1);
        let place = &mut self.slots[index(slot.clamp(oldest, self.newest))];
        *place = place.saturating_add(bytes);
        self.sum = self.sum.saturating_add(bytes);
        self.peak = self.peak.max(self.sum);
    }

    fn advance(&mut self, slot: i64) {
        let steps = slot.saturating_sub(self.newest).min(SLOTS_PER_SECOND);
        for step in 1..=steps {
            self.slots[index(self.newest.wrapping_add(step))] = 0;
        }
        self.newest = slot;
        self.sum = self.slots.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes));
    }

    /// The most bytes in a second so far.
    pub(super) fn bytes(&self) -> u64 {
        self.peak
    }
}

fn index(slot: i64) -> usize {
    usize::try_from(slot.rem_euclid(SLOTS_PER_SECOND)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Peak;

    #[test]
    fn the_window_moves() {
        let mut peak = Peak::default();
        for (slot, bytes) in [(-3, 10), (0, 10), (6, 10), (7, 5), (16, 7), (100, 1), (95, 2), (3, 40)] {
            peak.add(slot, bytes);
        }
        // -3, 0 and 6 lie within one second; the last one is too old and counts as of slot 91
        assert_eq!(peak.bytes(), 43);
        let mut peak = Peak::default();
        for (slot, bytes) in [(-3, 10), (0, 10), (6, 10), (7, 5), (17, 7)] {
            peak.add(slot, bytes);
        }
        assert_eq!(peak.bytes(), 30);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut peak = Peak::default();
        for slot in [i64::MIN, 0, i64::MAX, i64::MIN] {
            peak.add(slot, u64::MAX);
        }
        assert_eq!(peak.bytes(), u64::MAX);
    }
}
