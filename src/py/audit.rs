//! Audit hooks: what CPython's own functions tell them, and we do in their place.

use std::ffi::{CStr, c_char, c_int};

use pyo3::ffi;
use pyo3::prelude::*;

use super::error;

// CPython's, which PyO3 does not name.
unsafe extern "C" {
    fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
}

/// `sys.audit(event, a, b)`: next to nothing when there are no hooks.
///
/// # Errors
/// What a hook raises.
#[inline]
pub fn audit(event: &CStr, a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<()> {
    let (first, second): (*mut ffi::PyObject, *mut ffi::PyObject) = (a.as_ptr(), b.as_ptr());
    // SAFETY: the Bounds hold two objects for the call, as the format says, and the GIL; both strings end with NUL.
    let answer = unsafe { PySys_Audit(event.as_ptr(), c"OO".as_ptr(), first, second) };
    error::answered(a.py(), answer).map(drop)
}
