//! How a future is made and how it ends: from the pool and back, with a last look at what nobody has retrieved.

use pyo3::prelude::*;

use super::callbacks::Waiters;
use super::class::Future;
use super::state::{Outcome, State};
use crate::accel::pool::{self, Pooled, has_pool};
use crate::py::error;
use crate::py::exit::outlast;
use crate::py::finalize::{Finalize, Inner};
use crate::py::refs::is_shared;
use crate::sched::LoopState;

/// A future of a loop of ours (`loop.create_future()`).
pub fn new_future<'py>(event_loop: &Bound<'py, LoopState>) -> PyResult<Bound<'py, Future>> {
    let py = event_loop.py();
    let future = pool::create::<Future>(py, || (Future::bound_to(event_loop.as_any().clone().unbind()),))?;
    if event_loop.get().debug.get(py) {
        future.get().note_origin(py)?;
    }
    Ok(future)
}

impl Pooled for Future {
    has_pool!((Future,), Future);
    const SPARE: usize = 256;

    #[inline]
    fn release((future,): (Self,), py: Python<'_>) {
        let State { event_loop, outcome, waiters, rare, .. } = future.state.into_inner();
        if let Some(event_loop) = event_loop {
            event_loop.drop_ref(py);
        }
        match outcome {
            Outcome::Pending | Outcome::Cancelled => {}
            Outcome::Result(value) => {
                // Its `__del__` may run, if it has one.
                if !is_shared(value.bind(py)) {
                    outlast();
                }
                value.drop_ref(py);
            }
            Outcome::Failed(failure) => {
                outlast();
                Python::attach(|_| drop(failure));
            }
        }
        if rare.is_some() || !matches!(waiters, Waiters::None) {
            Python::attach(|_| drop((waiters, rare)));
        }
    }
}

impl Finalize for Future {
    fn needs_finalizer(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| state.log_traceback)
    }

    /// "exception was never retrieved".
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let unseen = slf.get().state.with(py, |state| {
            if !state.log_traceback {
                return None;
            }
            state.log_traceback = false;
            match (&state.outcome, &state.event_loop) {
                (Outcome::Failed(failure), Some(event_loop)) => {
                    Some((failure.exception.clone_ref(py), event_loop.clone_ref(py), state.source_traceback(py)))
                }
                _ => None,
            }
        });
        let Some((exception, event_loop, stack)) = unseen else { return Ok(()) };
        let message = format!("{} exception was never retrieved", slf.get_type().name()?);
        let exception = exception.into_bound(py).into_any();
        let stack = stack.map(|stack| stack.into_bound(py));
        let mut items = vec![("exception", &exception), ("future", slf.as_any())];
        if let Some(stack) = &stack {
            items.push(("source_traceback", stack));
        }
        error::call_exception_handler(event_loop.bind(py), &message, &items)
    }

    fn inner_dealloc() -> &'static Inner {
        static INNER: Inner = Inner::new();
        &INNER
    }
}
