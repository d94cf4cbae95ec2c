//! A Rust future under a task of *another* class (asyncio's own, say): the part of asyncio's future protocol that such
//! a task uses to be woken.
//!
//! The poll is made with a waker that knows no loop yet, as a future that is ready needs none. Still pending, the
//! waker is armed: it has the running loop call the callbacks that the task is about to add.

use std::sync::Arc;
use std::task::{Poll, Waker};

use pyo3::prelude::*;

use super::awaitable::RustFuture;
use super::body::SlimOutput;
use super::link::{self, Current};
use super::local;
use super::waiters::ForeignWaiters;
use crate::py::error::Slim;
use crate::py::exit::outlast;
use crate::py::{names, refs, require_main_for_futures};

/// A task of another class goes on with it: what it is to be told instead of another poll.
#[cold]
pub(super) fn resumed(slf: &Bound<'_, RustFuture>) -> Slim<Option<SlimOutput>> {
    let (py, this) = (slf.py(), slf.get());
    let (early, cancelled, old) =
        this.with_foreign(py, |foreign| (foreign.early.take(), foreign.cancelled.take(), foreign.waiters.take()));
    if let Some(waiting) = old
        && !waiting.is_over(py)
    {
        // Another task waits for it: it goes on doing so. Or nobody has taken it up.
        drop(this.with_foreign(py, |foreign| foreign.waiters.replace(waiting)));
        let untaken = this.state.with(py, |state| state.blocking);
        return Err(Box::new(if untaken { RustFuture::not_awaited() } else { this.awaited_twice() }));
    }
    match cancelled {
        Some(message) => Err(Box::new(names::cancelled(py, message)?)),
        None => Ok(early),
    }
}

/// Poll for a task of another class, or for whoever drives it by hand.
pub(super) fn poll(slf: &Bound<'_, RustFuture>) -> Slim<Poll<SlimOutput>> {
    outlast();
    require_main_for_futures(slf.py())?;
    slf.get().check_awaiter(slf.py())?;
    local::sweep(slf.py());
    let waiters = ForeignWaiters::new();
    let waker = Waker::from(Arc::clone(&waiters));
    let polled = slf.get().poll(slf.py(), &Current::outside(&waker))?;
    if polled.is_pending() {
        arm(slf, waiters)?;
    }
    Ok(polled)
}

/// The poll is pending: whoever drives it, a loop must be there to wake it.
pub(super) fn arm(slf: &Bound<'_, RustFuture>, waiters: Arc<ForeignWaiters>) -> PyResult<()> {
    let py = slf.py();
    let event_loop = names::require_running_loop(py)?;
    waiters.wait(py, &event_loop)?;
    let awaiter = link::awaiter_on(&event_loop)?;
    slf.get().state.with(py, |state| state.awaiter = awaiter);
    let old = slf.get().with_foreign(py, |foreign| foreign.waiters.replace(waiters));
    drop(old);
    refs::show(slf.as_any());
    Ok(())
}
