//! An extension that was written for `pyo3_async_runtimes::tokio`: what it changed is this `use`.

use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use pyloop::tokio as pyo3_tokio;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

#[pyfunction]
fn moved_sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    pyo3_tokio::future_into_py(py, async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok(seconds)
    })
}

#[pyfunction]
fn moved_local(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_tokio::local_future_into_py(py, async move {
        let number = Rc::new(7);
        tokio::task::yield_now().await;
        Ok(*number)
    })
}

/// Spawned on the runtime with the locals of the caller, as the book of pyo3-async-runtimes does it.
#[pyfunction]
fn moved_spawns<'py>(py: Python<'py>, function: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let locals = pyo3_tokio::get_current_locals(py)?;
    pyo3_tokio::future_into_py_with_locals(py, locals.clone_ref(py), async move {
        let task = pyo3_tokio::get_runtime().spawn(pyo3_tokio::scope(locals, async move {
            Python::attach(|py| pyo3_tokio::into_future(function.bind(py).call0()?))?.await
        }));
        task.await.map_err(|_| PyRuntimeError::new_err("lost"))?
    })
}

#[pyfunction]
fn moved_streams<'py>(py: Python<'py>, generator: Bound<'py, PyAny>, first: bool) -> PyResult<Bound<'py, PyAny>> {
    if first {
        let stream = pyo3_tokio::into_stream_v1(generator)?;
        return pyo3_tokio::local_future_into_py(py, async move {
            let items: Vec<_> = stream.filter_map(|item| async { item.ok() }).collect().await;
            Ok(items)
        });
    }
    let stream = pyo3_tokio::into_stream_v2(generator)?;
    pyo3_tokio::local_future_into_py(py, async move { Ok(stream.collect::<Vec<_>>().await) })
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(moved_sleep, moved_local, moved_spawns, moved_streams);
    Ok(())
}
