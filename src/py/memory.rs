//! Words of an object's memory, for probes: where an attribute or a pointer is, found by experiment.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use pyo3::Borrowed;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::call::Object;

/// The word of an object at `offset` bytes.
///
/// # Safety
/// The object is at least a word larger than that.
#[inline(always)]
pub unsafe fn word(object: &Bound<'_, PyAny>, offset: usize) -> usize {
    // SAFETY: the Bound holds the object, which the caller says has a word there.
    unsafe { object.as_ptr().byte_add(offset).cast::<usize>().read() }
}

/// What a slot of an object holds (None: nothing yet), without a count: for as long as no Python code runs.
///
/// # Safety
/// The object has a slot at `offset`.
#[inline(always)]
pub unsafe fn held<'a, 'py>(object: &'a Bound<'py, PyAny>, offset: usize) -> Option<Borrowed<'a, 'py, PyAny>> {
    // SAFETY: the Bound holds the object, in which the caller says is a slot: NULL or an object that it holds.
    unsafe { Borrowed::from_ptr_or_opt(object.py(), word(object, offset) as *mut ffi::PyObject) }
}

/// How large an instance of the object's class is, in bytes, without what its class makes room for beside (items, a
/// dictionary in front of it).
pub fn size(object: &Bound<'_, PyAny>) -> usize {
    // SAFETY: the Bound holds the object, and so its class.
    let size = unsafe { (*ffi::Py_TYPE(object.as_ptr())).tp_basicsize };
    usize::try_from(size).unwrap_or(0)
}

/// Where an object that nobody else has keeps what this attribute is set to; it is set to something without a meaning.
///
/// # Errors
/// RuntimeError: it is in no place, or in several.
pub fn place_of(object: &Bound<'_, PyAny>, name: &str) -> PyResult<usize> {
    let value = object.py().get_type::<PyAny>().try_call(())?;
    object.try_setattr(name, &value)?;
    place(object, &value).map_err(|why| PyRuntimeError::new_err(format!("{name}: {why}")))
}

/// Where an object has a pointer to another: its one place, in bytes.
fn place(object: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> Result<usize, &'static str> {
    let words = (size_of::<ffi::PyObject>()..size(object)).step_by(size_of::<usize>());
    // SAFETY: the places are words within the object.
    let mut found = words.filter(|&at| unsafe { word(object, at) } == value.as_ptr() as usize);
    match (found.next(), found.next()) {
        (Some(place), None) => Ok(place),
        _ => Err("an attribute is in no one place"),
    }
}

/// The `N` words at an address of which nothing is known: the kernel is asked to read it, which looks first.
///
/// # Errors
/// There is no memory; the process has no descriptors left.
pub fn copy<const N: usize>(address: usize) -> Result<[usize; N], &'static str> {
    let mut ends = [0; 2];
    // SAFETY: there is room for the two ends.
    if unsafe { libc::pipe(ends.as_mut_ptr()) } < 0 {
        return Err("there is no pipe to try an address with");
    }
    // SAFETY: the ends are new, and nobody else's.
    let [reader, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
    let mut words = [0; N];
    let size = size_of_val(&words);
    // SAFETY: the kernel reads the address, and fails where there is no memory.
    let written = unsafe { libc::write(writer.as_raw_fd(), address as *const libc::c_void, size) };
    if usize::try_from(written) != Ok(size) {
        return Err("a pointer points nowhere");
    }
    // SAFETY: there is room for `size` bytes, of which any may be words.
    let read = unsafe { libc::read(reader.as_raw_fd(), words.as_mut_ptr().cast(), size) };
    if usize::try_from(read) == Ok(size) { Ok(words) } else { Err("a pipe lost what was written to it") }
}
