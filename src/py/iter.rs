//! The iterator protocol below `await`: sending into a coroutine, and ending one with a value.

use pyo3::PyClass;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTraceback, PyTuple};

use super::api::since_3_14;
use super::call::{Object, call_all};
use super::error::{Slim, fetch, warn};

/// What a coroutine did with what it was sent.
#[derive(Debug)]
pub enum Sent<'py> {
    /// It yielded this.
    Yielded(Bound<'py, PyAny>),
    /// It returned this.
    Returned(Bound<'py, PyAny>),
}

/// A class with `__await__`. PyO3's method of that name must be there, and do the same.
pub trait Await: PyClass {
    fn iterator<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>>;
}

/// A class with `__next__`. PyO3's method of that name must be there, and do the same.
pub trait Next: PyClass {
    /// It counts as attached: what runs in it is anybody's.
    const ATTACHES: bool = false;

    /// None: no more items, or (with an exception set) that exception.
    fn next<'py>(slf: &Bound<'py, Self>) -> Slim<Option<Bound<'py, PyAny>>>;
}

/// A class with `send`. PyO3's method of that name must be there, and do the same.
pub trait Resume: PyClass {
    fn resume<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> Slim<Sent<'py>>;
}

/// `inspect.isawaitable(object)`.
///
/// # Errors
/// What importing `inspect` raises.
pub fn is_awaitable(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    // SAFETY: the Bound holds the object, and the object its class, of which a slot is read.
    let has = |slot| unsafe { !ffi::PyType_GetSlot(ffi::Py_TYPE(object.as_ptr()), slot).is_null() };
    // Where `__await__` is; else a generator may be marked as a coroutine (`types.coroutine`).
    if has(ffi::Py_am_await) {
        Ok(true)
    } else if has(ffi::Py_tp_iternext) {
        asked(object)
    } else {
        Ok(false)
    }
}

#[cold]
fn asked(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    object.py().import("inspect")?.try_call_method("isawaitable", (object,))?.try_is_truthy()
}

/// `coroutine.send(None)`, without a StopIteration when the coroutine has `am_send`.
#[inline(always)]
pub fn send_none<'py>(coroutine: &Bound<'py, PyAny>) -> Slim<Sent<'py>> {
    let py = coroutine.py();
    let mut result = std::ptr::null_mut();
    // SAFETY: the Bound holds the coroutine for the call, and the GIL; None is there for ever. CPython writes a new
    // reference to `result`, except with PYGEN_ERROR.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut result) {
            ffi::PySendResult::PYGEN_NEXT => Ok(Sent::Yielded(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_RETURN => Ok(Sent::Returned(Bound::from_owned_ptr(py, result))),
            ffi::PySendResult::PYGEN_ERROR => Err(Box::new(fetch(py))),
        }
    }
}

/// `raise StopIteration(value)`, as a coroutine's `return value`. What fails on the way is raised instead.
#[cold]
pub fn raise_stop(value: &Bound<'_, PyAny>) {
    let class = value.py().get_type::<PyStopIteration>();
    match class.try_call((value,)) {
        // SAFETY: a new exception, and the only reference to it; the Bound says that the GIL is held.
        Ok(exception) => unsafe { set_raised(exception.into_ptr()) },
        Err(failed) => failed.restore(value.py()),
    }
}

/// Raise a StopIteration as `_PyGen_SetStopIterationValue` does: from CPython 3.14 on it has no context.
///
/// # Safety
/// `exception` is one without a context, a reference to it is given away, and the GIL is held.
#[inline(always)]
pub unsafe fn set_raised(exception: *mut ffi::PyObject) {
    // SAFETY: the caller gives a live exception, and a reference to it; the context's is new, and is given away.
    unsafe {
        if !since_3_14() {
            let handled = ffi::PyErr_GetHandledException();
            if !handled.is_null() {
                ffi::PyException_SetContext(exception, handled);
            }
        }
        ffi::PyErr_SetRaisedException(exception);
    }
}

/// An exception that a Rust future ends with, as if a coroutine raised it: with the exception being handled as its
/// context, and StopIteration as RuntimeError (PEP 479).
pub fn raised_by_coroutine(py: Python<'_>, raised: PyErr) -> PyErr {
    let raised = if raised.is_instance_of::<PyStopIteration>(py) {
        let wrapper = PyRuntimeError::new_err("coroutine raised StopIteration");
        wrapper.set_cause(py, Some(raised));
        wrapper
    } else {
        raised
    };
    let exception = raised.into_value(py).into_bound(py);
    // SAFETY: the Bound holds the exception, and that its class, for the call, and the GIL. PyErr_SetObject takes
    // references of its own; it chains the exception being handled.
    unsafe { ffi::PyErr_SetObject(ffi::Py_TYPE(exception.as_ptr()).cast(), exception.as_ptr()) };
    fetch(py)
}

/// What `throw(typ, value, traceback)` is to raise, with CPython's checks (`gen_throw`, `FutureIter_throw`).
///
/// # Errors
/// TypeError for arguments that make no exception; a DeprecationWarning turned into an error.
pub fn thrown<'py>(
    typ: &Bound<'py, PyAny>,
    value: Option<&Bound<'py, PyAny>>,
    traceback: Option<&Bound<'py, PyAny>>,
) -> PyResult<PyErr> {
    let py = typ.py();
    if value.is_some() || traceback.is_some() {
        let text = c"the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.";
        warn(&py.get_type::<pyo3::exceptions::PyDeprecationWarning>(), text)?;
    }
    let value = value.filter(|value| !value.is_none());
    let traceback = traceback.filter(|traceback| !traceback.is_none());
    if let Some(traceback) = traceback
        && !traceback.is_instance_of::<PyTraceback>()
    {
        return Err(PyTypeError::new_err("throw() third argument must be a traceback"));
    }
    // SAFETY: the Bound `typ` holds the object, whose class's flags are looked at.
    let (is_class, is_instance) =
        unsafe { (ffi::PyExceptionClass_Check(typ.as_ptr()) != 0, ffi::PyExceptionInstance_Check(typ.as_ptr()) != 0) };
    let exception = if is_class {
        match value {
            Some(value) if value.try_is_instance(typ)? => value.clone(),
            Some(value) => match value.cast::<PyTuple>() {
                Ok(args) => call_all(typ, args, None)?,
                Err(_) => typ.try_call((value,))?,
            },
            None => typ.try_call(())?,
        }
    } else if is_instance {
        if value.is_some() {
            return Err(PyTypeError::new_err("instance exception may not have a separate value"));
        }
        typ.clone()
    } else {
        return Err(PyTypeError::new_err(
            "exceptions must be classes deriving BaseException or instances of such a class",
        ));
    };
    if let Some(traceback) = traceback {
        exception.try_call_method(pyo3::intern!(py, "with_traceback"), (traceback,))?;
    }
    Ok(PyErr::from_value(exception))
}
