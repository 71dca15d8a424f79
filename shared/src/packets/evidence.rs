//! A count with the first few cases. Used by [`super::timeline`]. All are counted, [`MAX_EVIDENCE`] are kept.

use super::MAX_EVIDENCE;
use super::report::Jump;

/// Counted jumps.
#[derive(Debug, Default)]
pub(super) struct Jumps {
    count: u64,
    first: Vec<Jump>,
}

impl Jumps {
    /// Counts one, and keeps it if there is room.
    pub(super) fn add(&mut self, jump: impl FnOnce() -> Jump) {
        self.count += 1;
        if self.first.len() < MAX_EVIDENCE {
            self.first.push(jump());
        }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The first of them.
    pub(super) fn into_first(self) -> Vec<Jump> {
        self.first
    }
}
