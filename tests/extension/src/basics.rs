//! Futures of every temper, through each function of the API.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::sync::oneshot;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Counts the futures that have not been dropped.
pub struct Alive;

impl Alive {
    pub fn new() -> Self {
        LIVE.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

#[pyfunction]
fn live() -> usize {
    LIVE.load(Ordering::SeqCst)
}

#[pyfunction]
fn ready(py: Python<'_>, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move { Ok::<_, PyErr>(value) })
}

#[pyfunction]
fn ready_none(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async { Ok::<_, PyErr>(()) })
}

#[pyfunction]
fn yield_once(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async {
        tokio::task::yield_now().await;
        Ok::<_, PyErr>(())
    })
}

#[pyfunction]
fn send_yield_once(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::send_future_into_py(py, async {
        tokio::task::yield_now().await;
        Ok::<_, PyErr>(())
    })
}

#[pyfunction]
fn never(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let alive = Alive::new();
    pyloop::future_into_py(py, async move {
        let _alive = alive;
        std::future::pending::<Result<(), PyErr>>().await
    })
}

#[pyfunction]
fn fails(py: Python<'_>, message: String) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move { Err::<(), _>(PyValueError::new_err(message)) })
}

#[pyfunction]
fn io_error(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async { tokio::fs::read("/no/such/file").await })
}

/// Fails with an `io::Error` of this number, through each function that takes a future's error.
#[pyfunction]
fn fails_with<'py>(py: Python<'py>, through: &str, number: i32) -> PyResult<Bound<'py, PyAny>> {
    let failed = move || Err::<(), _>(io::Error::from_raw_os_error(number));
    match through {
        "future" => pyloop::future_into_py(py, async move { failed() }),
        "named" => pyloop::named_into_py(py, "named", async move { failed() }),
        "send" => pyloop::send_future_into_py(py, async move { failed() }),
        "holding" => pyloop::holding_into_py(py, py.None(), async {}, move |(), _| failed()),
        "spawn" => pyloop::spawn_into_py(py, async move { failed() }),
        "spawn_blocking" => pyloop::spawn_blocking_into_py(py, failed),
        "shielded" => pyloop::shielded_into_py(py, move |_| async move { failed() }),
        "stream" => {
            let stream = pyloop::stream_into_py(py, futures::stream::iter([failed()]))?;
            stream.call_method0("__anext__")
        }
        "by hand" => pyloop::future_into_py(py, async move {
            failed().map_err(pyloop::io_error)?;
            Ok::<_, PyErr>(())
        }),
        _ => Err(PyValueError::new_err(through.to_owned())),
    }
}

/// Fails with an `io::Error` that has no number: one of words, or one that has this exception in it.
#[pyfunction]
fn fails_without_number(py: Python<'_>, inside: Option<Py<PyAny>>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        Err::<(), _>(match inside {
            None => io::Error::new(io::ErrorKind::ConnectionReset, "in words"),
            Some(raised) => io::Error::other(Python::attach(|py| PyErr::from_value(raised.into_bound(py)))),
        })
    })
}

#[pyfunction]
fn panics(py: Python<'_>, message: String) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        if !message.is_empty() {
            panic!("{message}");
        }
        Ok::<_, PyErr>(())
    })
}

/// Holds what may not leave its thread.
#[pyfunction]
fn local(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let alive = Alive::new();
    let shared = Rc::new(RefCell::new(1));
    pyloop::future_into_py(py, async move {
        let _alive = alive;
        tokio::task::yield_now().await;
        *shared.borrow_mut() += 1;
        Ok::<_, PyErr>(*shared.borrow())
    })
}

#[pyfunction]
fn sleep(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    pyloop::send_future_into_py(py, async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        Ok::<_, PyErr>(())
    })
}

/// Ends with `value` after `seconds`, and shows it to the cycle collector until then.
#[pyfunction]
fn holds(py: Python<'_>, value: Py<PyAny>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    let sleeping = async move { tokio::time::sleep(Duration::from_secs_f64(seconds)).await };
    pyloop::holding_into_py(py, value, sleeping, |(), value| Ok::<_, PyErr>(value))
}

/// Completed by a thread that never takes the GIL.
#[pyfunction]
fn from_thread(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::send_future_into_py(py, async move {
        let (sender, receiver) = oneshot::channel();
        std::thread::spawn(move || sender.send(42));
        receiver.await.map_err(|_| PyValueError::new_err("the thread is gone"))
    })
}

#[pyfunction]
fn spawned(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let alive = Alive::new();
    pyloop::spawn_into_py(py, async move {
        let _alive = alive;
        tokio::task::yield_now().await;
        Ok::<_, PyErr>(format!("{:?}", std::thread::current().name()))
    })
}

#[pyfunction]
fn spawned_never(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let alive = Alive::new();
    pyloop::spawn_into_py(py, async move {
        let _alive = alive;
        std::future::pending::<Result<(), PyErr>>().await
    })
}

