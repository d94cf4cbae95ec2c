//! Calls without argument tuples, dictionaries or attribute look-ups by string.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};

/// `callable(*args)`, with the tuple that `call_soon` made: CPython reads the items in place.
#[inline]
pub fn call_tuple<'py>(
    callable: &Bound<'py, PyAny>,
    args: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: both are live objects and `args` is a tuple, whose items are an array that it keeps alive for the call;
    // the result is a new reference or an exception is set.
    unsafe {
        let result = match args {
            None => ffi::PyObject_CallNoArgs(callable.as_ptr()),
            Some(args) => {
                let count = ffi::PyTuple_GET_SIZE(args.as_ptr());
                let items = (&raw const (*args.as_ptr().cast::<ffi::PyTupleObject>()).ob_item).cast();
                ffi::PyObject_Vectorcall(callable.as_ptr(), items, count as usize, std::ptr::null_mut())
            }
        };
        Bound::from_owned_ptr_or_err(callable.py(), result)
    }
}

/// `callable(arg)`.
#[inline]
pub fn call_one<'py>(callable: &Bound<'py, PyAny>, arg: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: both are live objects; the result is a new reference or an exception is set.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), ffi::PyObject_CallOneArg(callable.as_ptr(), arg.as_ptr())) }
}

/// `callable(a, b)`.
#[inline]
pub fn call_two<'py>(
    callable: &Bound<'py, PyAny>,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let args = [a.as_ptr(), b.as_ptr()];
    // SAFETY: `args` holds two live objects for the length of the call.
    unsafe {
        Bound::from_owned_ptr_or_err(
            callable.py(),
            ffi::PyObject_Vectorcall(callable.as_ptr(), args.as_ptr(), 2, std::ptr::null_mut()),
        )
    }
}

/// `object.name(arg, <keyword>=value)`; `keyword` is a tuple of one interned string.
pub fn call_method_with_keyword<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    arg: &Bound<'py, PyAny>,
    keyword: &Bound<'py, PyTuple>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let args = [object.as_ptr(), arg.as_ptr(), value.as_ptr()];
    // SAFETY: `args` holds live objects for the length of the call: the receiver, one positional argument, and one
    // value for the one name in `keyword`.
    unsafe {
        Bound::from_owned_ptr_or_err(
            object.py(),
            ffi::PyObject_VectorcallMethod(name.as_ptr(), args.as_ptr(), 2, keyword.as_ptr()),
        )
    }
}

/// Whether this is an instance of exactly this class (no subclass): a pointer comparison.
#[inline]
pub fn has_type(object: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> bool {
    // SAFETY: a live object.
    std::ptr::eq(unsafe { ffi::Py_TYPE(object.as_ptr()) }.cast::<ffi::PyObject>(), class.as_ptr())
}

/// `__class__`: asyncio's class for exactly ours (`isinstance` holds against both), for a Python subclass the real one.
pub fn class_of(object: &Bound<'_, PyAny>, asyncios: &Py<PyType>, exact: &Bound<'_, PyType>) -> Py<PyAny> {
    let py = object.py();
    if has_type(object, exact) { asyncios.clone_ref(py).into_any() } else { object.get_type().into_any().unbind() }
}

/// Whether this is a coroutine made by `async def` (no subclass exists).
#[inline]
pub fn is_native_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}

/// Whether this is a generator made by a generator function.
pub fn is_generator(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::PyGen_CheckExact(object.as_ptr()) != 0 }
}

/// `a is b`.
#[inline]
pub fn same(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> bool {
    std::ptr::eq(a.as_ptr(), b.as_ptr())
}
