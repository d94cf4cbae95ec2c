//! The cycle collector, told what it need not look at.
//!
//! A loop that runs is alive, and so is what waits in its queues. Looking through thousands of waiting handles in each
//! young collection is a quarter of what a callback costs, so a handle made while its loop runs is untracked, and so
//! is the tuple of its arguments, until it has run or is cancelled (and somebody else holds it) or outlives the run.
//! CPython does the same to tuples and dictionaries that cannot be part of a cycle.
//!
//! PyO3's freelists hand out objects untracked (0.30), and so does our pool: such a class says here what is to be
//! tracked.

use pyo3::ffi;
use pyo3::prelude::*;

/// Take an object out of the collector's sight.
#[inline]
pub fn untrack(object: &Bound<'_, PyAny>) {
    // SAFETY: a live object of a class with `__traverse__` (the callers' are); untracking twice is allowed.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) }
}

/// Whether anybody but the caller holds it.
#[inline]
pub fn is_shared(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) > 1 }
}

/// Put it back.
#[inline]
pub fn track(object: &Bound<'_, PyAny>) {
    // SAFETY: a live object of a class with `__traverse__`, whole, and not tracked (asked first).
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}