#[pyfunction]
fn blocking(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_blocking_into_py(py, move || {
        std::thread::sleep(Duration::from_secs_f64(seconds));
        Ok::<_, PyErr>(seconds)
    })
}

/// Ends with "done", or with "told" once its token is cancelled; appends that to `log`.
#[pyfunction]
fn shielded(py: Python<'_>, seconds: f64, log: Py<pyo3::types::PyList>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::shielded_into_py(py, move |token| async move {
        let end = tokio::select! {
            () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => "done",
            () = token.cancelled() => "told",
        };
        Python::attach(|py| log.bind(py).append(end))?;
        Ok::<_, PyErr>(end)
    })
}

/// Awaits a Python awaitable in Rust.
#[pyfunction]
fn awaits<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let future = pyloop::into_future(awaitable)?;
    pyloop::future_into_py(py, future)
}

/// Awaits a Python awaitable on a thread of the runtime.
#[pyfunction]
fn awaits_spawned<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let future = pyloop::into_future(awaitable)?;
    pyloop::spawn_into_py(py, future)
}

/// Drops the future of the awaitable after `seconds`.
#[pyfunction]
fn gives_up<'py>(py: Python<'py>, awaitable: Bound<'py, PyAny>, seconds: f64) -> PyResult<Bound<'py, PyAny>> {
    let future = pyloop::into_future(awaitable)?;
    pyloop::future_into_py(py, async move {
        match tokio::time::timeout(Duration::from_secs_f64(seconds), future).await {
            Ok(result) => result.map(Some),
            Err(_) => Ok(None),
        }
    })
}

#[pyfunction]
fn spawns_local(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async {
        let shared = Rc::new(RefCell::new(0));
        let theirs = Rc::clone(&shared);
        let task = tokio::task::spawn_local(async move {
            for _ in 0..3 {
                tokio::task::yield_now().await;
                *theirs.borrow_mut() += 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        });
        let inner = tokio::spawn(async { 1 }).await.map_err(|_| PyValueError::new_err("lost"))?;
        task.await.map_err(|_| PyValueError::new_err("lost"))?;
        Ok::<_, PyErr>(*shared.borrow() + inner)
    })
}

#[pyfunction]
fn counts(py: Python<'_>, to: u64) -> PyResult<Bound<'_, PyAny>> {
    pyloop::stream_into_py(py, futures::stream::iter(0..to).map(Ok::<_, PyErr>))
}

/// A stream that may not leave its thread.
#[pyfunction]
fn local_counts(py: Python<'_>, to: u64) -> PyResult<Bound<'_, PyAny>> {
    let shared = Rc::new((RefCell::new(0), Alive::new()));
    let stream = futures::stream::unfold(shared, move |shared| async move {
        tokio::task::yield_now().await;
        let item = *shared.0.borrow();
        *shared.0.borrow_mut() += 1;
        (item < to).then_some((Ok::<_, PyErr>(item), shared))
    });
    pyloop::local_stream_into_py(py, stream)
}

#[pyfunction]
fn ticks(py: Python<'_>, to: u64) -> PyResult<Bound<'_, PyAny>> {
    let alive = Alive::new();
    let stream = futures::stream::unfold((0, alive), move |(i, alive)| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        (i < to).then_some((Ok::<_, PyErr>(i), (i + 1, alive)))
    });
    pyloop::stream_into_py(py, stream)
}

/// Adds up what a Python async generator gives, at most `most` items.
#[pyfunction]
fn sums<'py>(py: Python<'py>, generator: Bound<'py, PyAny>, most: usize) -> PyResult<Bound<'py, PyAny>> {
    let stream = pyloop::into_stream(generator)?;
    pyloop::future_into_py(py, async move {
        let mut sum = 0u64;
        let mut stream = stream.take(most);
        while let Some(item) = stream.next().await {
            let item = item?;
            sum += Python::attach(|py| item.extract::<u64>(py))?;
        }
        Ok::<_, PyErr>(sum)
    })
}

/// PyO3's own.
#[pyfunction]
async fn pyo3_ready() -> u32 {
    7
}

#[pyfunction]
async fn pyo3_yield_once() {
    tokio::task::yield_now().await;
}

#[pyfunction]
fn block_on(py: Python<'_>) -> PyResult<u32> {
    pyloop::block_on(py, async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        5
    })
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(
        live,
        ready,
        ready_none,
        yield_once,
        send_yield_once,
        never,
        fails,
        io_error,
        fails_with,
        fails_without_number,
        panics,
        local,
        sleep,
        holds,
        from_thread,
        spawned,
        spawned_never,
        blocking,
        shielded,
        awaits,
        awaits_spawned,
        gives_up,
        spawns_local,
        counts,
        local_counts,
        ticks,
        sums,
        pyo3_ready,
        pyo3_yield_once,
        block_on,
    );
    Ok(())
}
