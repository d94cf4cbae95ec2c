//! The `__dict__` of native objects: made when somebody sets an attribute, not before.

#[cfg(not(Py_3_13))]
use pyo3::ffi;
use pyo3::prelude::*;

/// CPython 3.12 gives each new object of a class with `#[pyclass(dict)]` an empty dictionary (gh-95245; 3.13 does not
/// any more): 64 bytes. Without it the object is as on 3.13.
#[inline]
pub fn without_dict<T>(object: Bound<'_, T>) -> Bound<'_, T> {
    #[cfg(not(Py_3_13))]
    // SAFETY: a live object that was just made and that nobody else has seen; a positive `tp_dictoffset` is where it
    // has its reference to a dictionary, or NULL for one that is not made yet.
    unsafe {
        let offset = (*ffi::Py_TYPE(object.as_ptr())).tp_dictoffset;
        if offset > 0 {
            ffi::Py_CLEAR(object.as_ptr().byte_offset(offset).cast::<*mut ffi::PyObject>());
        }
    }
    object
}
