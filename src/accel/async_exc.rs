//! Whether another thread has asked for an exception in this one (`PyThreadState_SetAsyncExc`).
//!
//! CPython raises it between two bytecodes. A loop that slept meanwhile runs a callback next, which would be the one to
//! raise it; so a turn asks first. The thread's state has the exception in one word, which is found by experiment.
//!
//! Plain path: one may always be waiting, and each poll of the turn runs a line of Python to find out.

use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::prelude::*;

use super::{Acceleration, Probed, expect};
use crate::py::attach;

pub static ASYNC_EXC: Acceleration = Acceleration::new("async_exc");

/// Where a `PyThreadState` has the exception, in bytes: set before `ASYNC_EXC` is on.
static IN_THREAD_STATE: AtomicUsize = AtomicUsize::new(0);

/// The least size of a `PyThreadState` (3.12), in bytes.
const THREAD_STATE_SIZE: usize = 288;

/// The word of this thread's state at `offset`, which is less than `THREAD_STATE_SIZE` and a multiple of a word.
#[inline(always)]
fn word(_py: Python<'_>, offset: usize) -> usize {
    // SAFETY: the GIL is held, so there is a thread state, which is larger than that.
    unsafe { ffi::PyThreadState_Get().byte_add(offset).cast::<usize>().read() }
}

/// Whether an exception may be waiting for this thread.
#[inline]
pub fn may_wait(py: Python<'_>) -> bool {
    !ASYNC_EXC.is_on() || word(py, IN_THREAD_STATE.load(Ordering::Relaxed)) != 0
}

/// Have an exception wait for this thread, look where it is, and call it off. No bytecode is run meanwhile.
pub(super) fn probe(py: Python<'_>) -> Probed {
    let exception = PyException::new_err(()).into_value(py);
    let ident = attach::thread_ident() as std::ffi::c_long;
    // SAFETY: the GIL is held; CPython takes a reference of its own, and gives it back when the exception is called
    // off.
    let ask = |exception| unsafe { ffi::PyThreadState_SetAsyncExc(ident, exception) };
    expect(ask(exception.as_ptr()) == 1, "this thread takes no exceptions from others")?;
    let waits = |&offset: &usize| word(py, offset) == exception.as_ptr() as usize;
    let mut found = (0..THREAD_STATE_SIZE).step_by(size_of::<usize>()).filter(waits);
    let (first, second) = (found.next(), found.next());
    ask(std::ptr::null_mut());
    let place = first.filter(|_| second.is_none()).ok_or("a waiting exception is in no one place")?;
    expect(word(py, place) == 0, "a waiting exception is not where it was found")?;
    IN_THREAD_STATE.store(place, Ordering::Relaxed);
    Ok(())
}
