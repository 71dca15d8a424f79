//! Fuzz target: `packets::Series::decode` and slices of what it gives, on arbitrary bytes: as they are, and as the content of a
//! well-formed compression, which random bytes hardly ever are. Fails on a panic, an overflow or a slice beyond its bound.

#![no_main]

use fuzz::packets::{MAX_POINTS, Series};
use libfuzzer_sys::fuzz_target;

/// The version of the layout, which stands before the compressed part.
const VERSION: u8 = 1;

fn look(encoded: &[u8]) {
    let Ok(series) = Series::decode(encoded) else { return };
    let (from, to) = series.range_seconds();
    for (from, to) in [(from as f64, to as f64), (f64::NEG_INFINITY, f64::INFINITY), (f64::NAN, 0.0), (1e300, -1e300)] {
        for most in [0, 1, 7, MAX_POINTS, usize::MAX] {
            assert!(series.slice(from, to, most).points.len() <= MAX_POINTS);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    look(input);
    let mut packed = vec![VERSION];
    packed.extend(zstd::bulk::compress(input, 1).expect("memory"));
    look(&packed);
});
