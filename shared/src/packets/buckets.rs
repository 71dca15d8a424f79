//! Bytes, packets and keyframes per second of one stream, while it is read. Used by [`super::stream`], and by
//! [`super::interleaving`] for where in the file each second begins. When there are too many seconds, neighbours are
//! merged and buckets become twice as wide. Borders are multiples of the width from zero, so streams fit together.

use std::collections::VecDeque;

use super::MAX_SECONDS;
use super::line::Packet;
use super::series::{Bucket, Series};

/// A bucket, and the first place in the file that a packet of it has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cell {
    bucket: Bucket,
    /// One more than the byte, 0 for unknown.
    place: u64,
}

impl Cell {
    fn merge(&mut self, later: Self) {
        self.bucket.add(later.bucket);
        if self.place == 0 {
            self.place = later.place;
        }
    }
}

/// The buckets of a stream.
#[derive(Debug)]
pub(super) struct Buckets {
    cells: VecDeque<Cell>,
    /// Number of the first cell: its seconds begin at this times the width.
    first: i64,
    width: i64,
    most: usize,
}

impl Buckets {
    /// No buckets yet, and never more than `most`, which is at least 2.
    pub(super) fn new(most: usize) -> Self {
        Self { cells: VecDeque::new(), first: 0, width: 1, most: most.max(2) }
    }

    /// Counts a packet at a second.
    #[inline]
    pub(super) fn add(&mut self, second: i64, packet: &Packet) {
        let number = if self.width == 1 { second } else { second.div_euclid(self.width) };
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        let cell = match at.filter(|at| *at < self.cells.len()) {
            Some(at) => &mut self.cells[at],
            None => self.make_room(second.clamp(-MAX_SECONDS, MAX_SECONDS)),
        };
        cell.bucket.add(Bucket { bytes: packet.size, packets: 1, keyframes: packet.flags.key.into() });
        if cell.place == 0 {
            cell.place = packet.position.map_or(0, |position| position.saturating_add(1));
        }
    }

    #[cold]
    fn make_room(&mut self, second: i64) -> &mut Cell {
        let number = loop {
            let number = second.div_euclid(self.width);
            let Some(last) =
                i64::try_from(self.cells.len()).ok().filter(|len| *len > 0).map(|len| self.first + len - 1)
            else {
                self.first = number;
                break number;
            };
            let needed = last.max(number) - self.first.min(number) + 1;
            if usize::try_from(needed).is_ok_and(|needed| needed <= self.most) {
                break number;
            }
            self.double();
        };
        while number < self.first {
            self.cells.push_front(Cell::default());
            self.first -= 1;
        }
        let at = usize::try_from(number - self.first).unwrap_or(0);
        if at >= self.cells.len() {
            self.cells.resize(at + 1, Cell::default());
        }
        &mut self.cells[at]
    }

    fn double(&mut self) {
        let first = self.first.div_euclid(2);
        let mut merged: VecDeque<Cell> = VecDeque::with_capacity(self.cells.len() / 2 + 1);
        for (number, cell) in (self.first..).zip(&self.cells) {
            let at = usize::try_from(number.div_euclid(2) - first).unwrap_or(0);
            match merged.get_mut(at) {
                Some(earlier) => earlier.merge(*cell),
                None => merged.push_back(*cell),
            }
        }
        *self = Self { cells: merged, first, width: self.width * 2, most: self.most };
    }

    /// Makes the buckets as wide as another stream's, at least.
    pub(super) fn widen(&mut self, width: i64) {
        while self.width < width {
            self.double();
        }
    }

    /// Seconds of a bucket.
    pub(super) fn width(&self) -> i64 {
        self.width
    }

    /// The buckets with packets whose place in the file is known: number of the bucket and byte, in the order of time.
    pub(super) fn places(&self) -> impl Iterator<Item = (i64, u64)> {
        let known = |(number, cell): (i64, &Cell)| cell.place.checked_sub(1).map(|place| (number, place));
        (self.first..).zip(&self.cells).filter_map(known)
    }

    /// The series of a stream with this index.
    pub(super) fn series(&self, stream: u32) -> Series {
        Series::new(stream, self.first, self.width, self.cells.iter().map(|cell| cell.bucket).collect())
    }
}
