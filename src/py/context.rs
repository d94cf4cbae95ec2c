//! `contextvars`: copying contexts, telling whether two have the same variables, and running inside one.

use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;

/// `contextvars.copy_context()`.
#[inline]
pub fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: gives a new reference, or NULL with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// `context.copy()`.
///
/// # Errors
/// TypeError for what is no context.
#[inline]
pub fn copy<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a live object, whose type CPython checks; gives a new reference, or NULL with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())) }
}

/// The identity of a context's variables: a context refers to one immutable map, and has another as soon as a variable
/// is set. It means something as long as a context that has the map is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables(usize);

/// The variables of a context (exactly `contextvars.Context`) that is not entered. None if it does not say.
///
/// It is asked as the cycle collector asks: what a context refers to is its map, when it is not entered.
#[inline(always)]
pub fn variables(context: &Bound<'_, PyAny>) -> Option<Variables> {
    #[derive(Default)]
    struct Found {
        map: usize,
        count: usize,
    }
    unsafe extern "C" fn note(object: *mut ffi::PyObject, found: *mut c_void) -> c_int {
        // SAFETY: `found` is the place given below.
        let found = unsafe { &mut *found.cast::<Found>() };
        found.map = object as usize;
        found.count += 1;
        0
    }
    let mut found = Found::default();
    // SAFETY: a live object; a traversal calls nothing but `note`.
    unsafe {
        let traverse = (*ffi::Py_TYPE(context.as_ptr())).tp_traverse?;
        traverse(context.as_ptr(), note, (&raw mut found).cast());
    }
    (found.count == 1).then_some(Variables(found.map))
}

/// Whether this is a `contextvars.Context` (the class has no subclasses).
#[inline]
pub fn is_context(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// Run `f` with `context` entered, as `Context.run` does.
///
/// # Errors
/// RuntimeError when the context is entered already, TypeError when it is none.
#[inline(always)]
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
