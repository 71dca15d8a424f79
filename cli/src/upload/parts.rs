//! Cuts a file into the parts that are sent side by side. Pure arithmetic; called when an upload begins.

use std::ops::Range;

/// Smallest part; a file below twice this size is sent in one. Small parts cost more calls than they save.
const SMALLEST: u64 = 16 << 20;
/// Smallest file that is sent in parts.
const WORTH_IT: u64 = 64 << 20;

/// The spans of a file of `size` bytes in at most `parts` parts: without gaps, in order, at least one.
pub(super) fn split(size: u64, parts: u32) -> Vec<Range<u64>> {
    let parts = if size < WORTH_IT { 1 } else { u64::from(parts.max(1)).min(size / SMALLEST).max(1) };
    let each = size.div_ceil(parts);
    (0..parts).map(|n| (n * each).min(size)..((n + 1) * each).min(size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_file_once() {
        for size in [0, 1, WORTH_IT - 1, WORTH_IT, WORTH_IT + 1, (50 << 30) + 7] {
            for parts in [0, 1, 2, 3, 4, 16] {
                let spans = split(size, parts);
                assert_eq!(spans.first().map(|s| s.start), Some(0), "{size} in {parts}");
                assert_eq!(spans.last().map(|s| s.end), Some(size), "{size} in {parts}");
                assert!(spans.windows(2).all(|w| w[0].end == w[1].start && w[0].start < w[0].end), "{spans:?}");
                assert!(spans.len() <= parts.max(1) as usize);
            }
        }
        assert_eq!(split(WORTH_IT - 1, 4).len(), 1);
        assert_eq!(split(WORTH_IT, 4).len(), 4);
        assert_eq!(split(WORTH_IT, 16).len(), 4, "no part is tiny");
    }
}
