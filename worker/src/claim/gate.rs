//! The slot gate: a tower layer that is ready only while a slot is free, so that apalis fetches no ticket this worker
//! cannot serve, and that gives the slot to the job rather than to the apalis task: a rebuilt apalis worker can never
//! over-subscribe the machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use apalis::prelude::Task;
use shared::job::Lane;
use tower::{Layer, Service};

use crate::slots::{Slot, Slots};

/// Makes gates over one lane's slots.
#[derive(Clone)]
pub(super) struct Gate {
    slots: Slots,
    lane: Lane,
}

impl Gate {
    /// Gates over these slots, for tickets of this lane.
    pub(super) fn new(slots: Slots, lane: Lane) -> Self {
        Self { slots, lane }
    }
}

/// The slot a task was given, to be taken by its handler; empty if somebody was faster.
#[derive(Clone)]
pub(super) struct Given(Arc<Mutex<Option<Slot>>>);

impl Given {
    /// Takes the slot out.
    pub(super) fn take(&self) -> Option<Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, slots: self.slots.clone(), lane: self.lane }
    }
}

/// A service behind the gate.
pub(super) struct Gated<S> {
    inner: S,
    slots: Slots,
    lane: Lane,
}

impl<S, A> Service<Task<A>> for Gated<S>
where
    S: Service<Task<A>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        ready!(self.slots.poll_free(self.lane, cx));
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut task: Task<A>) -> S::Future {
        task.inject_data(Given(Arc::new(Mutex::new(self.slots.take(self.lane)))));
        self.inner.call(task)
    }
}
