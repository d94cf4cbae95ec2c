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

use super::{Acceleration, Probed, expect, raised};
use crate::py::call::{self, Object};
use crate::py::cell::GilValue;
use crate::py::error::{self, Slim};
use crate::py::iter::{Await, Next, Resume, Sent, send_none};

pub static SLOTS: Acceleration = Acceleration::new("slots");

/// # Safety
/// The GIL is held, and `object` an instance of `T` or of a subclass.
#[inline(always)]
unsafe fn entry<T: PyClass>(
    object: *mut ffi::PyObject,
    f: impl for<'py> FnOnce(&Bound<'py, T>) -> Slim<Option<Bound<'py, PyAny>>>,
) -> *mut ffi::PyObject {
    // SAFETY: the caller promises that the GIL is held, and what `object` is.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, object);
        let this = call::cast::<T>(&this);
        match error::catch_panic_slim(|| f(this)) {
            Ok(given) => given.map_or(std::ptr::null_mut(), Bound::into_ptr),
            Err(raised) => {
                raised.restore(py);
                std::ptr::null_mut()
            }
        }
    }
}

unsafe extern "C" fn am_await<T: Await>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: only `put_await` hands this out, as a slot of `T`: CPython calls it with the GIL held, and with an
    // instance of `T` or a subclass, which it holds for the call.
    unsafe { entry::<T>(object, |this| Ok(Some(T::iterator(this)?))) }
}

unsafe extern "C" fn tp_iternext<T: Next>(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: only `put_next` hands this out, as a slot of `T`: CPython calls it with the GIL held, and with an
    // instance of `T` or a subclass, which it holds for the call.
    unsafe {
        if T::ATTACHES {
            Python::attach_unchecked(|_| entry::<T>(object, T::next))
        } else {
            entry::<T>(object, T::next)
        }
    }
}

unsafe extern "C" fn am_send<T: Resume>(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let resume = |py: Python<'_>| {
        // SAFETY: only `put_send` hands this out, as a slot of `T`: CPython calls it with an instance of `T` or a
        // subclass and with a value, both of which it holds for the call, and with a place for the result.
        unsafe {
            let this = Borrowed::from_ptr(py, object);
            let this = call::cast::<T>(&this);
            let value = Borrowed::from_ptr(py, value);
            let (gave, sent) = match error::catch_panic_slim(|| T::resume(this, &value)) {
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
    if SLOTS.is_on() {
        put_send::<T>(class);
    }
}

fn put_send<T: Resume>(class: &Bound<'_, PyType>) {
    let class = class.as_type_ptr();
    // SAFETY: the Bound held the class, a heap type of ours without instances, whose slots are memory of its own; the
    // GIL is held, and the slot is set before anybody can see it used.
    unsafe {
        if !(*class).tp_as_async.is_null() {
            (*(*class).tp_as_async).am_send = Some(am_send::<T>);
            ffi::PyType_Modified(class);
        }
    }
}

/// Into `class`, which is `T` or a subclass without an `__await__` of its own, before it has instances or subclasses.
pub fn install_await<T: Await>(class: &Bound<'_, PyType>) {
    if SLOTS.is_on() {
        put_await::<T>(class);
    }
}

fn put_await<T: Await>(class: &Bound<'_, PyType>) {
    let class = class.as_type_ptr();
    // SAFETY: the Bound holds the class, a heap type of ours without instances, whose slots are memory of its own; the
    // GIL is held, and the slot is set before anybody can see it used.
    unsafe {
        if !(*class).tp_as_async.is_null() {
            (*(*class).tp_as_async).am_await = Some(am_await::<T>);
            ffi::PyType_Modified(class);
        }
    }
}

/// Into `class`, which is `T`, before it has instances.
pub fn install_next<T: Next>(class: &Bound<'_, PyType>) {
    if SLOTS.is_on() {
        put_next::<T>(class);
    }
}

fn put_next<T: Next>(class: &Bound<'_, PyType>) {
    let class = class.as_type_ptr();
    // SAFETY: the Bound held the class, a heap type of ours without instances, whose slots are memory of its own; the
    // GIL is held, and the slot is set before anybody can see it used.
    unsafe {
        (*class).tp_iternext = Some(tp_iternext::<T>);
        ffi::PyType_Modified(class);
    }
}

/// A class that is awaited, iterated and sent to once, and then has the value 7.
#[pyclass(frozen, module = "pyloop._native")]
pub(super) struct Scratch {
    yielded: GilValue<bool>,
}

impl Scratch {
    pub(super) fn new(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, Self { yielded: GilValue::new(false) })
    }
}

#[pymethods]
impl Scratch {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        (!slf.get().yielded.replace(slf.py(), true)).then(|| slf.py().None())
    }

    /// What `methods` puts its own before.
    #[pyo3(signature = (number, other = 2))]
    #[allow(clippy::unused_self, reason = "a method")]
    pub(super) fn add(&self, number: u64, other: u64) -> u64 {
        number + other
    }
}

impl Await for Scratch {
    fn iterator<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(slf.clone().into_any())
    }
}

impl Next for Scratch {
    fn next<'py>(slf: &Bound<'py, Self>) -> Slim<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        if !slf.get().yielded.replace(py, true) {
            let five = 5_u64.into_pyobject(py).unwrap_or_else(|never| match never {});
            return Ok(Some(five.into_any()));
        }
        Err(Box::new(pyo3::exceptions::PyStopIteration::new_err((7,))))
    }
}

impl Resume for Scratch {
    fn resume<'py>(slf: &Bound<'py, Self>, _value: &Bound<'py, PyAny>) -> Slim<Sent<'py>> {
        let py = slf.py();
        let number = |number: u64| number.into_pyobject(py).unwrap_or_else(|never| match never {}).into_any();
        let first = !slf.get().yielded.replace(py, true);
        Ok(if first { Sent::Yielded(number(6)) } else { Sent::Returned(number(7)) })
    }
}

/// A coroutine awaits an instance, and a task's way of sending gets its result without a StopIteration.
pub(super) fn probe(py: Python<'_>) -> Probed {
    let class = py.get_type::<Scratch>();
    // SAFETY: the Bound holds the class, of which a pointer is compared.
    let has_slots = unsafe { !(*class.as_type_ptr()).tp_as_async.is_null() };
    expect(has_slots, "a class with __await__ has no slots for it")?;
    put_await::<Scratch>(&class);
    put_next::<Scratch>(&class);
    put_send::<Scratch>(&class);
    let scope = pyo3::types::PyDict::new(py);
    py.run(c"async def coroutine(awaitable): return await awaitable\n", Some(&scope), None).map_err(raised)?;
    let scratch = Scratch::new(py).map_err(raised)?;
    let coroutine = scope.get_item("coroutine").map_err(raised)?.ok_or("no coroutine function")?;
    let coroutine = coroutine.try_call((scratch,)).map_err(raised)?;
    let sent = |object: &Bound<'_, PyAny>| match send_none(object).map_err(|error| raised(*error))? {
        Sent::Yielded(number) | Sent::Returned(number) => number.extract::<u64>().map_err(raised),
    };
    // Since CPython 3.15 an await sends, before that it asks for the next item.
    let yielded = if cfg!(Py_3_15) { 6 } else { 5 };
    expect(sent(&coroutine)? == yielded, "an await does not come to our slot")?;
    expect(sent(&coroutine)? == 7, "an await does not get our result")?;
    let scratch = Scratch::new(py).map_err(raised)?.into_any();
    expect(sent(&scratch)? == 6 && sent(&scratch)? == 7, "sending does not come to our slot")
}
