//! Sizes of packets, and their 95th percentile, in 16 KiB whatever the number of packets. Used by [`super::stream`].
//! Sizes are counted in classes that are at most 3 % wide, so the percentile is told within 2 %.

use super::report::Sizes;

/// Classes per doubling, as a power of two.
const FINE: u32 = 5;
/// Classes below which every size has its own.
const EXACT: u64 = 1 << (FINE + 1);
/// Classes up to the largest size told apart, 2^40 bytes.
const CLASSES: usize = ((40 - FINE) << FINE) as usize + (1 << FINE);
/// Share of packets that are not larger than the percentile, in percent.
const PERCENT: u64 = 95;

/// Counts sizes.
#[derive(Debug)]
pub(super) struct SizeCounts {
    classes: Box<[u64]>,
    min: u64,
    max: u64,
    sum: u64,
    count: u64,
}

impl Default for SizeCounts {
    fn default() -> Self {
        Self { classes: vec![0; CLASSES].into(), min: u64::MAX, max: 0, sum: 0, count: 0 }
    }
}

impl SizeCounts {
    /// Counts one packet of so many bytes.
    #[inline]
    pub(super) fn add(&mut self, size: u64) {
        let class = class(size).min(CLASSES - 1);
        self.classes[class] += 1;
        self.min = self.min.min(size);
        self.max = self.max.max(size);
        self.sum = self.sum.saturating_add(size);
        self.count += 1;
    }

    /// Bytes of all.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    /// The sizes, if there was a packet.
    pub(super) fn report(&self) -> Option<Sizes> {
        if self.count == 0 {
            return None;
        }
        let wanted = (self.count / 100 * PERCENT + (self.count % 100 * PERCENT).div_ceil(100)).max(1);
        let mut seen = 0;
        let reached = self.classes.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        let p95 = middle(reached.unwrap_or(CLASSES - 1)).clamp(self.min, self.max);
        let average_bytes = self.sum as f64 / self.count as f64;
        Some(Sizes { average_bytes, min_bytes: self.min, max_bytes: self.max, p95_bytes: p95 })
    }
}

fn class(size: u64) -> usize {
    if size < EXACT {
        return usize::try_from(size).unwrap_or(usize::MAX);
    }
    let shift = size.ilog2() - FINE;
    let within = usize::try_from(size >> shift).unwrap_or(usize::MAX);
    ((shift as usize) << FINE) + within
}

/// The size in the middle of a class.
fn middle(class: usize) -> u64 {
    let class = class as u64;
    if class < EXACT {
        return class;
    }
    let shift = (class >> FINE) - 1;
    let low = ((class & ((1 << FINE) - 1)) + (1 << FINE)) << shift;
    low + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_in_order_and_narrow() {
        for size in [0, 1, 63, 64, 65, 127, 128, 1000, 4096, 65_535, 1_000_003, (1 << 39) + 12_345] {
            let near = middle(class(size));
            assert!(near.abs_diff(size) * 50 <= size, "{size} {near}");
            assert!(class(size) <= class(size + 1) && class(size + 1) <= class(size) + 1, "{size}");
        }
        assert!(class((1 << 40) - 1) < CLASSES);
    }

    #[test]
    fn the_percentile_is_near_and_huge_sizes_are_kept() {
        let mut sizes = SizeCounts::default();
        assert_eq!(sizes.report(), None);
        (1..=1000).for_each(|size| sizes.add(size * 10));
        let report = sizes.report().unwrap();
        assert_eq!((report.min_bytes, report.max_bytes, report.average_bytes), (10, 10_000, 5005.0));
        assert!(report.p95_bytes.abs_diff(9500) < 190, "{report:?}");
        sizes.add(u64::MAX);
        sizes.add(u64::MAX);
        assert_eq!(sizes.report().unwrap().max_bytes, u64::MAX);
        assert_eq!(sizes.sum(), u64::MAX);
    }

    #[test]
    fn one_packet_is_its_own_percentile() {
        let mut sizes = SizeCounts::default();
        sizes.add(123_457);
        assert_eq!(sizes.report().unwrap().p95_bytes, 123_457);
    }
}
