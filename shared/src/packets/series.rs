//! Bytes, packets and keyframes over time, for one stream: how it is made small for storing, read back, and cut to what a
//! chart needs. The worker encodes at the end of a scan; the API decodes and slices. Sums stay sums: merging buckets never
//! loses a byte. Decoding believes nothing: any bytes give a series within its bounds or an error.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MAX_BUCKETS, MAX_SECONDS};

/// Most points of a slice.
pub const MAX_POINTS: usize = 10_000;

/// First byte of an encoded series: the version of its layout.
const VERSION: u8 = 1;
/// Level of compression: the fast one, as most of the gain is in the deltas.
const LEVEL: i32 = 3;
/// Bytes of the longest number in an encoded series.
const MAX_NUMBER_BYTES: usize = 10;
/// Bytes of the largest series before compression: five numbers of header and three per bucket.
const MAX_PLAIN_BYTES: usize = (4 + 3 * MAX_BUCKETS) * MAX_NUMBER_BYTES;
/// Bytes of the largest encoded series; what is compressed badly may grow a little.
const MAX_ENCODED_BYTES: usize = MAX_PLAIN_BYTES + MAX_PLAIN_BYTES / 128 + 1024;

/// What fell into a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bucket {
    pub(super) bytes: u64,
    pub(super) packets: u32,
    pub(super) keyframes: u32,
}

impl Bucket {
    #[inline]
    pub(super) fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.packets = self.packets.saturating_add(other.packets);
        self.keyframes = self.keyframes.saturating_add(other.keyframes);
    }
}

/// Bytes, packets and keyframes of one stream over its decoding time, in buckets of equal width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    stream: u32,
    first: i64,
    width: i64,
    buckets: Vec<Bucket>,
}

/// A part of a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Slice {
    /// ffprobe's stream index.
    pub stream_index: u32,
    /// Seconds of a point. The last one may have fewer.
    pub resolution_seconds: u64,
    /// What fell into each span, without holes, in the order of time.
    pub points: Vec<Point>,
}

/// What fell into a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Point {
    /// Where it begins, in seconds of decoding time on the continuous clock.
    pub start_seconds: i64,
    /// How long it is, in seconds.
    pub seconds: u64,
    /// Bytes of its packets.
    pub bytes: u64,
    /// Its packets.
    pub packets: u64,
    /// Its keyframes.
    pub keyframes: u64,
}

/// Bytes that are not a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by another version.
    #[error("This series has a layout that this version does not know. Scan the file again.")]
    Version,
    /// Cut off or changed.
    #[error("This series is damaged. Scan the file again.")]
    Damaged,
}

impl Series {
    /// From buckets that begin at `first * width` seconds; `width` is a power of two. At most [`MAX_BUCKETS`] are kept.
    pub(super) fn new(stream: u32, first: i64, width: i64, mut buckets: Vec<Bucket>) -> Self {
        buckets.truncate(MAX_BUCKETS);
        Self { stream, first, width, buckets }
    }

    /// ffprobe's stream index.
    pub fn stream_index(&self) -> u32 {
        self.stream
    }

    /// Seconds of a bucket: the finest resolution there is.
    pub fn resolution_seconds(&self) -> u64 {
        self.width.unsigned_abs()
    }

    /// The seconds it covers, from the start of the first bucket to the end of the last; equal without packets.
    pub fn range_seconds(&self) -> (i64, i64) {
        let end = self.first + i64::try_from(self.buckets.len()).unwrap_or(0);
        (self.first * self.width, end * self.width)
    }

    /// The buckets that lie in or reach into `from_seconds..to_seconds`, as at most `max_points` points (1 to
    /// [`MAX_POINTS`]). Neighbours are merged where there are more.
    pub fn slice(&self, from_seconds: f64, to_seconds: f64, max_points: usize) -> Slice {
        let (start, end) = self.range_seconds();
        let (from, to) = (from_seconds.max(start as f64), to_seconds.min(end as f64));
        let width = self.width as f64;
        // a float that is out of range or no number becomes the nearest index or 0
        let skip = ((from - start as f64) / width).floor() as usize;
        let until = (((to - start as f64) / width).ceil() as usize).min(self.buckets.len());
        let wanted = if from < to { self.buckets.get(skip..until).unwrap_or_default() } else { &[] };
        let merged = wanted.len().div_ceil(max_points.clamp(1, MAX_POINTS)).max(1);
        let starts = (self.first + i64::try_from(skip).unwrap_or(0)..).step_by(merged);
        let points = wanted.chunks(merged).zip(starts).map(|(buckets, number)| {
            let mut point =
                Point { start_seconds: number * self.width, seconds: 0, bytes: 0, packets: 0, keyframes: 0 };
            for bucket in buckets {
                point.seconds += self.width.unsigned_abs();
                point.bytes = point.bytes.saturating_add(bucket.bytes);
                point.packets += u64::from(bucket.packets);
                point.keyframes += u64::from(bucket.keyframes);
            }
            point
        });
        let resolution_seconds = self.width.unsigned_abs() * merged as u64;
        Slice { stream_index: self.stream, resolution_seconds, points: points.collect() }
    }

