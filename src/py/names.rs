//! The public names of asyncio that a Rust future needs on any loop, looked up once.

use super::call::Object;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

struct Names {
    get_running_loop: Py<PyAny>,
    ensure_future: Py<PyAny>,
    isfuture: Py<PyAny>,
    cancelled_error: Py<PyType>,
}

fn names(py: Python<'_>) -> PyResult<&'static Names> {
    static NAMES: PyOnceLock<Names> = PyOnceLock::new();
    match NAMES.get(py) {
        Some(names) => Ok(names),
        None => NAMES.get_or_try_init(py, || {
            let asyncio = py.import("asyncio")?;
            Ok(Names {
                get_running_loop: asyncio.try_getattr("_get_running_loop")?.unbind(),
                ensure_future: asyncio.try_getattr("ensure_future")?.unbind(),
                isfuture: asyncio.try_getattr("isfuture")?.unbind(),
                cancelled_error: asyncio.try_getattr("CancelledError")?.cast_into::<PyType>()?.unbind(),
            })
        }),
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

/// `asyncio.ensure_future`.
pub fn ensure_future(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    Ok(names(py)?.ensure_future.bind(py))
}

/// `asyncio.isfuture(object)`.
pub fn is_future(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    names(object.py())?.isfuture.bind(object.py()).try_call((object,))?.try_is_truthy()
}

/// `asyncio.CancelledError`.
pub fn cancelled_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    Ok(names(py)?.cancelled_error.bind(py))
}
