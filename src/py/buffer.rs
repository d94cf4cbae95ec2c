//! The bytes of an object, for a moment: what `bytes`, `bytearray` and `memoryview` have in common.

use std::mem::MaybeUninit;
use std::slice;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

use super::answer::owned;
use super::call::Object;
use super::error;

/// A view of an object's bytes, of whatever shape and format, that stay where they are while it lives.
pub struct View<'py> {
    view: ffi::Py_buffer,
    py: Python<'py>,
}

impl<'py> View<'py> {
    /// # Errors
    /// BufferError, TypeError: it has no bytes that lie in one piece; `writable`: or that may be changed.
    pub fn new(object: &Bound<'py, PyAny>, writable: bool) -> PyResult<Self> {
        let py = object.py();
        let mut view = MaybeUninit::<ffi::Py_buffer>::uninit();
        let flags = if writable { ffi::PyBUF_WRITABLE } else { ffi::PyBUF_SIMPLE };
        // SAFETY: the Bound holds the object for the call. `view` is a place for what it writes, which is whole when it
        // succeeds.
        unsafe {
            error::answered(py, ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), flags))?;
            Ok(Self { view: view.assume_init(), py })
        }
    }

    pub fn len(&self) -> usize {
        self.view.len.cast_unsigned()
    }

    /// Where the bytes are; null or dangling when there are none.
    pub fn address(&self) -> *mut u8 {
        self.view.buf.cast()
    }

    /// The bytes. They change when Python code runs, which it does not while `f` does.
    pub fn with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        if self.len() == 0 {
            return f(&[]);
        }
        // SAFETY: the view keeps `len` bytes at this address; the GIL is held and `f` runs no Python code, so nobody
        // changes them meanwhile.
        f(unsafe { slice::from_raw_parts(self.address(), self.len()) })
    }

    /// A copy of the bytes from `first` on.
    pub fn copy_from(&self, first: usize) -> Bound<'py, PyBytes> {
        self.with(|bytes| PyBytes::new(self.py, &bytes[first..]))
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and released once; the GIL is held, as the token says.
        unsafe { ffi::PyBuffer_Release(&raw mut self.view) };
    }
}

/// `memoryview(object).tobytes()`: for what has bytes that do not lie in one piece.
///
/// # Errors
/// TypeError for what has none; MemoryError.
pub fn gathered<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = object.py();
    // SAFETY: the Bound holds the object for the call. The function gives a new reference, or NULL with an exception
    // set.
    let view = unsafe { owned(py, ffi::PyMemoryView_FromObject(object.as_ptr()))? };
    Ok(view.try_call_method(pyo3::intern!(py, "tobytes"), ())?.cast_into::<PyBytes>()?)
}

/// `bytes(array[:count])`, then `del array[:count]`. No Python code runs.
///
/// # Errors
/// BufferError: somebody has a view of it; MemoryError.
#[inline]
pub fn take<'py>(array: &Bound<'py, PyByteArray>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
    let py = array.py();
    // SAFETY: the GIL is held, and to make bytes of them runs no Python code: nobody changes them meanwhile.
    let taken = PyBytes::new(py, unsafe { array.as_bytes().get(..count).unwrap_or_else(|| array.as_bytes()) });
    let count = taken.as_bytes().len();
    if count == array.len() {
        array.resize(0)?;
    } else if count > 0 {
        // SAFETY: the Bound holds the array for the call, and the GIL.
        error::answered(py, unsafe { ffi::PySequence_DelSlice(array.as_ptr(), 0, count.cast_signed()) })?;
    }
    Ok(taken)
}
