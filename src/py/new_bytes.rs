//! `bytes` in the making: filled in place, by the kernel say, before anybody else knows of them.

use std::ffi::c_int;

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::answer::owned;

// CPython's, which PyO3 does not name.
unsafe extern "C" {
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> c_int;
}

/// `bytes` that nobody knows of yet.
pub struct NewBytes<'py> {
    /// Not yet known to anybody else.
    bytes: Bound<'py, PyAny>,
    size: usize,
    filled: usize,
}

impl<'py> NewBytes<'py> {
    /// Room for so many.
    ///
    /// # Errors
    /// MemoryError.
    pub fn new(py: Python<'py>, size: usize) -> PyResult<Self> {
        let length = ffi::Py_ssize_t::try_from(size).map_err(|_| PyMemoryError::new_err(()))?;
        // SAFETY: bytes that are yet to be written; a new reference, or NULL with an exception set.
        let bytes = unsafe { owned(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), length))? };
        Ok(Self { bytes, size, filled: 0 })
    }

    /// Where the next bytes go, and how many there is room for: one at least, more by `step` when there is none left.
    ///
    /// # Errors
    /// MemoryError.
    pub fn rest(&mut self, step: usize) -> PyResult<(*mut u8, usize)> {
        if self.filled == self.size {
            self.resize(self.size + step)?;
        }
        // SAFETY: `bytes` is of this class, and as long as `size`, of which `filled` is less.
        let place = unsafe { ffi::PyBytes_AS_STRING(self.bytes.as_ptr()).cast_mut().cast::<u8>().add(self.filled) };
        Ok((place, self.size - self.filled))
    }

    pub fn py(&self) -> Python<'py> {
        self.bytes.py()
    }

    /// The next so many bytes have been written.
    ///
    /// # Panics
    /// There is no room for so many.
    pub fn fill(&mut self, count: usize) {
        assert!(count <= self.size - self.filled, "more than there is room for");
        self.filled += count;
    }

    fn resize(&mut self, size: usize) -> PyResult<()> {
        let py = self.bytes.py();
        let length = ffi::Py_ssize_t::try_from(size).map_err(|_| PyMemoryError::new_err(()))?;
        let mut bytes = std::mem::replace(&mut self.bytes, py.None().into_bound(py)).into_ptr();
        // SAFETY: the only reference is given away, to bytes that nobody else knows; a new one comes back, or NULL with
        // an exception set.
        self.bytes = unsafe {
            _PyBytes_Resize(&raw mut bytes, length);
            owned(py, bytes)?
        };
        self.size = size;
        Ok(())
    }

    /// What has been written; None for nothing.
    ///
    /// # Errors
    /// MemoryError.
    pub fn into_bytes(mut self) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if self.filled == 0 {
            return Ok(None);
        }
        if self.filled < self.size {
            self.resize(self.filled)?;
        }
        Ok(Some(self.bytes.cast_into()?))
    }
}
