//! Async functions and methods, each by one attribute.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use pyloop::CancellationToken;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use tokio::sync::Notify;

use crate::basics::Alive;
use crate::probes::drained;

/// Greets, a bit later.
#[pyloop::awaitable]
#[pyfunction]
#[pyo3(signature = (name, /, greeting = "hello".to_owned(), *, times = 1))]
async fn greets(name: String, greeting: String, mut times: usize) -> PyResult<String> {
    let mut words = Vec::new();
    while times > 0 {
        tokio::task::yield_now().await;
        words.push(format!("{greeting} {name}"));
        times -= 1;
    }
    Ok(words.join(", "))
}

#[pyloop::awaitable]
#[pyfunction(name = "async_ready")]
async fn is_ready(value: Py<PyAny>) -> PyResult<Py<PyAny>> {
    Ok(value)
}

#[pyloop::awaitable]
#[pyfunction]
async fn async_plain() -> u32 {
    tokio::task::yield_now().await;
    7
}

#[pyloop::awaitable]
#[pyfunction]
async fn async_nothing() {
    tokio::task::yield_now().await;
}

#[pyloop::awaitable]
#[pyfunction]
#[pyo3(signature = (*args, **keywords))]
async fn async_all(args: Py<PyTuple>, keywords: Option<Py<PyDict>>) -> (Py<PyTuple>, Option<Py<PyDict>>) {
    tokio::task::yield_now().await;
    (args, keywords)
}

fn halved(object: &Bound<'_, PyAny>) -> PyResult<u32> {
    object.extract::<u32>().map(|number| number / 2)
}

#[pyloop::awaitable]
#[pyfunction]
async fn async_halved(#[pyo3(from_py_with = halved)] number: u32) -> u32 {
    number
}

/// An error of the extension's own.
struct Mine(String);

impl From<Mine> for PyErr {
    fn from(mine: Mine) -> Self {
        PyValueError::new_err(mine.0)
    }
}

#[pyloop::awaitable]
#[pyfunction]
async fn async_fails(message: String) -> Result<(), Mine> {
    tokio::task::yield_now().await;
    Err(Mine(message))
}

#[pyloop::awaitable]
#[pyfunction]
async fn async_fails_with(number: i32) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(number))
}

#[pyloop::awaitable]
#[pyfunction]
async fn async_panics(message: String) {
    assert!(message.is_empty(), "{message}");
}

#[pyloop::awaitable]
#[pyfunction]
async fn async_never() -> PyResult<()> {
    let _alive = Alive::new();
    std::future::pending().await
}

/// Not `Send`.
#[pyloop::awaitable]
#[pyfunction]
async fn async_local() -> PyResult<u32> {
    let number = Rc::new(7);
    tokio::task::yield_now().await;
    let theirs = Rc::clone(&number);
    let task = tokio::task::spawn_local(async move { *theirs });
    task.await.map_err(|_| PyRuntimeError::new_err("lost"))
}

#[pyloop::awaitable]
#[pyfunction]
async fn async_sleep(seconds: f64) -> f64 {
    let _alive = Alive::new();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    seconds
}

#[pyloop::awaitable]
#[pyfunction]
async fn async_drains(items: usize) -> usize {
    drained(items).await
}

fn thread_name() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

#[pyloop::awaitable(spawn)]
#[pyfunction]
async fn async_spawned() -> String {
    let _alive = Alive::new();
    tokio::task::yield_now().await;
    thread_name()
}

#[pyloop::awaitable(spawn)]
#[pyfunction]
async fn async_spawned_never() {
    let _alive = Alive::new();
    std::future::pending::<()>().await;
}

#[pyloop::awaitable(blocking)]
#[pyfunction]
fn async_blocking(seconds: f64) -> io::Result<String> {
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(thread_name())
}

/// Ends with "done", or with "told" once its token is cancelled; appends that to `log`.
#[pyloop::awaitable(cancel = "shield")]
#[pyfunction]
async fn async_shielded(seconds: f64, log: Py<PyAny>, token: CancellationToken) -> PyResult<&'static str> {
    let _alive = Alive::new();
    let end = tokio::select! {
        () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => "done",
        () = token.cancelled() => "told",
    };
    Python::attach(|py| log.call_method1(py, "append", (end,)))?;
    Ok(end)
}

/// What is borrowed while it is awaited.
#[pyclass]
struct Counter {
    count: u64,
    opened: Notify,
}

#[pyloop::awaitable]
#[pymethods]
impl Counter {
    /// A counter.
    #[new]
    fn new() -> Self {
        Self { count: 0, opened: Notify::new() }
    }

    #[getter]
    fn count(&self) -> u64 {
        self.count
    }

    /// The next call of `waits` goes on.
    fn open(slf: PyRef<'_, Self>) {
        slf.opened.notify_one();
    }

