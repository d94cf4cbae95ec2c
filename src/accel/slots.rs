//! What `await` calls, without PyO3's wrapper around it, which would cost as much again; and what tasks call, for which
//! PyO3 has none.
//!
//! As with `method`, PyO3 does not count `await`'s as attached: a `Py<_>` that they dropped on a thread of Python's own
//! would be dropped later. They drop `Bound`s.

use pyo3::Borrowed;
use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::py::error::{self, Slim};
use crate::py::iter::Sent;

/// A class with `__await__`. PyO3's method of that name must be there, and do the same.
pub trait Await: PyClass {
    fn iterator<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>>;
}

/// A class with `__next__`. PyO3's method of that name must be there, and do the same.
pub trait Next: PyClass {
    /// None: no more items, or (with an exception set) that exception.
    fn next<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>>;
}

/// A class with `send`. PyO3's method of that name must be there, and do the same.
pub trait Resume: PyClass {
    fn resume<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> Slim<Sent<'py>>;
}

/// # Safety
/// The GIL is held, and `object` an instance of `T` or of a subclass.
#[inline(always)]
unsafe fn entry<T: PyClass>(
    object: *mut ffi::PyObject,
    call: impl for<'py> FnOnce(&Bound<'py, T>) -> PyResult<Option<Bound<'py, PyAny>>>,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's word.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, object).cast_unchecked::<T>();
        let called: Slim<_> =
            error::catch_panic_slim(|| Ok(call(&this)?.map_or(std::ptr::null_mut(), Bound::into_ptr)));
        called.unwrap_or_else(|raised| {
            raised.restore(py);
            std::ptr::null_mut()
        })
    }
}

unsafe extern "C" fn am_await<T: Await>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: that is how a slot is called.
    unsafe { entry::<T>(object, |this| T::iterator(this).map(Some)) }
}

unsafe extern "C" fn tp_iternext<T: Next>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: that is how a slot is called.
    unsafe { entry::<T>(object, T::next) }
}

unsafe extern "C" fn am_send<T: Resume>(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let resume = |py: Python<'_>| {
        // SAFETY: that is how the slot is called: with live objects, and a place for the result.
        unsafe {
            let this = Borrowed::from_ptr(py, object).cast_unchecked::<T>();
            let value = Borrowed::from_ptr(py, value);
            let (gave, sent) = match error::catch_panic_slim(|| T::resume(&this, &value)) {
                Ok(Sent::Yielded(yielded)) => (yielded.into_ptr(), ffi::PySendResult::PYGEN_NEXT),
                Ok(Sent::Returned(returned)) => (returned.into_ptr(), ffi::PySendResult::PYGEN_RETURN),
                Err(raised) => {
                    raised.restore(py);
                    (std::ptr::null_mut(), ffi::PySendResult::PYGEN_ERROR)
                }
            };
            *result = gave;
            sent
        }
    };
    // SAFETY: the slot is called with the GIL held. It counts as attached: what runs in it is anybody's.
    unsafe { Python::attach_unchecked(resume) }
}

/// Into `class`, which is `T`, before it has instances: tasks of every kind then get a result without a StopIteration.
pub fn install_send<T: Resume>(class: &Bound<'_, PyType>) {
    let class = class.as_type_ptr();
    // SAFETY: as for `install_await`.
    unsafe {
        if !(*class).tp_as_async.is_null() {
            (*(*class).tp_as_async).am_send = Some(am_send::<T>);
            ffi::PyType_Modified(class);
        }
    }
}

/// Into `class`, which is `T` or a subclass without an `__await__` of its own, before it has instances or subclasses.
pub fn install_await<T: Await>(class: &Bound<'_, PyType>) {
    let class = class.as_type_ptr();
    // SAFETY: a heap type of ours without instances; the slot is set before anybody can see it used.
    unsafe {
        if !(*class).tp_as_async.is_null() {
            (*(*class).tp_as_async).am_await = Some(am_await::<T>);
            ffi::PyType_Modified(class);
        }
    }
}

/// Into `class`, which is `T`, before it has instances.
pub fn install_next<T: Next>(class: &Bound<'_, PyType>) {
    let class = class.as_type_ptr();
    // SAFETY: as for `install_await`.
    unsafe {
        (*class).tp_iternext = Some(tp_iternext::<T>);
        ffi::PyType_Modified(class);
    }
}
