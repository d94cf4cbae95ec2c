//! What a client needs of CPython's C API beyond its limited part. This is how it is done in a build for one Python; in
//! one for many (`abi3`) `limited` stands in its place, with the same functions.

use std::ffi::CString;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFrame, PyTuple, PyType};

use super::call::call_all;
use super::context;

pub use super::context::{copy as copy_context, copy_current};

/// `context.run(callable, *args)`.
///
/// # Errors
/// What it raises; RuntimeError when the context is entered already.
pub fn call_inside<'py>(
    context: &Bound<'py, PyAny>,
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let _inside = context::inside(context)?;
    call_all(callable, args, None)
}

/// `types.CoroutineType`.
///
/// # Errors
/// None here.
pub fn coroutine_class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    // SAFETY: a static type of CPython's, which lives as long as the interpreter; the token says that the GIL is held.
    Ok(unsafe { PyType::from_borrowed_type_ptr(py, &raw mut ffi::PyCoro_Type) })
}

/// Whether this is a coroutine made by `async def` (no subclass exists).
#[inline]
pub fn is_native_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the Bound `object` holds the object; its class is compared with CPython's static one.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}

/// A frame with this name, in which nothing runs.
///
/// # Errors
/// MemoryError.
pub fn frame<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    PyFrame::new(py, c"<Rust>", &CString::new(name).unwrap_or_default(), 1).map(Bound::into_any)
}

/// Let go of what an object held when it is freed: now, as its deallocator has seen to it that not too many nest
/// (`depth::deallocate`).
#[inline(always)]
pub fn release(f: impl FnOnce() + 'static) {
    f();
}

/// Whether this thread holds the GIL.
pub fn is_attached() -> bool {
    // SAFETY: any thread may ask.
    unsafe { ffi::PyGILState_Check() != 0 }
}

/// Whether this is CPython 3.14 or later.
#[inline(always)]
pub const fn since_3_14() -> bool {
    cfg!(Py_3_14)
}
