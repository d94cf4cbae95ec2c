//! Futures that show a test what is around a poll, a wake and a drop.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// Polled `times` times and once more; each poll but the last calls `callable(number)`.
#[pyfunction]
fn calls(py: Python<'_>, callable: Py<PyAny>, times: usize) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        let mut results = Vec::new();
        for number in 0..times {
            results.push(Python::attach(|py| callable.call1(py, (number,)))?);
            tokio::task::yield_now().await;
        }
        Ok::<_, PyErr>(results)
    })
}

/// Receives `items` that are all there; how many polls that took.
pub async fn drained(items: usize) -> usize {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    (0..items).for_each(|item| sender.send(item).expect("the receiver is there"));
    drop(sender);
    let mut polls = 0;
    let mut receiving = std::pin::pin!(async { while receiver.recv().await.is_some() {} });
    poll_fn(|cx| {
        polls += 1;
        receiving.as_mut().poll(cx)
    })
    .await;
    polls
}

#[pyfunction]
fn drains(py: Python<'_>, items: usize) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move { Ok::<_, PyErr>(drained(items).await) })
}

/// `drains` of a task of the local set.
#[pyfunction]
fn drains_locally(py: Python<'_>, items: usize) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        tokio::task::spawn_local(drained(items)).await.map_err(|_| PyRuntimeError::new_err("lost"))
    })
}

/// `drains` by PyO3's own awaitable, which nobody gives a budget.
#[pyfunction]
async fn pyo3_drains(items: usize) -> usize {
    drained(items).await
}

/// `drains` with calls of `callable()` in every poll.
#[pyfunction]
fn drains_and_calls(py: Python<'_>, items: usize, callable: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        let mut draining = Box::pin(drained(items));
        poll_fn(|cx| {
            if let Err(raised) = Python::attach(|py| callable.call0(py)) {
                return Poll::Ready(Err(raised));
            }
            draining.as_mut().poll(cx).map(Ok)
        })
        .await
    })
}

/// Called when it is dropped.
struct OnDrop(Py<PyAny>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        Python::attach(|py| {
            if let Err(raised) = self.0.call0(py) {
                raised.write_unraisable(py, None);
            }
        });
    }
}

/// Never ready; its destructor calls `callable()`.
#[pyfunction]
fn calls_when_dropped(py: Python<'_>, callable: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let guard = OnDrop(callable);
    pyloop::future_into_py(py, async move {
        let _guard = guard;
        std::future::pending::<PyResult<()>>().await
    })
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

/// Never ready; its destructor panics.
#[pyfunction]
fn panics_when_dropped(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let guard = PanicsWhenDropped;
    pyloop::send_future_into_py(py, async move {
        let _guard = guard;
        std::future::pending::<PyResult<()>>().await
    })
}

/// Panics with what is no string.
#[pyfunction]
fn panics_with_a_number(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::send_future_into_py(py, async move {
        std::panic::panic_any(5);
        #[allow(unreachable_code, reason = "the future's type")]
        Ok::<_, PyErr>(())
    })
}

#[pyfunction]
fn spawned_panics(py: Python<'_>, message: String) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_into_py(py, async move {
        tokio::task::yield_now().await;
        if !message.is_empty() {
            panic!("{message}");
        }
        Ok::<_, PyErr>(())
    })
}

#[pyfunction]
fn blocking_panics(py: Python<'_>, message: String) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_blocking_into_py(py, move || {
        if !message.is_empty() {
            panic!("{message}");
        }
        Ok::<_, PyErr>(())
    })
}

/// Raises this very object.
#[pyfunction]
fn raises(py: Python<'_>, exception: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(
        py,
        async move { Err::<(), _>(Python::attach(|py| PyErr::from_value(exception.into_bound(py)))) },
    )
}

/// `raises`, on the background runtime.
#[pyfunction]
fn spawned_raises(py: Python<'_>, exception: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_into_py(py, async move {
        tokio::task::yield_now().await;
        Err::<(), _>(Python::attach(|py| PyErr::from_value(exception.into_bound(py))))
    })
}

/// Blocks its thread in one poll, under a name of its own.
#[pyfunction]
fn slow(py: Python<'_>, seconds: f64) -> PyResult<Bound<'_, PyAny>> {
    pyloop::named_into_py(py, "extension.slow", async move {
        thread::sleep(Duration::from_secs_f64(seconds));
        Ok::<_, PyErr>(())
    })
}

/// What `Handle::current()` is: the runtime's id, as text.
#[pyfunction]
fn runtime(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async {
        let before = Handle::current().id();
        tokio::time::sleep(Duration::from_millis(1)).await;
        if Handle::current().id() != before {
            return Err(PyRuntimeError::new_err("another runtime after the await"));
        }
        Ok(before.to_string())
    })
}

/// Whether the caller is inside a runtime of this copy of tokio.
#[pyfunction]
fn is_inside_runtime() -> bool {
    Handle::try_current().is_ok()
}

/// A message to a server on this machine and back, by tokio's sockets.
#[pyfunction]
fn round_trip(py: Python<'_>, port: u16, message: Vec<u8>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(&message).await?;
        let mut answer = vec![0; message.len()];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    })
}

/// `tokio::time::interval` and `timeout`, `select!` and `join!`: how many ticks there were.
#[pyfunction]
fn times(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async {
        let mut interval = tokio::time::interval(Duration::from_millis(1));
        let mut ticks = 0;
        let counting = async {
            while ticks < 5 {
                interval.tick().await;
                ticks += 1;
            }
        };
        let late = tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>());
        let ((), late) = tokio::join!(counting, late);
        if late.is_ok() {
            return Err(PyValueError::new_err("no timeout"));
        }
        Ok(ticks)
    })
}

