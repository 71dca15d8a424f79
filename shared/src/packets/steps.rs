//! Which distances in decoding time lie between packets, and which is the usual one, in a table of [`MAX_STEPS`] rows. Used
//! by [`super::timeline`]. Where ticks are fine, steps within two ticks are one: containers round to milliseconds, so 23.976
//! frames per second make steps of 41 and 42.

use super::MAX_STEPS;

/// A step and how often it came.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    step: i64,
    count: u64,
    sum: i64,
}

/// Counted steps.
#[derive(Debug)]
pub(super) struct Steps {
    rounding: u64,
    rows: [Row; MAX_STEPS],
    used: usize,
    usual: usize,
    count: u64,
    min: i64,
}

impl Steps {
    /// No steps yet. Those that differ by at most `rounding` ticks will be the same.
    pub(super) fn new(rounding: i64) -> Self {
        let rounding = rounding.unsigned_abs();
        Self { rounding, rows: [Row::default(); MAX_STEPS], used: 0, usual: 0, count: 0, min: i64::MAX }
    }

    /// Counts a step of at least one tick.
    #[inline]
    pub(super) fn add(&mut self, step: i64) {
        self.count += 1;
        self.min = self.min.min(step);
        let rounding = self.rounding;
        let is_same = |row: &Row| row.step.abs_diff(step) <= rounding;
        let at = if self.rows.get(self.usual).is_some_and(is_same) && self.used > 0 {
            self.usual
        } else {
            self.rows[..self.used].iter().position(is_same).unwrap_or_else(|| self.make_room(step))
        };
        let row = &mut self.rows[at];
        row.count += 1;
        row.sum = row.sum.saturating_add(step);
        if row.count > self.rows[self.usual].count {
            self.usual = at;
        }
    }

    /// A row for a new step: a free one, else that of the rarest. What was counted there is forgotten, so the usual step's
    /// count is at least the true one less what came before its last row was made.
    fn make_room(&mut self, step: i64) -> usize {
        let at = if self.used < MAX_STEPS {
            self.used += 1;
            self.used - 1
        } else {
            let others = (0..MAX_STEPS).filter(|at| *at != self.usual);
            others.min_by_key(|at| self.rows[*at].count).unwrap_or(0)
        };
        self.rows[at] = Row { step, count: 0, sum: 0 };
        at
    }

    /// The most frequent step so far, in ticks.
    #[inline]
    pub(super) fn usual(&self) -> Option<i64> {
        (self.used > 0).then(|| self.rows[self.usual].step)
    }

    /// The mean of the steps that count as the most frequent one, in ticks: exact where the container rounds.
    pub(super) fn usual_mean(&self) -> Option<f64> {
        let row = self.rows.get(self.usual).filter(|row| row.count > 0)?;
        Some(row.sum as f64 / row.count as f64)
    }

    /// How many steps are the most frequent one.
    pub(super) fn usual_count(&self) -> u64 {
        self.rows[self.usual].count
    }

    /// How many steps there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The shortest step in ticks.
    pub(super) fn min(&self) -> Option<i64> {
        (self.count > 0).then_some(self.min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_steps_are_one() {
        let mut steps = Steps::new(2);
        assert_eq!((steps.usual(), steps.usual_mean(), steps.min()), (None, None, None));
        for step in [42, 42, 41, 42, 500, 41, 42, 42] {
            steps.add(step);
        }
        assert_eq!((steps.usual(), steps.usual_count(), steps.count(), steps.min()), (Some(42), 7, 8, Some(41)));
        assert_eq!(steps.usual_mean(), Some(292.0 / 7.0));
    }

    #[test]
    fn the_usual_step_is_found_behind_many_others() {
        let mut steps = Steps::new(2);
        (1..1000).for_each(|n| steps.add(n * 10));
        (0..50).for_each(|_| steps.add(7777));
        assert_eq!((steps.usual(), steps.usual_count(), steps.count()), (Some(7777), 50, 1049));
        steps.add(i64::MAX);
        steps.add(1);
        assert_eq!(steps.min(), Some(1));
    }
}
