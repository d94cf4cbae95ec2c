//! What a dependency does that stands on pyo3-async-runtimes itself: its futures run on a runtime of its own.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3_async_runtimes::tokio as theirs;

#[pyfunction]
fn their_sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    theirs::future_into_py(py, async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok(seconds)
    })
}

/// Their future awaits a coroutine of `function`'s.
#[pyfunction]
fn their_call(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    theirs::future_into_py(
        py,
        async move { Python::attach(|py| theirs::into_future(function.bind(py).call0()?))?.await },
    )
}

/// The same by pyloop's `into_future`: with the loop that it is given, or (without) the one that it looks for.
#[pyfunction]
fn their_call_by_ours(py: Python<'_>, function: Py<PyAny>, with_loop: bool) -> PyResult<Bound<'_, PyAny>> {
    let locals = with_loop.then(|| pyloop::TaskLocals::with_running_loop(py)).transpose()?;
    theirs::future_into_py(py, async move {
        Python::attach(|py| {
            let awaitable = function.bind(py).call0()?;
            match &locals {
                Some(locals) => pyloop::into_future_with_locals(locals, awaitable),
                None => pyloop::into_future(awaitable),
            }
        })?
        .await
    })
}

/// How many threads their runtime has, and whether it is pyloop's.
#[pyfunction]
fn their_runtime() -> (usize, bool) {
    let metrics = theirs::get_runtime().metrics();
    (metrics.num_workers(), theirs::get_runtime().handle().id() == pyloop::tokio::get_runtime().handle().id())
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(their_sleep, their_call, their_call_by_ours, their_runtime);
    Ok(())
}