/// What a module with PyO3's `async fn`s calls when it is made.
#[pyfunction]
fn enter_runtime(py: Python<'_>) -> PyResult<()> {
    pyloop::enter_runtime(py)
}

/// pyo3-async-runtimes' way to block.
#[pyfunction]
fn blocks_on_the_runtime() -> u32 {
    pyloop::tokio::get_runtime().block_on(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        7
    })
}

#[pyfunction]
async fn pyo3_sleep(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

// docs: doze
/// PyO3's own `async fn`: its body has a runtime.
#[pyfunction]
pub async fn doze(seconds: f64) {
    pyloop::in_runtime(async move {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    })
    .await;
}
// docs: end

/// Tells `seen` whether its destructor is in a runtime.
struct LooksWhenDropped(Py<PyList>);

impl Drop for LooksWhenDropped {
    fn drop(&mut self) {
        Python::attach(|py| {
            self.0.bind(py).append(Handle::try_current().is_ok()).expect("a list is there");
        });
    }
}

/// By PyO3's own `async fn`: everything that wants a runtime.
#[pyfunction]
async fn works_in_runtime(seen: Py<PyList>) -> PyResult<usize> {
    let looks = LooksWhenDropped(seen);
    pyloop::in_runtime(async move {
        let _looks = looks;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let local = tokio::task::spawn_local(async { 1 });
        let spawned = tokio::spawn(async { 2 });
        let blocking = tokio::task::spawn_blocking(|| 3);
        let lost = |_| PyRuntimeError::new_err("lost");
        let sum = local.await.map_err(lost)? + spawned.await.map_err(lost)? + blocking.await.map_err(lost)?;
        let drains = drained(1000).await;
        Ok(sum + usize::from(drains > 1))
    })
    .await
}

/// Waits for ever, by PyO3's own `async fn`.
#[pyfunction]
async fn waits_in_runtime(seen: Py<PyList>) {
    let looks = LooksWhenDropped(seen);
    pyloop::in_runtime(async move {
        let _looks = looks;
        tokio::time::sleep(Duration::from_secs(3600)).await;
    })
    .await;
}

#[derive(Default)]
struct Signal {
    wakers: Mutex<Vec<Waker>>,
    polls: AtomicUsize,
    dropped: AtomicUsize,
    done: AtomicBool,
}

impl Signal {
    fn wakers(&self) -> Vec<Waker> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Dropped(Arc<Signal>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A future in the hand of a test: it keeps each waker that it is polled with.
#[pyclass(frozen)]
#[derive(Default)]
struct Probe(Arc<Signal>);

#[pymethods]
impl Probe {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Ready when `done` has been called and it has been woken.
    fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let guard = Dropped(Arc::clone(&self.0));
        pyloop::send_future_into_py(
            py,
            poll_fn(move |cx| {
                let signal = &guard.0;
                signal.polls.fetch_add(1, Ordering::SeqCst);
                if signal.done.load(Ordering::SeqCst) {
                    return Poll::Ready(Ok::<_, PyErr>("done"));
                }
                let mut wakers = signal.wakers.lock().unwrap_or_else(PoisonError::into_inner);
                wakers.push(cx.waker().clone());
                Poll::Pending
            }),
        )
    }

    /// From now on a poll finds it ready.
    fn done(&self) {
        self.0.done.store(true, Ordering::SeqCst);
    }

    /// Wake every waker, by another thread and without the GIL, so many times.
    fn wake(&self, py: Python<'_>, times: usize) -> PyResult<()> {
        let signal = Arc::clone(&self.0);
        let waking = thread::spawn(move || {
            let wakers = signal.wakers();
            for _ in 0..times {
                wakers.iter().for_each(Waker::wake_by_ref);
            }
        });
        py.detach(|| waking.join()).map_err(|_| PyRuntimeError::new_err("a wake panicked"))
    }

    /// `wake`, while this thread keeps the GIL: none of the wakes gets it before that.
    fn wake_without_gil(&self) -> PyResult<()> {
        let signal = Arc::clone(&self.0);
        let waking = thread::spawn(move || signal.wakers().iter().for_each(Waker::wake_by_ref));
        waking.join().map_err(|_| PyRuntimeError::new_err("a wake panicked"))
    }

    /// Wake every waker, by this thread.
    fn wake_here(&self) {
        self.0.wakers().into_iter().for_each(Waker::wake);
    }

    /// Drop the wakers, by another thread.
    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        let signal = Arc::clone(&self.0);
        let dropping = thread::spawn(move || {
            drop(std::mem::take(&mut *signal.wakers.lock().unwrap_or_else(PoisonError::into_inner)));
        });
        py.detach(|| dropping.join()).map_err(|_| PyRuntimeError::new_err("a drop panicked"))
    }

    #[getter]
    fn polls(&self) -> usize {
        self.0.polls.load(Ordering::SeqCst)
    }

    #[getter]
    fn dropped(&self) -> usize {
        self.0.dropped.load(Ordering::SeqCst)
    }
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(
        calls,
        drains,
        drains_locally,
        pyo3_drains,
        drains_and_calls,
        calls_when_dropped,
        panics_when_dropped,
        panics_with_a_number,
        spawned_panics,
        blocking_panics,
        raises,
        spawned_raises,
        slow,
        runtime,
        is_inside_runtime,
        round_trip,
        times,
        pyo3_sleep,
        doze,
        works_in_runtime,
        waits_in_runtime,
        enter_runtime,
        blocks_on_the_runtime,
    );
    module.add_class::<Probe>()
}
