//! Who else has an object, and showing one to the cycle collector.

use pyo3::ffi;
use pyo3::prelude::*;

/// Whether anybody but the caller holds it.
#[inline]
pub fn is_shared(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) > 1 }
}

/// Whether anybody but the caller can come by it: holds it, or has a weak reference to it.
#[inline]
pub fn is_reachable(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object; a positive `tp_weaklistoffset` is where it has its list of weak references, or NULL.
    unsafe {
        let weak_references = (*ffi::Py_TYPE(object.as_ptr())).tp_weaklistoffset;
        is_shared(object)
            || weak_references <= 0
            || !object.as_ptr().byte_offset(weak_references).cast::<*mut ffi::PyObject>().read().is_null()
    }
}

/// Show an object to the cycle collector. Nothing happens when it is in its sight.
#[inline]
pub fn show(object: &Bound<'_, PyAny>) {
    // SAFETY: a live, whole object of a class with `__traverse__` (the callers' are), and not tracked (asked first).
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}
