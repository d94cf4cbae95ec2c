//! Event loops for programs whose main is Rust.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::awaitable::RustFuture;
use crate::py::call::Object;
use crate::py::{error, require_main_for_futures};

/// Run `fut` to its end on a new event loop in this thread, as `asyncio.run` does, and give its result. The loop is a
/// pyloop when the package can be imported (with the `loop` feature this crate brings it along, see
/// [`prepare`](crate::prepare)), else asyncio's.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// # fn main() -> PyResult<()> {
/// Python::initialize();
/// Python::attach(|py| {
///     pyloop::prepare(py)?;
///     let answer = pyloop::run(py, async {
///         tokio::time::sleep(std::time::Duration::from_millis(10)).await;
///         Ok::<_, PyErr>(42)
///     })?;
///     assert_eq!(answer, 42);
///     Ok(())
/// })
/// # }
/// ```
///
/// # Errors
/// What `fut` fails with; RuntimeError when a loop is running in this thread; KeyboardInterrupt on Ctrl-C.
pub fn run<F, T, E>(py: Python<'_>, fut: F) -> PyResult<T>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: Into<PyErr> + 'static,
{
    let keywords = PyDict::new(py);
    match py.import("pyloop") {
        Ok(pyloop) => keywords.set_item("loop_factory", pyloop.try_getattr("new_event_loop")?)?,
        Err(missing) if missing.is_instance_of::<PyImportError>(py) => {}
        Err(raised) => return Err(raised),
    }
    let asyncio = py.import("asyncio")?;
    drive(py, fut, |main| asyncio.try_call_method_with("run", (main,), &keywords).map(drop))
}

/// Run `fut` to its end on this event loop, in this thread.
///
/// # Errors
/// What `fut` fails with; RuntimeError when a loop is running in this thread.
pub fn run_until_complete<F, T, E>(event_loop: Bound<'_, PyAny>, fut: F) -> PyResult<T>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: Into<PyErr> + 'static,
{
    let py = event_loop.py();
    drive(py, fut, |main| event_loop.try_call_method("run_until_complete", (main,)).map(drop))
}

/// Have `run` await the future, whose result needs no conversion.
fn drive<'py, F, T, E>(py: Python<'py>, fut: F, run: impl FnOnce(Bound<'py, PyAny>) -> PyResult<()>) -> PyResult<T>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: 'static,
    E: Into<PyErr> + 'static,
{
    require_main_for_futures(py)?;
    let slot = Rc::new(RefCell::new(None));
    let result = Rc::clone(&slot);
    let main = RustFuture::new_local(std::any::type_name::<F>(), async move {
        let value = fut.await.map_err(error::into_error)?;
        result.replace(Some(value));
        Ok(Python::attach(|py| py.None()))
    });
    run(Bound::new(py, main)?.into_any())?;
    match slot.take() {
        Some(value) => Ok(value),
        None => unreachable!("the future has ended without an error"),
    }
}
