//! Slots: how many jobs this process runs at once. Scans read whole files and may take an hour, so they never take the
//! last slot of a worker that serves quick looks, too. A slot is taken before a claim and travels with the job.
//!
//! Not a semaphore: apalis must be told that a slot is free without being given one. A semaphore hands a freed permit to
//! whoever has waited longest, polled or not, and a waiter that apalis does not poll again would keep it for ever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use shared::job::Lane;

/// The slots of a worker. Clones share them.
#[derive(Debug, Clone)]
pub struct Slots {
    state: Arc<Mutex<State>>,
    count: usize,
    for_scans: usize,
}

#[derive(Debug, Default)]
struct State {
    busy: usize,
    scans: usize,
    waiting: Vec<Waker>,
}

/// A slot in use; free again when dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    lane: Lane,
}

impl Slots {
    /// `count` slots for a worker that serves these lanes.
    pub fn new(count: usize, lanes: &[Lane]) -> Self {
        let spared = usize::from(lanes.contains(&Lane::Fast));
        Self { state: Arc::default(), count, for_scans: count.saturating_sub(spared) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many are in use.
    pub fn busy(&self) -> usize {
        self.state().busy
    }

    /// A slot for a job of this lane, if one is free.
    pub fn take(&self, lane: Lane) -> Option<Slot> {
        let mut state = self.state();
        if !self.is_free(&state, lane) {
            return None;
        }
        state.busy += 1;
        state.scans += usize::from(lane == Lane::Scan);
        drop(state);
        Some(Slot { slots: self.clone(), lane })
    }

    /// Ready while a slot of this lane is free, without taking it: holding one while no job comes would keep it from
    /// those that come another way, and a worker with one slot could then never take a job without a ticket.
    pub fn poll_free(&self, lane: Lane, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if self.is_free(&state, lane) {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn is_free(&self, state: &State, lane: Lane) -> bool {
        state.busy < self.count && (lane == Lane::Fast || state.scans < self.for_scans)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.slots.state();
        state.busy -= 1;
        state.scans -= usize::from(self.lane == Lane::Scan);
        // all of them: who is woken may not want the slot any more
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use super::*;

    #[test]
    fn scans_leave_the_last_slot_alone() {
        let slots = Slots::new(3, &Lane::ALL);
        let scans = [slots.take(Lane::Scan), slots.take(Lane::Scan)];
        assert!(scans.iter().all(Option::is_some));
        assert!(slots.take(Lane::Scan).is_none());
        let fast = slots.take(Lane::Fast);
        assert!(fast.is_some() && slots.take(Lane::Fast).is_none());
        assert_eq!((slots.busy(), slots.count()), (3, 3));
        drop(scans);
        assert_eq!(slots.busy(), 1);
        assert!(slots.take(Lane::Fast).is_some());
    }

    #[test]
    fn a_worker_for_scans_alone_uses_all_slots() {
        assert!(Slots::new(1, &[Lane::Scan]).take(Lane::Scan).is_some());
        assert!(Slots::new(1, &Lane::ALL).take(Lane::Scan).is_none());
    }

    #[derive(Default)]
    struct Woken(Mutex<usize>);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() += 1;
        }
    }

    #[test]
    fn a_waiter_that_is_gone_keeps_no_slot() {
        let slots = Slots::new(1, &[Lane::Fast]);
        let taken = slots.take(Lane::Fast).unwrap();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        assert!(slots.poll_free(Lane::Fast, &mut cx).is_pending());
        assert!(slots.poll_free(Lane::Fast, &mut cx).is_pending(), "waiting twice is waiting once");
        drop(taken);
        assert_eq!(*woken.0.lock().unwrap(), 1);
        // the waiter is never polled again, and still the slot is free
        assert_eq!(slots.busy(), 0);
        assert!(slots.take(Lane::Fast).is_some());
        assert!(slots.poll_free(Lane::Fast, &mut cx).is_ready());
    }
}
