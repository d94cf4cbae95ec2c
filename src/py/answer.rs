//! What CPython's C API answers: an object or a number, or that an exception is set, which is taken here.
//!
//! PyO3's `PyErr::fetch`, and so each of its calls of Python, makes a panic again of the PanicException that a panic of
//! this crate's has become: it prints to stderr and unwinds. For a loop that is one coroutine's error ending the run of
//! all. So errors are taken by `fetch` here, and what may run a program's code is called by `py::call`; what panics all
//! the same is caught where the loop calls it (`catch_panic`).

use std::ffi::c_int;

use pyo3::exceptions::PySystemError;
use pyo3::ffi;
use pyo3::prelude::*;

/// The exception that is set in this thread, which is set no more: a PanicException, too.
pub fn fetch(py: Python<'_>) -> PyErr {
    // SAFETY: the token says that the GIL is held. CPython gives its reference to the exception away, or NULL.
    match unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyErr_GetRaisedException()) } {
        Some(raised) => PyErr::from_value(raised),
        None => PySystemError::new_err("a call failed without an exception"),
    }
}

/// What a function of the C API gave: an object, or NULL with an exception set.
///
/// # Errors
/// That exception.
///
/// # Safety
/// `object` is NULL or a reference that is given away.
#[inline(always)]
pub unsafe fn owned(py: Python<'_>, object: *mut ffi::PyObject) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the caller promises a reference that is given away, or NULL.
    match unsafe { Bound::from_owned_ptr_or_opt(py, object) } {
        Some(object) => Ok(object),
        None => Err(fetch(py)),
    }
}

/// What a function of the C API answered: a number that is not negative, or -1 with an exception set.
///
/// # Errors
/// That exception.
#[inline(always)]
pub fn answered(py: Python<'_>, answer: c_int) -> PyResult<c_int> {
    if answer < 0 { Err(fetch(py)) } else { Ok(answer) }
}
