//! Taking an awaitable one poll further: with the waker of the step that runs, or by asyncio's protocol where no task
//! of ours makes it.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use pyo3::prelude::*;

use super::awaitable::RustFuture;
use super::body::SlimOutput;
use super::foreign;
use super::link::{self, Current, PendingIn};
use crate::py::error::Slim;
use crate::py::{call, error, iter};

/// The loop has been told of this copy's class.
static REGISTERED: AtomicBool = AtomicBool::new(false);

impl RustFuture {
    /// Poll with the waker of the step that is running, else with one for the running loop.
    #[inline]
    pub(super) fn advance(slf: &Bound<'_, Self>) -> Slim<Poll<Py<PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        let polled = match link::own_step() {
            // As a rule, where the loop is this copy's.
            Some(current) if this.begin_plain_poll(py)? => this.go_on_polling(py, &current)?,
            _ => Self::advance_otherwise(slf)?,
        };
        match polled {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(result) => Self::ended(py, result).map(Poll::Ready),
        }
    }

    /// In the step of a provider's task, in none, or when a task of another class has to do with it.
    #[inline(never)]
    fn advance_otherwise(slf: &Bound<'_, Self>) -> Slim<Poll<SlimOutput>> {
        let (py, this) = (slf.py(), slf.get());
        link::with_current(py, |current| {
            if this.state.with(py, |state| state.foreign.is_some())
                && let Some(result) = foreign::resumed(slf)?
            {
                return Ok(Poll::Ready(result));
            }
            match current {
                Some(current) => this.poll(py, &current),
                None => foreign::poll(slf),
            }
        })
    }

    #[inline]
    fn ended(py: Python<'_>, result: SlimOutput) -> SlimOutput {
        result.map_err(|raised| Box::new(iter::raised_by_coroutine(py, *raised)))
    }

    /// A poll is pending: it is about to be yielded to the task that makes the step. None: there is none.
    #[inline(always)]
    pub(super) fn note_pending(py: Python<'_>, current: &Current<'_>) -> Option<PendingIn> {
        if !REGISTERED.load(Ordering::Relaxed) {
            Self::register(py);
        }
        current.note_pending(py)
    }

    #[cold]
    fn register(py: Python<'_>) {
        unsafe extern "C" fn cancel(object: *mut c_void) {
            // SAFETY: the loop calls this with the GIL held, with an object of the class that was registered.
            Python::attach(|py| unsafe {
                let object = call::cast_into::<RustFuture>(Bound::from_borrowed_ptr(py, object.cast()));
                // Nothing unwinds into the loop's module.
                if let Err(raised) = error::catch_panic(|| object.get().finish(py)).and_then(|ended| ended) {
                    error::unraisable(py, raised, Some(object.as_any()));
                }
            });
        }
        if link::register_awaitable(py, py.get_type::<Self>().as_ptr().cast(), cancel) {
            REGISTERED.store(true, Ordering::Relaxed);
        }
    }
}
