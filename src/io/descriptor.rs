//! Which descriptor an object of Python's is.

use std::os::fd::RawFd;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use crate::py::call::Object;

/// asyncio's words for a number that no descriptor has.
pub fn invalid(fd: RawFd) -> PyErr {
    PyValueError::new_err(format!("Invalid file descriptor: {fd}"))
}

/// A descriptor's number, or the `fileno()` of an object (`selectors._fileobj_to_fd`). It may be closed.
///
/// # Errors
/// ValueError for what is none, OverflowError for a number that is too large.
pub fn descriptor_of(fileobj: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let fd = if fileobj.is_instance_of::<PyInt>() {
        fileobj.extract()?
    } else {
        number(fileobj).map_err(|_| match fileobj.try_repr() {
            Ok(text) => PyValueError::new_err(format!("Invalid file object: {text}")),
            Err(raised) => raised,
        })?
    };
    if fd < 0 { Err(invalid(fd)) } else { Ok(fd) }
}

/// `int(fileobj.fileno())`.
fn number(fileobj: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = fileobj.py();
    let number = fileobj.try_call_method(pyo3::intern!(py, "fileno"), ())?;
    if number.is_exact_instance_of::<PyInt>() { number } else { py.get_type::<PyInt>().try_call((number,))? }.extract()
}
