//! `contextvars`: copying contexts, and running inside one.

use pyo3::ffi;
use pyo3::prelude::*;

use super::answer::owned;
use super::error;

/// `contextvars.copy_context()`.
///
/// # Errors
/// MemoryError.
#[inline]
pub fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the token says that the GIL is held. CPython answers with a new reference, or with NULL and an exception.
    unsafe { owned(py, ffi::PyContext_CopyCurrent()) }
}

/// `contextvars.Context()`.
///
/// # Errors
/// MemoryError.
pub fn empty(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the token says that the GIL is held. CPython answers with a new reference, or with NULL and an exception.
    unsafe { owned(py, ffi::PyContext_New()) }
}

/// `context.copy()`.
///
/// # Errors
/// TypeError for what is no context.
#[inline]
pub fn copy<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the Bound holds the object, and the GIL; CPython itself checks that it is a context. It answers with a
    // new reference, or with NULL and an exception.
    unsafe { owned(context.py(), ffi::PyContext_Copy(context.as_ptr())) }
}

/// Whether this is a `contextvars.Context` (the class has no subclasses).
#[inline]
pub fn is_context(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the Bound `object` holds the object; its class is compared with CPython's static one.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// `Context.__enter__`, were there one.
///
/// # Errors
/// RuntimeError when the context is entered already, TypeError when it is none.
#[inline]
pub fn enter(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: the Bound holds the object, and the GIL; CPython itself checks that it is a context, and one that may be
    // entered.
    error::answered(context.py(), unsafe { ffi::PyContext_Enter(context.as_ptr()) }).map(drop)
}

/// The end of an `enter`.
///
/// # Errors
/// RuntimeError when it is not the current context.
#[inline]
pub fn exit(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: the Bound holds the object, and the GIL; CPython itself checks that it is the context that was entered
    // last.
    error::answered(context.py(), unsafe { ffi::PyContext_Exit(context.as_ptr()) }).map(drop)
}

/// A context that is entered while this lives.
#[derive(Debug)]
pub struct Inside<'a, 'py>(&'a Bound<'py, PyAny>);

impl Drop for Inside<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: entered by this thread; what ran since has left every context that it entered. It can only fail when
        // that is not so, and then the exception stays for the caller's caller to see.
        unsafe { ffi::PyContext_Exit(self.0.as_ptr()) };
    }
}

/// Enter a context until the guard goes, as `Context.run` does.
///
/// # Errors
/// RuntimeError when the context is entered already, TypeError when it is none.
#[inline(always)]
pub fn inside<'a, 'py>(context: &'a Bound<'py, PyAny>) -> PyResult<Inside<'a, 'py>> {
    enter(context).map(|()| Inside(context))
}