    /// Adds to the count, a bit later.
    #[pyo3(signature = (n = 1, *, fails = false))]
    async fn add(&mut self, n: u64, fails: bool) -> PyResult<u64> {
        tokio::task::yield_now().await;
        if fails {
            return Err(PyValueError::new_err("as told"));
        }
        self.count += n;
        Ok(self.count)
    }

    /// Adds twice, by another method.
    async fn add_twice(&mut self, n: u64) -> PyResult<u64> {
        self.add(n, false).await?;
        self.add(n, false).await
    }

    /// Waits for `open`, sharing the counter meanwhile.
    async fn waits(&self) -> u64 {
        let _alive = Alive::new();
        self.opened.notified().await;
        self.count
    }

    /// Has the counter for itself, for ever.
    async fn keeps(&mut self) {
        let _alive = Alive::new();
        std::future::pending::<()>().await;
    }

    async fn ready(&self, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        Ok(value)
    }

    #[awaitable(spawn)]
    async fn spawned(&mut self) -> (u64, String) {
        tokio::task::yield_now().await;
        self.count += 1;
        (self.count, thread_name())
    }

    #[awaitable(blocking)]
    fn blocking(&mut self) -> PyResult<(u64, String)> {
        self.count += 1;
        Ok((self.count, thread_name()))
    }

    /// Adds in any case.
    #[awaitable(cancel = "shield")]
    async fn shielded(&mut self, token: CancellationToken) -> u64 {
        token.cancelled().await;
        self.count += 1;
        self.count
    }

    #[staticmethod]
    async fn made(count: u64) -> Self {
        tokio::task::yield_now().await;
        Self { count, opened: Notify::new() }
    }

    #[classmethod]
    async fn of_class(class: Py<PyType>) -> PyResult<Py<PyAny>> {
        tokio::task::yield_now().await;
        Python::attach(|py| class.call0(py))
    }

    #[pyo3(name = "renamed")]
    async fn has_another_name(&self) {}
}

/// What has nothing to borrow, and is entered, iterated and closed.
#[pyclass(frozen, name = "Rows")]
struct Numbers {
    left: std::sync::Mutex<u32>,
    log: Py<PyAny>,
}

impl Numbers {
    fn says(&self, what: &str) -> PyResult<()> {
        Python::attach(|py| self.log.call_method1(py, "append", (what,)).map(drop))
    }
}

#[pyloop::awaitable]
#[pymethods]
impl Numbers {
    #[new]
    fn new(left: u32, log: Py<PyAny>) -> Self {
        Self { left: left.into(), log }
    }

    async fn __aenter__(slf: Py<Self>) -> PyResult<Py<Self>> {
        tokio::task::yield_now().await;
        slf.get().says("entered")?;
        Ok(slf)
    }

    /// Swallows a ValueError.
    async fn __aexit__(&self, kind: Option<Py<PyType>>, _raised: Py<PyAny>, _traceback: Py<PyAny>) -> PyResult<bool> {
        tokio::task::yield_now().await;
        self.says("exited")?;
        Python::attach(|py| kind.map_or(Ok(false), |kind| kind.bind(py).is_subclass_of::<PyValueError>()))
    }

    fn __aiter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    async fn __anext__(&self) -> io::Result<Option<u32>> {
        tokio::task::yield_now().await;
        let mut left = self.left.lock().map_err(|_| io::Error::other("poisoned"))?;
        if *left == 13 {
            return Err(io::Error::from_raw_os_error(13));
        }
        *left = left.saturating_sub(1);
        Ok((*left > 0).then_some(*left))
    }

    async fn aclose(&self) -> PyResult<()> {
        self.says("closed")
    }

    async fn ready(&self, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        Ok(value)
    }

    /// `ready`, written by hand.
    fn ready_by_hand<'py>(slf: Py<Self>, py: Python<'py>, value: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        pyloop::future_into_py(py, async move {
            slf.get();
            Ok::<_, PyErr>(value)
        })
    }
}

/// May not leave its thread.
#[pyclass(unsendable)]
struct AtHome(Rc<u32>);

#[pyloop::awaitable]
#[pymethods]
impl AtHome {
    #[new]
    fn new() -> Self {
        Self(Rc::new(7))
    }

    async fn number(&self) -> u32 {
        tokio::task::yield_now().await;
        *self.0
    }
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(
        greets,
        is_ready,
        async_plain,
        async_nothing,
        async_all,
        async_halved,
        async_fails,
        async_fails_with,
        async_panics,
        async_never,
        async_local,
        async_sleep,
        async_drains,
        async_spawned,
        async_spawned_never,
        async_blocking,
        async_shielded,
    );
    module.add_class::<Counter>()?;
    module.add_class::<Numbers>()?;
    module.add_class::<AtHome>()
}