    /// Its bytes for storing: differences from bucket to bucket, column by column, compressed. At most about 2 MB, and
    /// some kilobytes for an hour.
    pub fn encode(&self) -> Result<Vec<u8>, std::io::Error> {
        let mut plain = Vec::with_capacity(32 + self.buckets.len() * 6);
        put(&mut plain, self.stream.into());
        put(&mut plain, zigzag(self.first));
        put(&mut plain, self.width.trailing_zeros().into());
        put(&mut plain, self.buckets.len() as u64);
        let columns: [fn(&Bucket) -> u64; 3] =
            [|bucket| bucket.bytes, |bucket| bucket.packets.into(), |bucket| bucket.keyframes.into()];
        for column in columns {
            let mut before: u64 = 0;
            for bucket in &self.buckets {
                let value = column(bucket);
                put(&mut plain, zigzag(value.wrapping_sub(before).cast_signed()));
                before = value;
            }
        }
        let mut encoded = vec![VERSION];
        encoded.append(&mut zstd::bulk::compress(&plain, LEVEL)?);
        Ok(encoded)
    }

    /// Reads what [`Series::encode`] made.
    pub fn decode(encoded: &[u8]) -> Result<Self, DecodeError> {
        let (version, compressed) = encoded.split_first().ok_or(DecodeError::Damaged)?;
        if *version != VERSION {
            return Err(DecodeError::Version);
        }
        if compressed.len() > MAX_ENCODED_BYTES {
            return Err(DecodeError::Damaged);
        }
        let plain = zstd::bulk::decompress(compressed, MAX_PLAIN_BYTES).map_err(|_| DecodeError::Damaged)?;
        read(&mut plain.as_slice()).ok_or(DecodeError::Damaged)
    }
}

fn read(plain: &mut &[u8]) -> Option<Series> {
    let stream = u32::try_from(take(plain)?).ok()?;
    let first = unzigzag(take(plain)?);
    let width =
        1_i64.checked_shl(u32::try_from(take(plain)?).ok()?).filter(|width| (1..=2 * MAX_SECONDS).contains(width))?;
    let count = usize::try_from(take(plain)?).ok().filter(|count| *count <= MAX_BUCKETS)?;
    // the lowest number there is has no opposite
    if first.checked_mul(width)?.unsigned_abs() > (2 * MAX_SECONDS).unsigned_abs() {
        return None;
    }
    let mut buckets = vec![Bucket::default(); count];
    column(plain, &mut buckets, |bucket| &mut bucket.bytes)?;
    column(plain, &mut buckets, |bucket| &mut bucket.packets)?;
    column(plain, &mut buckets, |bucket| &mut bucket.keyframes)?;
    plain.is_empty().then_some(Series { stream, first, width, buckets })
}

fn column<T: TryFrom<u64>>(
    plain: &mut &[u8],
    buckets: &mut [Bucket],
    field: impl Fn(&mut Bucket) -> &mut T,
) -> Option<()> {
    let mut before: u64 = 0;
    for bucket in buckets {
        before = before.wrapping_add_signed(unzigzag(take(plain)?));
        *field(bucket) = T::try_from(before).ok()?;
    }
    Some(())
}

/// Small numbers of either sign as small numbers without one.
fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn put(plain: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        plain.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    plain.push(value.to_le_bytes()[0]);
}

fn take(plain: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in plain.iter().enumerate().take(MAX_NUMBER_BYTES) {
        let bits = u64::from(byte & 0x7f);
        if at == MAX_NUMBER_BYTES - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            *plain = plain.get(at + 1..)?;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
