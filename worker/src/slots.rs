//! Slots: how many jobs this process runs at once. Scans read whole files and may take an hour, so they never take the
//! last slot of a worker that serves quick looks, too. A slot is taken before a claim and travels with the job.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use shared::job::Lane;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// The slots of a worker. Clones share them.
#[derive(Debug, Clone)]
pub struct Slots {
    all: Arc<Semaphore>,
    for_scans: Arc<Semaphore>,
    count: usize,
}

/// A slot in use; free again when dropped.
#[derive(Debug)]
pub struct Slot {
    _slot: OwnedSemaphorePermit,
    _for_scans: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// `count` slots for a worker that serves these lanes.
    pub fn new(count: usize, lanes: &[Lane]) -> Self {
        let spared = usize::from(lanes.contains(&Lane::Fast));
        let for_scans = Arc::new(Semaphore::new(count.saturating_sub(spared)));
        Self { all: Arc::new(Semaphore::new(count)), for_scans, count }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many are in use.
    pub fn busy(&self) -> usize {
        self.count.saturating_sub(self.all.available_permits())
    }

    /// A slot for a job of this lane, if one is free.
    pub fn take(&self, lane: Lane) -> Option<Slot> {
        let for_scans = match lane {
            Lane::Fast => None,
            Lane::Scan => Some(Arc::clone(&self.for_scans).try_acquire_owned().ok()?),
        };
        Some(Slot { _slot: Arc::clone(&self.all).try_acquire_owned().ok()?, _for_scans: for_scans })
    }

    /// Something that can be polled for a free slot of this lane.
    pub fn freed(&self, lane: Lane) -> Freed {
        let for_scans = (lane == Lane::Scan).then(|| PollSemaphore::new(Arc::clone(&self.for_scans)));
        Freed { all: PollSemaphore::new(Arc::clone(&self.all)), for_scans }
    }
}

/// Becomes ready when a slot is free, without taking it: holding one while no job comes would keep it from those that
/// come another way, and a worker with one slot could then never take a job without a ticket.
#[derive(Debug)]
pub struct Freed {
    all: PollSemaphore,
    for_scans: Option<PollSemaphore>,
}

impl Freed {
    /// Ready while a slot is free.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let scan_permit = match &mut self.for_scans {
            Some(for_scans) => ready!(for_scans.poll_acquire(cx)),
            None => None,
        };
        drop(ready!(self.all.poll_acquire(cx)));
        drop(scan_permit);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
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
}
