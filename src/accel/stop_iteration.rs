//! `raise StopIteration(value)`, which is how an awaitable hands its result to the `await` above it.
//!
//! CPython's `_PyGen_SetStopIterationValue` goes by way of a call, which costs as much as the poll of a ready future:
//! here the exception is put together in place. An `await` takes the value out and lets go of the exception at once,
//! then of the awaitable; so one exception is kept and lent again and again, by awaitables that take it back
//! (`take_back`) when they are freed. One that somebody kept, or wrote to, is his.
//!
//! Plain path: `StopIteration(value)` is called, and raised once.

use std::ptr::NonNull;

use pyo3::exceptions::PyStopIteration;
use pyo3::ffi;
use pyo3::prelude::*;

use super::pool::{self, Pooled};
use super::{Acceleration, Probed, expect, raised};
use crate::py::call::Object;
use crate::py::cell::GilValue;
use crate::py::error;
use crate::py::iter::{raise_stop, set_raised};

pub static STOP_ITERATION: Acceleration = Acceleration::new("stop_iteration");

type Exception = NonNull<ffi::PyStopIterationObject>;

#[derive(Clone, Copy)]
enum Spare {
    None,
    /// Ours alone, without a value.
    Free(Exception),
    /// Raised, and not taken back yet: one of its references is ours.
    Lent(Exception),
}

// SAFETY: a `Spare` is in a `GilValue` alone, which gives it to nobody without the GIL; under the GIL any thread may
// use the object.
unsafe impl Send for Spare {}

static SPARE: GilValue<Spare> = GilValue::new(Spare::None);

/// `raise StopIteration(value)`, as a coroutine's `return value`: the error that `send` gives back.
pub fn stop_iteration(py: Python<'_>, value: Bound<'_, PyAny>) -> PyErr {
    raise(value, false);
    error::fetch(py)
}

/// The same for `__next__` of `iterator`, which then gives PyO3's "no more items" (all there is to do for None). Its
/// class calls `take_back` in `Pooled::release`.
#[inline]
pub fn end_iteration<T: Pooled>(iterator: &Bound<'_, T>, value: Bound<'_, PyAny>) {
    if !value.is_none() {
        // SAFETY: the Bound `iterator` holds the object. Its only reference is that of the `await` above it, which lets
        // go of it next.
        let goes = unsafe { ffi::Py_REFCNT(iterator.as_ptr()) } == 1;
        raise(value, goes && pool::is_pooled(iterator));
    }
}

#[inline]
fn raise(value: Bound<'_, PyAny>, lend: bool) {
    if STOP_ITERATION.is_on() { raise_in_place(value, lend) } else { raise_stop(&value) }
}

#[inline]
fn raise_in_place(value: Bound<'_, PyAny>, lend: bool) {
    let py = value.py();
    // SAFETY: an exception that is ours alone or memory from its class's allocator, zeroed, as `BaseException.__new__`
    // has it but for `args` and `value`, each of which gets a reference of its own (a spare one has `()` and NULL
    // there). The reference that is raised is given away. Without memory CPython has set MemoryError.
    unsafe {
        let args = ffi::PyTuple_New(1);
        if args.is_null() {
            return;
        }
        ffi::PyTuple_SET_ITEM(args, 0, value.clone().into_ptr());
        let found = SPARE.get(py);
        let exception = if lend
            && let Spare::Free(spare) = found
            // Nobody has found it (`gc.get_objects`).
            && ffi::Py_REFCNT(spare.as_ptr().cast()) == 1
        {
            spare
        } else {
            let class = ffi::PyExc_StopIteration.cast::<ffi::PyTypeObject>();
            let made = (*class).tp_alloc.and_then(|allocate| NonNull::new(allocate(class, 0)));
            let Some(made) = made else { return ffi::Py_DECREF(args) };
            made.cast()
        };
        let object = exception.as_ptr().cast::<ffi::PyObject>();
        if lend && !matches!(found, Spare::Lent(_)) {
            SPARE.set(py, Spare::Lent(exception));
            ffi::Py_INCREF(object);
            if let Spare::Free(other) = found
                && other != exception
            {
                ffi::Py_DECREF(other.as_ptr().cast());
            }
        }
        ffi::Py_XDECREF(std::mem::replace(&mut (*exception.as_ptr()).args, args));
        (*exception.as_ptr()).value = value.into_ptr();
        set_raised(object);
    }
}

