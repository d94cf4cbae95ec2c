//! Taking an awaitable one poll further: with the waker of the step that runs, or by asyncio's protocol where no task of
//! ours makes it.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use pyo3::prelude::*;

use super::awaitable::RustFuture;
use super::body::SlimOutput;
use super::foreign;
use super::link::{self, Current};
use crate::py::error::Slim;
use crate::py::{call, error, iter};

/// The loop has been told of this copy's class.
static REGISTERED: AtomicBool = AtomicBool::new(false);

impl RustFuture {
    /// Poll with the waker of the step that is running, else with one for the running loop.
    #[inline]
    pub(super) fn advance(slf: &Bound<'_, Self>) -> Slim<Poll<Py<PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        if this.state.with(py, |state| state.foreign.is_some())
            && let Some(result) = foreign::resumed(slf)?
        {
            return Self::ended(py, result).map(Poll::Ready);
        }
        let polled = link::with_current(py, |current| match current {
            Some(current) => {
                let polled = this.poll(py, &current)?;
                if polled.is_pending() {
                    this.note_pending(py, &current)?;
                }
                Ok(polled)
            }
            None => foreign::poll(slf),
        })?;
        match polled {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(result) => Self::ended(py, result).map(Poll::Ready),
        }
    }

    #[inline]
    fn ended(py: Python<'_>, result: SlimOutput) -> SlimOutput {
        result.map_err(|raised| Box::new(iter::raised_by_coroutine(py, *raised)))
    }

    /// It is about to be yielded to the task that makes the step, if that has taken up what it was given before: who
    /// resumes it while it is pending does not await it (`for`, `list()`).
    #[inline]
    fn note_pending(&self, py: Python<'_>, current: &Current<'_>) -> Slim<()> {
        if !REGISTERED.load(Ordering::Relaxed) {
            self.register(py);
        }
        let now = current.note_pending(py);
        let again = self.state.with(py, |state| match (std::mem::replace(&mut state.pending_in, now.step), now.step) {
            (Some(before), Some(step)) => now.is_taken_up || before == step,
            _ => false,
        });
        if again { Err(Box::new(RustFuture::not_awaited())) } else { Ok(()) }
    }

    #[cold]
    fn register(&self, py: Python<'_>) {
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
