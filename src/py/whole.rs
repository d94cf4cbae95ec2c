//! What the loop asks of objects, and CPython's limited API does not answer: a client (`bridge` alone) asks none of it,
//! and so may be built for many Pythons (`abi3`). What a client needs, too, is in `api`.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::answer::owned;
use super::call::{Object, cast_into};
use super::refs::is_shared;

type Pointer = *mut ffi::PyObject;

// CPython's, which PyO3 does not name.
unsafe extern "C" {
    static PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Function(method: Pointer) -> Pointer;
    fn PyMethod_Self(method: Pointer) -> Pointer;
}

/// `callable(*args)`, with the tuple that `call_soon` made: CPython reads the items in place.
#[inline]
pub fn call_tuple<'py>(
    callable: &Bound<'py, PyAny>,
    args: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the Bounds hold the callable and the tuple for the call, and the GIL. A tuple's items are an array of as
    // many objects as its size says, which it holds and never changes. CPython answers with a new reference, or with
    // NULL and an exception.
    unsafe {
        let result = match args {
            None => ffi::PyObject_CallNoArgs(callable.as_ptr()),
            Some(args) => {
                let count = ffi::PyTuple_GET_SIZE(args.as_ptr());
                let items = (&raw const (*args.as_ptr().cast::<ffi::PyTupleObject>()).ob_item).cast();
                ffi::PyObject_Vectorcall(callable.as_ptr(), items, count as usize, std::ptr::null_mut())
            }
        };
        owned(callable.py(), result)
    }
}

/// `callable(arg)`.
#[inline]
pub fn call_one<'py>(callable: &Bound<'py, PyAny>, arg: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the Bounds `callable` and `arg` hold their objects for the call, and the GIL. CPython answers with a new
    // reference, or with NULL and an exception.
    unsafe { owned(callable.py(), ffi::PyObject_CallOneArg(callable.as_ptr(), arg.as_ptr())) }
}

/// Whether `object.name` is this function, bound to the object: that of its class, and none of its own.
///
/// # Errors
/// AttributeError.
#[inline]
pub fn has_method(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    function: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let found = object.try_getattr(name)?;
    // SAFETY: the Bound `found` holds a bound method where its class says so, and that its function and its object,
    // which are only compared.
    unsafe {
        Ok(std::ptr::eq(ffi::Py_TYPE(found.as_ptr()), &raw const PyMethod_Type)
            && std::ptr::eq(PyMethod_Function(found.as_ptr()), function.as_ptr())
            && std::ptr::eq(PyMethod_Self(found.as_ptr()), object.as_ptr()))
    }
}

/// `object.__new__(class)`: an instance whose `__init__` is not called.
///
/// # Errors
/// MemoryError; what the `__new__` of a class that has one raises.
#[inline]
pub fn new_instance<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    // SAFETY: the Bound holds the class, whose slot is read.
    let new =
        unsafe { (*class.as_type_ptr()).tp_new }.ok_or_else(|| PyTypeError::new_err("cannot create instances"))?;
    let nothing = PyTuple::empty(py);
    // SAFETY: the Bounds hold the class and the tuple for the call, and the GIL. A `tp_new` gives a new reference, or
    // NULL with an exception set.
    unsafe { owned(py, new(class.as_type_ptr(), nothing.as_ptr(), std::ptr::null_mut())) }
}

/// `class.__bases__`, of a class that a program makes.
#[inline]
pub fn bases_of<'py>(class: &Bound<'py, PyType>) -> Bound<'py, PyAny> {
    // SAFETY: the Bound holds the class, and the class the tuple of its bases, to which this adds a reference: the
    // program may give the class others. The GIL is held.
    unsafe { Bound::from_borrowed_ptr(class.py(), (*class.as_type_ptr()).tp_bases) }
}

/// The dictionary behind `class.__dict__`.
///
/// # Errors
/// SystemError for a class that is not ready.
pub fn namespace_of<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: the Bound holds the class for the call, and the GIL. CPython answers with a new reference to a
    // dictionary, or with NULL.
    unsafe { owned(class.py(), ffi::PyType_GetDict(class.as_type_ptr())).map(|namespace| cast_into(namespace)) }
}

/// Whether this is a generator made by a generator function.
pub fn is_generator(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the Bound `object` holds the object; its class is compared with CPython's static one.
    unsafe { ffi::PyGen_CheckExact(object.as_ptr()) != 0 }
}

/// Whether anybody but the caller can come by it: holds it, or has a weak reference to it.
#[inline]
pub fn is_reachable(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the Bound `object` holds the object, and the object its class. CPython promises that at a positive
    // `tp_weaklistoffset` an instance has its list of weak references, or NULL.
    unsafe {
        let weak_references = (*ffi::Py_TYPE(object.as_ptr())).tp_weaklistoffset;
        is_shared(object)
            || weak_references <= 0
            || !object.as_ptr().byte_offset(weak_references).cast::<*mut ffi::PyObject>().read().is_null()
    }
}

/// Whether the cycle collector has to do with it: it may refer to other objects.
#[inline]
pub fn is_container(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the Bound `object` holds the object; only its class is looked at.
    unsafe { ffi::PyObject_IS_GC(object.as_ptr()) != 0 }
}
