//! `contextvars`: copying the current context, and running inside one.

use pyo3::ffi;
use pyo3::prelude::*;

/// `contextvars.copy_context()`.
#[inline]
pub fn copy_current(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: gives a new reference, or NULL with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }.map(Bound::unbind)
}

/// Run `f` with `context` entered, as `Context.run` does.
///
/// # Errors
/// RuntimeError when the context is entered already, TypeError when it is none.
#[inline]
pub fn run_in<'py, R>(context: &Bound<'py, PyAny>, f: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    struct Exit<'a, 'py>(&'a Bound<'py, PyAny>);
    impl Drop for Exit<'_, '_> {
        #[inline]
        fn drop(&mut self) {
            // SAFETY: entered below by this thread; what ran since has left every context that it entered. It can
            // only fail when that is not so, and then the exception stays for the caller's caller to see.
            unsafe { ffi::PyContext_Exit(self.0.as_ptr()) };
        }
    }
    // SAFETY: a live object; its type is checked by CPython.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(context.py()));
    }
    let _exit = Exit(context);
    f()
}
