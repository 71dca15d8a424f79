//! The slot gate: a tower layer that is ready only while a slot is free, so that apalis fetches no ticket this worker
//! cannot serve, and that gives the slot to the job rather than to the apalis task: a rebuilt apalis worker can never
//! over-subscribe the machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use apalis::prelude::Task;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;
use tower::{Layer, Service};

/// Makes gates over one set of slots.
#[derive(Clone)]
pub(super) struct Gate {
    slots: Arc<Semaphore>,
}

impl Gate {
    /// Gates over these slots.
    pub(super) fn new(slots: Arc<Semaphore>) -> Self {
        Self { slots }
    }
}

/// The slot a task was given, to be taken by its handler; empty if somebody was faster.
#[derive(Clone)]
pub(super) struct Slot(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Slot {
    /// Takes the slot out.
    pub(super) fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, slots: Arc::clone(&self.slots), freed: PollSemaphore::new(Arc::clone(&self.slots)) }
    }
}

/// A service behind the gate.
pub(super) struct Gated<S> {
    inner: S,
    slots: Arc<Semaphore>,
    freed: PollSemaphore,
}

impl<S, A> Service<Task<A>> for Gated<S>
where
    S: Service<Task<A>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        // Only waits for a free slot and gives it back at once. Keeping it would hold a slot hostage while no ticket
        // comes, and a worker with one slot could then never take a job without a ticket.
        drop(ready!(self.freed.poll_acquire(cx)));
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut task: Task<A>) -> S::Future {
        let permit = Arc::clone(&self.slots).try_acquire_owned().ok();
        task.inject_data(Slot(Arc::new(Mutex::new(permit))));
        self.inner.call(task)
    }
}