/// Whoever was lent the exception goes: it is spare again, or no longer ours.
#[inline]
pub fn take_back(py: Python<'_>) {
    let Spare::Lent(exception) = SPARE.get(py) else { return };
    // SAFETY: one reference to the exception is ours. With no other nobody sees what is done to it; what it held is let
    // go of last, for that may run any code.
    unsafe {
        let fields = exception.as_ptr();
        let object = fields.cast::<ffi::PyObject>();
        if ffi::Py_REFCNT(object) == 1 && is_plain(fields) {
            let empty = ffi::PyTuple_New(0);
            let args = std::mem::replace(&mut (*fields).args, empty);
            let value = std::mem::replace(&mut (*fields).value, std::ptr::null_mut());
            SPARE.set(py, Spare::Free(exception));
            ffi::Py_XDECREF(args);
            ffi::Py_XDECREF(value);
        } else {
            SPARE.set(py, Spare::None);
            ffi::Py_DECREF(object);
        }
    }
}

/// Nothing was added to it: no traceback, no notes, no attributes, no cause and no context.
///
/// # Safety
/// A live StopIteration.
#[inline]
unsafe fn is_plain(fields: *const ffi::PyStopIterationObject) -> bool {
    // SAFETY: the caller promises a StopIteration that is alive, whose fields these are (`probe` has compared the
    // size); `suppress_context` is a C `char`.
    unsafe {
        let added = [(*fields).dict, (*fields).notes, (*fields).traceback, (*fields).context, (*fields).cause];
        added.iter().all(|object| object.is_null())
            && (&raw const (*fields).suppress_context).cast::<u8>().read() == 0
            && !(*fields).args.is_null()
    }
}

/// The value of a StopIteration, or the error back.
pub fn stop_value(py: Python<'_>, error: PyErr) -> PyResult<Bound<'_, PyAny>> {
    if error.is_instance_of::<PyStopIteration>(py) {
        error.value(py).try_getattr(pyo3::intern!(py, "value"))
    } else {
        Err(error)
    }
}

/// An exception that is made, and one that is lent, taken back and lent again, have the value and nothing else of it.
pub(super) fn probe(py: Python<'_>) -> Probed {
    let class = py.get_type::<PyStopIteration>();
    // SAFETY: the Bound holds the class, of which a number is read.
    let size = unsafe { (*class.as_type_ptr()).tp_basicsize };
    expect(usize::try_from(size) == Ok(size_of::<ffi::PyStopIterationObject>()), "StopIteration has another size")?;
    let value = pyo3::types::PyList::empty(py).into_any();
    for lend in [false, true, true] {
        raise_in_place(value.clone(), lend);
        let raised_error = error::fetch(py);
        let exception = raised_error.value(py);
        expect(exception.get_type().is(&class), "an exception of another class is raised")?;
        let (found, args) =
            (exception.try_getattr("value").map_err(raised)?, exception.try_getattr("args").map_err(raised)?);
        expect(found.is(&value), "a StopIteration has another value")?;
        expect(args.get_item(0).map_err(raised)?.is(&value), "a StopIteration has other arguments")?;
        drop((found, args, raised_error));
        take_back(py);
        expect(!lend || matches!(SPARE.get(py), Spare::Free(_)), "a StopIteration that was lent does not come back")?;
        expect(!crate::py::refs::is_shared(&value), "a StopIteration that is gone has its value still")?;
    }
    Ok(())
}
