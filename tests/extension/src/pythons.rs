//! Python awaitables in Rust.

use std::time::Duration;

use futures::StreamExt;
use pyloop::CancelledError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// How an awaitable ends, as a Rust program sees it: "cancelled", or the name of the exception's type.
#[pyfunction]
fn ends<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let future = pyloop::into_future(awaitable)?;
    pyloop::future_into_py(py, async move {
        let ended = future.await;
        Python::attach(|py| match ended {
            Ok(value) => Ok::<_, PyErr>(format!("returned {}", value.bind(py).repr()?)),
            Err(raised) if raised.is_instance_of::<CancelledError>(py) => Ok("cancelled".to_owned()),
            Err(raised) => Ok(raised.get_type(py).name()?.to_string()),
        })
    })
}

/// Makes the Rust future of an awaitable and drops it without a poll.
#[pyfunction]
fn drops_unpolled(awaitable: Bound<'_, PyAny>) -> PyResult<()> {
    drop(pyloop::into_future(awaitable)?);
    Ok(())
}

/// Drops the Rust future of the awaitable after `seconds`, on a thread of the runtime.
#[pyfunction]
fn gives_up_spawned<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>, seconds: f64) -> PyResult<Bound<'py, PyAny>> {
    let future = pyloop::into_future(awaitable)?;
    pyloop::spawn_into_py(py, async move {
        let ended = tokio::time::timeout(Duration::from_secs_f64(seconds), future).await;
        Ok::<_, PyErr>(ended.is_err())
    })
}

/// Awaits it on a thread that has no runtime, by the simplest executor there is.
#[pyfunction]
fn awaits_in_thread<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let future = pyloop::into_future(awaitable)?;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(futures::executor::block_on(future)));
    pyloop::future_into_py(py, async move {
        receiver.await.unwrap_or_else(|_| Err(PyRuntimeError::new_err("the thread is gone")))
    })
}

/// Awaits it, and is pleased with whatever comes.
#[pyfunction]
fn ignores<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let future = pyloop::into_future(awaitable)?;
    pyloop::future_into_py(py, async move { Ok::<_, PyErr>(future.await.is_ok()) })
}

/// Awaits all of them at once.
#[pyfunction]
fn joins<'py>(py: Python<'py>, awaitables: Vec<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
    let awaited: PyResult<Vec<_>> = awaitables.into_iter().map(pyloop::into_future).collect();
    let awaited = futures::future::try_join_all(awaited?);
    pyloop::future_into_py(py, awaited)
}

/// Calls an async function on the runtime and awaits what it gives: needs the task's locals there.
#[pyfunction]
fn calls_async(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_into_py(py, async move {
        let future = Python::attach(|py| pyloop::into_future(function.bind(py).call0()?))?;
        future.await
    })
}

/// `calls_async`, in a task that was spawned without the locals (`scoped` false) or with them.
#[pyfunction]
fn calls_async_deeper(py: Python<'_>, function: Py<PyAny>, scoped: bool) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_into_py(py, async move {
        let inner = async move {
            let future = Python::attach(|py| pyloop::into_future(function.bind(py).call0()?))?;
            future.await
        };
        let task = match (scoped, pyloop::scoped()) {
            (true, Some(locals)) => tokio::spawn(pyloop::scope(locals, inner)),
            _ => tokio::spawn(inner),
        };
        task.await.map_err(|_| PyRuntimeError::new_err("lost"))?
    })
}

/// The loop and the context that a task on the runtime works for.
#[pyfunction]
fn locals(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_into_py(py, async {
        Python::attach(|py| {
            let locals = pyloop::get_current_locals(py)?;
            Ok::<_, PyErr>((locals.event_loop(py).unbind(), locals.context(py).unbind()))
        })
    })
}

/// The loop that a future polled in place works for.
#[pyfunction]
fn current_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async {
        tokio::task::yield_now().await;
        Python::attach(|py| pyloop::get_current_loop(py).map(Bound::unbind))
    })
}

/// The items of an async iterator, at most `most`; an exception is the last of them.
#[pyfunction]
#[pyo3(signature = (iterator, most = usize::MAX, spawned = false))]
fn collects<'py>(
    py: Python<'py>,
    iterator: Bound<'py, PyAny>,
    most: usize,
    spawned: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let stream = pyloop::into_stream(iterator)?;
    let collecting = async move {
        let mut items = Vec::new();
        let mut stream = stream.take(most);
        while let Some(item) = stream.next().await {
            items.push(item.unwrap_or_else(|raised| Python::attach(|py| raised.into_value(py).into_any())));
        }
        Ok::<_, PyErr>(items)
    };
    if spawned { pyloop::spawn_into_py(py, collecting) } else { pyloop::future_into_py(py, collecting) }
}

/// `block_on` in a task of the runtime.
#[pyfunction]
fn blocks_in_the_runtime(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_into_py(py, async { Python::attach(|py| pyloop::block_on(py, async { 5 })) })
}

/// An event loop for this one future.
#[pyfunction]
fn runs(py: Python<'_>, awaitable: Py<PyAny>) -> PyResult<Py<PyAny>> {
    pyloop::run(py, async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Python::attach(|py| pyloop::into_future(awaitable.into_bound(py)))?.await
    })
}

/// This event loop for one future.
#[pyfunction]
fn runs_on<'py>(event_loop: Bound<'py, PyAny>, awaitable: Py<PyAny>) -> PyResult<Py<PyAny>> {
    pyloop::run_until_complete(event_loop, async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Python::attach(|py| pyloop::into_future(awaitable.into_bound(py)))?.await
    })
}

/// This event loop for a future that fails with an `io::Error`.
#[pyfunction]
fn fails_on(event_loop: Bound<'_, PyAny>, number: i32) -> PyResult<()> {
    pyloop::run_until_complete(event_loop, async move { Err(std::io::Error::from_raw_os_error(number)) })
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(
        ends,
        drops_unpolled,
        gives_up_spawned,
        awaits_in_thread,
        ignores,
        joins,
        calls_async,
        calls_async_deeper,
        locals,
        current_loop,
        collects,
        blocks_in_the_runtime,
        runs,
        runs_on,
        fails_on,
    );
    Ok(())
}
