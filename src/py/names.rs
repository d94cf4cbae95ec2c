//! The public names of asyncio that a Rust future needs on any loop, looked up once. The loop's own are in `asyncio`.

use super::call::Object;
use super::cell::GilCell;
use super::exit::outlast;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

struct Names {
    get_running_loop: Py<PyAny>,
    current_task: Py<PyAny>,
    ensure_future: Py<PyAny>,
    isfuture: Py<PyAny>,
    cancelled_error: Py<PyType>,
    invalid_state_error: Py<PyType>,
}

/// Those of the interpreter that asks. The first may be a subinterpreter, whose asyncio is another one, and ends.
fn names(py: Python<'_>) -> PyResult<&'static Names> {
    static NAMES: PyOnceLock<Names> = PyOnceLock::new();
    if !super::is_main_interpreter(py) {
        return of_subinterpreter(py);
    }
    match NAMES.get(py) {
        Some(names) => Ok(names),
        None => NAMES.get_or_try_init(py, || Names::find(py)),
    }
}

#[cold]
fn of_subinterpreter(py: Python<'_>) -> PyResult<&'static Names> {
    /// By the number of the interpreter, of which there is no second with the same.
    static OTHERS: GilCell<Vec<(i64, &Names)>> = GilCell::new(Vec::new());
    // SAFETY: the token says that this thread is attached, to a live interpreter.
    let number = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
    let known = OTHERS.with(py, |all| all.iter().find(|(known, _)| *known == number).map(|(_, names)| *names));
    if let Some(known) = known {
        return Ok(known);
    }
    let found: &Names = Box::leak(Box::new(Names::find(py)?));
    OTHERS.with(py, |all| all.push((number, found)));
    Ok(found)
}

impl Names {
    fn find(py: Python<'_>) -> PyResult<Self> {
        outlast();
        let asyncio = py.import("asyncio")?;
        let class = |name: &str| -> PyResult<_> { Ok(asyncio.try_getattr(name)?.cast_into::<PyType>()?.unbind()) };
        Ok(Self {
            get_running_loop: asyncio.try_getattr("_get_running_loop")?.unbind(),
            current_task: asyncio.try_getattr("current_task")?.unbind(),
            ensure_future: asyncio.try_getattr("ensure_future")?.unbind(),
            isfuture: asyncio.try_getattr("isfuture")?.unbind(),
            cancelled_error: class("CancelledError")?,
            invalid_state_error: class("InvalidStateError")?,
        })
    }
}

/// The event loop that runs in this thread, or None.
///
/// # Errors
/// What importing asyncio raises.
#[inline]
pub fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    names(py)?.get_running_loop.bind(py).try_call(())
}

/// The event loop that runs in this thread (`asyncio.get_running_loop()`).
///
/// # Errors
/// RuntimeError when there is none.
pub fn require_running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let event_loop = running_loop(py)?;
    if event_loop.is_none() {
        return Err(PyRuntimeError::new_err("no running event loop"));
    }
    Ok(event_loop)
}

/// The task whose step runs in this thread (`asyncio.current_task()`); None outside of one, and of a loop.
///
/// # Errors
/// What importing asyncio raises.
pub fn current_task(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let event_loop = running_loop(py)?;
    if event_loop.is_none() { Ok(None) } else { task_of(&event_loop) }
}

/// The task whose step a loop is in (`asyncio.current_task(loop)`).
///
/// # Errors
/// What importing asyncio raises.
pub fn task_of<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = event_loop.py();
    let task = names(py)?.current_task.bind(py).try_call((event_loop,))?;
    Ok((!task.is_none()).then_some(task))
}

/// `asyncio.ensure_future`.
pub fn ensure_future(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    Ok(names(py)?.ensure_future.bind(py))
}

/// `asyncio.isfuture(object)`.
pub fn is_future(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    names(object.py())?.isfuture.bind(object.py()).try_call((object,))?.try_is_truthy()
}

/// `asyncio.CancelledError`.
#[inline]
pub fn cancelled_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    Ok(names(py)?.cancelled_error.bind(py))
}

/// Whether this is a CancelledError.
#[inline]
pub fn is_cancelled_error(py: Python<'_>, error: &PyErr) -> bool {
    cancelled_error(py).is_ok_and(|class| error.is_instance(py, class))
}

/// A new CancelledError, with its message if there is one.
pub fn cancelled(py: Python<'_>, message: Option<Py<PyAny>>) -> PyResult<PyErr> {
    let class = cancelled_error(py)?;
    let exception = match message {
        Some(message) => class.try_call((message,))?,
        None => class.try_call(())?,
    };
    Ok(PyErr::from_value(exception))
}

/// A new InvalidStateError.
pub fn invalid_state(py: Python<'_>, text: impl Into<String>) -> PyResult<PyErr> {
    Ok(PyErr::from_type(names(py)?.invalid_state_error.bind(py).clone(), text.into()))
}

/// The module of that name, if it has been imported.
pub fn imported<'py>(name: &Bound<'py, PyString>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: the Bound holds the name, and the GIL; CPython gives a new reference, or null with an exception or
    // without.
    unsafe {
        let found = Bound::from_owned_ptr_or_opt(name.py(), ffi::PyImport_GetModule(name.as_ptr()));
        if found.is_none() {
            ffi::PyErr_Clear();
        }
        found
    }
}
