//! Test only: series survive storing, slices conserve sums, and damaged bytes are errors.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn hour() -> Series {
    let bucket = |n: u32| Bucket {
        bytes: 625_000 + u64::from(n % 7) * 999,
        packets: 25,
        keyframes: u32::from(n.is_multiple_of(2)),
    };
    Series::new(3, -2, 1, (0..3600).map(bucket).collect())
}

fn sums(slice: &Slice) -> (u64, u64, u64, u64) {
    let sum = |of: fn(&Point) -> u64| slice.points.iter().map(of).sum();
    (sum(|p| p.seconds), sum(|p| p.bytes), sum(|p| p.packets), sum(|p| p.keyframes))
}

#[test]
fn an_hour_is_small() {
    let encoded = hour().encode().unwrap();
    assert!(encoded.len() < 4_000, "{}", encoded.len());
    assert_eq!(Series::decode(&encoded), Ok(hour()));
}

#[test]
fn slices_cover_what_was_asked() {
    let series = hour();
    assert_eq!(series.range_seconds(), (-2, 3598));
    let slice = series.slice(10.5, 12.0, 100);
    let starts: Vec<_> = slice.points.iter().map(|p| p.start_seconds).collect();
    assert_eq!((starts, slice.resolution_seconds), (vec![10, 11], 1));
    let slice = series.slice(f64::NEG_INFINITY, f64::INFINITY, 7);
    assert_eq!((slice.points.len(), slice.resolution_seconds, slice.points[6].seconds), (7, 515, 510));
    assert_eq!(sums(&slice), sums(&series.slice(-2.0, 3598.0, 3600)));
    assert_eq!(sums(&slice).2, 25 * 3600);
    for (from, to) in [(5.0, 5.0), (9.0, 3.0), (4000.0, 5000.0), (-9.0, -2.0), (1e300, 1e301), (-1e301, -1e300)] {
        assert_eq!(series.slice(from, to, 10).points, [], "{from} {to}");
    }
    assert_eq!(series.slice(f64::NAN, f64::NAN, 0).points.len(), 1, "no number is no limit");
}

#[test]
fn other_bytes_are_errors() {
    let encoded = hour().encode().unwrap();
    assert_eq!(Series::decode(&[]), Err(DecodeError::Damaged));
    assert_eq!(Series::decode(&[9, 1, 2]), Err(DecodeError::Version));
    assert_eq!(Series::decode(&encoded[..encoded.len() - 3]), Err(DecodeError::Damaged));
    let stored = |plain: &[u8]| [&[VERSION][..], &zstd::bulk::compress(plain, 1).unwrap()].concat();
    assert!(Series::decode(&stored(&[0, 0, 0, 1, 2, 2, 2])).is_ok());
    for plain in [
        &[][..],
        &[0, 0, 0, 1, 2, 2][..],
        &[0, 0, 0, 1, 2, 2, 2, 0],
        &[0, 0, 0, 1, 2, 1, 2],
        &[0, 0, 60, 0],
        &[0, 0, 200, 1, 0],
        &[0, 0, 0, 0x81, 0x80, 0x04],
        &[0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2, 0, 0],
        &[0x80; 11],
        &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0],
    ] {
        assert_eq!(Series::decode(&stored(plain)), Err(DecodeError::Damaged), "{plain:?}");
    }
    let bomb = stored(&vec![0; MAX_PLAIN_BYTES + 1]);
    assert_eq!(Series::decode(&bomb), Err(DecodeError::Damaged));
}

fn any_series() -> impl Strategy<Value = Series> {
    let bucket = (any::<u64>(), any::<u32>(), any::<u32>());
    let bucket = bucket.prop_map(|(bytes, packets, keyframes)| Bucket { bytes: bytes >> 16, packets, keyframes });
    let buckets = vec(bucket, 0..200);
    (any::<u32>(), -1000_i64..1000, 0..10_u32, buckets)
        .prop_map(|(stream, first, width, buckets)| Series::new(stream, first, 1 << width, buckets))
}

proptest! {
    #[test]
    fn what_was_stored_is_read(series in any_series()) {
        prop_assert_eq!(Series::decode(&series.encode().unwrap()), Ok(series));
    }

    #[test]
    fn garbage_never_panics(mut bytes in vec(any::<u8>(), 0..300), plain in any::<bool>()) {
        if plain {
            bytes = zstd::bulk::compress(&bytes, 1).unwrap();
            bytes.insert(0, VERSION);
        }
        if let Ok(series) = Series::decode(&bytes) {
            series.slice(f64::NEG_INFINITY, f64::INFINITY, 3);
        }
    }

    #[test]
    fn slices_conserve_sums(series in any_series(), cut in -2000_i64..600_000, points in 1..300_usize) {
        let (start, end) = series.range_seconds();
        let cut = (cut / series.width * series.width).clamp(start, end);
        let all = sums(&series.slice(start as f64, end as f64, MAX_POINTS));
        let parts = [series.slice(start as f64, cut as f64, points), series.slice(cut as f64, end as f64, points)];
        prop_assert!(parts.iter().all(|part| part.points.len() <= points));
        let [a, b] = parts.map(|part| sums(&part));
        prop_assert_eq!((a.0 + b.0, a.1 + b.1, a.2 + b.2, a.3 + b.3), all);
    }
}
