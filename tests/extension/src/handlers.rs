//! Python functions that Rust calls.

use futures::future::try_join_all;
use pyloop::Callback;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// What `handler(number)` gives, for each number below `times`, all at once.
#[pyloop::awaitable]
#[pyfunction]
async fn asks(handler: Callback, times: u32) -> PyResult<Vec<Py<PyAny>>> {
    try_join_all((0..times).map(|number| handler.call((number,)))).await
}

/// The same, one after the other.
#[pyloop::awaitable]
#[pyfunction]
async fn asks_in_turn(handler: Callback, times: u32) -> PyResult<Vec<Py<PyAny>>> {
    let mut answers = Vec::new();
    for number in 0..times {
        answers.push(handler.call((number,)).await?);
    }
    Ok(answers)
}

/// `asks`, on the background runtime.
#[pyloop::awaitable(spawn)]
#[pyfunction]
async fn asks_spawned(handler: Callback, times: u32) -> PyResult<Vec<Py<PyAny>>> {
    try_join_all((0..times).map(|number| handler.call((number,)))).await
}

/// `asks`, in a task that was spawned without the locals, and in a thread without a runtime.
#[pyloop::awaitable]
#[pyfunction]
async fn asks_from_anywhere(handler: Callback) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
    let theirs = handler.clone();
    let task = pyloop::tokio::get_runtime().handle().spawn(async move { theirs.call((1,)).await });
    let first = task.await.map_err(|_| PyRuntimeError::new_err("lost"))??;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || sender.send(futures::executor::block_on(handler.call((2,)))));
    let second = receiver.await.map_err(|_| PyRuntimeError::new_err("the thread is gone"))??;
    Ok((first, second))
}

/// Gives a call up as soon as another has ended: true if the first had not.
#[pyloop::awaitable]
#[pyfunction]
async fn asks_and_gives_up(handler: Callback, when: Callback, spawned: bool) -> PyResult<bool> {
    let asking = async move {
        tokio::select! {
            biased;
            _ = handler.call(()) => false,
            _ = when.call(()) => true,
        }
    };
    if !spawned {
        return Ok(asking.await);
    }
    let task = pyloop::tokio::get_runtime().handle().spawn(asking);
    task.await.map_err(|_| PyRuntimeError::new_err("lost"))
}

/// What the calls give as numbers, which the loop's thread extracts.
#[pyloop::awaitable]
#[pyfunction]
async fn asks_for_numbers(handler: Callback, times: u32, spawned: bool) -> PyResult<Vec<i64>> {
    let asking = async move { try_join_all((0..times).map(|number| handler.call((number,)).extracted())).await };
    if !spawned {
        return asking.await;
    }
    let task = pyloop::tokio::get_runtime().handle().spawn(asking);
    task.await.map_err(|_| PyRuntimeError::new_err("lost"))?
}

/// The same of one call, which has ended before it is said.
#[pyloop::awaitable]
#[pyfunction]
async fn asks_for_a_number_late(handler: Callback) -> PyResult<i64> {
    let mut asked = handler.call((1,));
    match futures::poll!(&mut asked) {
        std::task::Poll::Ready(given) => Python::attach(|py| given?.extract(py)),
        std::task::Poll::Pending => {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            asked.extracted().await
        }
    }
}

/// Makes calls that nobody polls.
#[pyfunction]
fn asks_nobody(handler: Callback) {
    drop(handler.call(()));
}

/// A function that is kept.
#[pyclass(frozen)]
struct KeptHandler(Callback);

#[pyloop::awaitable]
#[pymethods]
impl KeptHandler {
    #[new]
    fn new(handler: Callback) -> Self {
        Self(handler)
    }

    async fn ask(&self) -> PyResult<Py<PyAny>> {
        self.0.call(("from", "Rust")).await
    }

    #[getter]
    fn function<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.0.function(py).clone()
    }
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(
        asks,
        asks_in_turn,
        asks_spawned,
        asks_from_anywhere,
        asks_and_gives_up,
        asks_for_numbers,
        asks_for_a_number_late,
        asks_nobody
    );
    module.add_class::<KeptHandler>()
}
