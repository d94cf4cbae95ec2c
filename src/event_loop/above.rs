//! Methods of asyncio's loops that somebody has replaced above ours: in `BaseEventLoop`, as tracers do. They are
//! called, as if our classes had none of that name; what CPython's own, which they call in their turn, leaves behind is
//! taken up.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyString, PyTuple};

use crate::core::ready::Lane;
use crate::py::asyncio::asyncio;
use crate::py::call::{self, Object};
use crate::sched::replaced::Name;
use crate::sched::state::Making;
use crate::sched::{LoopState, schedule};

/// `super().name(*first, *args, context=context)`.
#[cold]
pub(super) fn call<'py>(
    event_loop: &Bound<'py, LoopState>,
    name: Name,
    first: &[Bound<'py, PyAny>],
    args: Bound<'py, PyTuple>,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let keywords = PyDict::new(py);
    if let Some(context) = context {
        keywords.set_item(pyo3::intern!(py, "context"), context)?;
    }
    let all: Vec<_> = first.iter().cloned().chain(args).collect();
    call_with(event_loop, name, all, &keywords)
}

fn call_with<'py>(
    event_loop: &Bound<'py, LoopState>,
    name: Name,
    args: Vec<Bound<'py, PyAny>>,
    keywords: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let mut all = vec![event_loop.clone().into_any(), name.text().into_pyobject(py)?.into_any()];
    all.extend(args);
    call::call_all(&asyncio(py)?.helper(py, "call_above")?, &PyTuple::new(py, all)?, Some(keywords))
}

/// What `time` of a loop gives of which somebody may have replaced something.
#[cold]
pub(super) fn time<'py>(event_loop: &Bound<'py, LoopState>) -> PyResult<Bound<'py, PyAny>> {
    let (py, state) = (event_loop.py(), event_loop.get());
    if state.replaced.has(event_loop, Name::AboveTime)? {
        return call(event_loop, Name::AboveTime, &[], PyTuple::empty(py), None);
    }
    if state.clock.is_real(py) && state.replaced.has(event_loop, Name::Monotonic)? {
        return py.import(pyo3::intern!(py, "time"))?.try_call_method(pyo3::intern!(py, "monotonic"), ());
    }
    Ok(PyFloat::new(py, schedule::time(event_loop)).into_any())
}

/// `call_later` of a loop whose `call_at` or `time` somebody has replaced (`BaseEventLoop.call_later`).
#[cold]
pub(super) fn call_later<'py>(
    event_loop: &Bound<'py, LoopState>,
    delay: &Bound<'py, PyAny>,
    callback: Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
    context: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    if delay.is_none() {
        return Err(PyTypeError::new_err("delay must not be None"));
    }
    let when = event_loop.try_call_method(pyo3::intern!(py, "time"), ())?.add(delay)?;
    let keywords = PyDict::new(py);
    keywords.set_item(pyo3::intern!(py, "context"), context)?;
    let all: Vec<_> = [when, callback].into_iter().chain(args).collect();
    call::call_all(&event_loop.try_getattr(pyo3::intern!(py, "call_at"))?, &PyTuple::new(py, all)?, Some(&keywords))
}

/// `super().create_task(coro, **keywords)`, which makes our own tasks; `making` (None: there is a task factory) does
/// not go through it.
#[cold]
pub(super) fn create_task<'py>(
    event_loop: &Bound<'py, LoopState>,
    keywords: &Bound<'py, PyDict>,
    making: Option<Making>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, state) = (event_loop.py(), event_loop.get());
    let coroutine = keywords.as_any().get_item("coro")?;
    keywords.del_item("coro")?;
    let outer = state.making.get(py);
    state.making.set(py, making);
    let made = call_with(event_loop, Name::AboveCreateTask, vec![coroutine], keywords);
    state.making.set(py, outer);
    made
}

/// The lane that `priority` means: a number, as that of `making`.
pub(super) fn lane_of(priority: Option<&Bound<'_, PyAny>>) -> PyResult<Lane> {
    let Some(priority) = priority.filter(|priority| !priority.is_none()) else { return Ok(Lane::Normal) };
    match priority.extract::<u8>() {
        Ok(0) => Ok(Lane::High),
        Ok(1) => Ok(Lane::Normal),
        Ok(2) => Ok(Lane::Low),
        _ => Err(PyValueError::new_err("priority must be pyloop.HIGH, pyloop.NORMAL or pyloop.LOW")),
    }
}

/// Have a timer of asyncio's own class run when it is due.
pub(super) fn add_timer(event_loop: &Bound<'_, LoopState>, timer: Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    let when = timer.try_getattr(pyo3::intern!(py, "_when"))?.try_float()?;
    let callback = event_loop.try_getattr(pyo3::intern!(py, "_add_callback"))?;
    let parts = schedule::parts(callback, PyTuple::new(py, [&timer])?, None);
    schedule::call_at(event_loop, when, Some(timer), parts).map(drop)
}

/// `object.__setattr__` or (without a value) `__delattr__`: what is put over a method of the loop is noticed.
pub(super) fn set_attribute(
    event_loop: &Bound<'_, LoopState>,
    name: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    call::set_attribute(event_loop, name, value)?;
    if ["call_soon", "call_at", "time", "__class__", "__dict__"].iter().any(|known| name == *known) {
        event_loop.get().replaced.doubt(event_loop.py());
    }
    Ok(())
}
