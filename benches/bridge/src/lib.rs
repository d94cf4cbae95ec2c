//! The same Rust futures as Python awaitables in three ways: `pyloop` (ours), `pyo3_fn` (PyO3's `async fn`) and `par`
//! (pyo3-async-runtimes).

use pyo3::prelude::*;
use tokio::sync::oneshot;
use tokio::task::yield_now;

fn gone<E>(_: E) -> PyErr {
    pyo3::exceptions::PyRuntimeError::new_err("the sender is gone")
}

/// A oneshot completed by a thread that waits for orders, so that no thread start is measured.
async fn completed_by_thread() -> PyResult<u32> {
    use std::sync::{LazyLock, Mutex, mpsc};
    type Order = oneshot::Sender<u32>;
    static WORKER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for order in taken {
                // Nobody waits for it any more: nothing to do.
                order.send(7).unwrap_or_default();
            }
        });
        Mutex::new(orders)
    });
    let (sender, receiver) = oneshot::channel();
    WORKER.lock().map_err(gone)?.send(sender).map_err(gone)?;
    receiver.await.map_err(gone)
}

async fn get(client: reqwest::Client, url: String) -> PyResult<usize> {
    let body = client.get(url).send().await.map_err(gone)?.bytes().await.map_err(gone)?;
    Ok(body.len())
}

/// One HTTP client for all.
#[pyclass(frozen)]
struct Client(reqwest::Client);

#[pymethods]
impl Client {
    #[new]
    fn new() -> PyResult<Self> {
        reqwest::Client::builder().no_proxy().build().map(Self).map_err(gone)
    }

    fn get_pyloop<'py>(&self, py: Python<'py>, url: String) -> PyResult<Bound<'py, PyAny>> {
        pyloop::send_future_into_py(py, get(self.0.clone(), url))
    }

    fn get_par<'py>(&self, py: Python<'py>, url: String) -> PyResult<Bound<'py, PyAny>> {
        pyo3_async_runtimes::tokio::future_into_py(py, get(self.0.clone(), url))
    }
}

#[pyfunction]
fn ready_pyloop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async { Ok::<_, PyErr>(7) })
}

#[pyfunction]
fn ready_par(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, async { Ok(7) })
}

#[pyfunction]
async fn ready_pyo3() -> u32 {
    7
}

#[pyfunction]
fn none_pyloop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async { Ok::<_, PyErr>(()) })
}

#[pyfunction]
async fn none_pyo3() {}

#[pyfunction]
fn yield_pyloop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async {
        yield_now().await;
        Ok::<_, PyErr>(())
    })
}

#[pyfunction]
fn yield_par(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, async {
        yield_now().await;
        Ok(())
    })
}

#[pyfunction]
async fn yield_pyo3() {
    yield_now().await;
}

#[pyfunction]
fn thread_pyloop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, completed_by_thread())
}

#[pyfunction]
fn thread_par(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, completed_by_thread())
}

#[pyfunction]
async fn thread_pyo3() -> PyResult<u32> {
    completed_by_thread().await
}

#[pyfunction]
fn into_pyloop<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    pyloop::future_into_py(py, pyloop::into_future(awaitable)?)
}

#[pyfunction]
fn into_par<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    pyo3_async_runtimes::tokio::future_into_py(py, pyo3_async_runtimes::tokio::into_future(awaitable)?)
}

#[pymodule]
fn bridge_bench(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(
        ready_pyloop, ready_par, ready_pyo3, none_pyloop, none_pyo3, yield_pyloop, yield_par, yield_pyo3,
        thread_pyloop, thread_par, thread_pyo3, into_pyloop, into_par,
    );
    module.add_class::<Client>()
}
