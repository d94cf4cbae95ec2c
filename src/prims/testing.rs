//! `pyloop._native._testing`: Rust futures of every temper, for the tests and the benchmarks.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::bridge::RustFuture;
use crate::future::callbacks::Waiter;
use crate::rt::driver_use::DriverUse;
use crate::sched::{Deliver, LoopState};
use crate::task::Task;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Counts the futures that have not been dropped.
struct Alive;

impl Alive {
    fn new() -> Self {
        LIVE.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How many futures of this module have not been dropped yet.
#[pyfunction]
fn live() -> usize {
    LIVE.load(Ordering::SeqCst)
}

fn or_none(value: Option<Py<PyAny>>) -> Py<PyAny> {
    value.unwrap_or_else(|| Python::attach(|py| py.None()))
}

/// Pending `left` times, woken at once each time.
struct YieldN {
    left: u64,
    _alive: Alive,
}

impl Future for YieldN {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.left == 0 {
            return Poll::Ready(());
        }
        self.left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Ready at the first poll.
#[pyfunction]
#[pyo3(signature = (value = None))]
fn ready(value: Option<Py<PyAny>>) -> RustFuture {
    let alive = Alive::new();
    RustFuture::holding("ready", value, async move { drop(alive) }, |(), value| Ok(or_none(value)))
}

/// Pending once.
#[pyfunction]
#[pyo3(signature = (value = None))]
fn yield_once(value: Option<Py<PyAny>>) -> RustFuture {
    yield_n(1, value)
}

/// Pending `n` times.
#[pyfunction]
#[pyo3(signature = (n, value = None))]
fn yield_n(n: u64, value: Option<Py<PyAny>>) -> RustFuture {
    let yields = YieldN { left: n, _alive: Alive::new() };
    RustFuture::holding("yield_n", value, yields, |(), value| Ok(or_none(value)))
}

/// Gives way `n` times, as tokio's tasks do: it is woken when the driver has been looked at.
#[pyfunction]
#[pyo3(signature = (n, value = None))]
fn give_way(n: u64, value: Option<Py<PyAny>>) -> RustFuture {
    let alive = Alive::new();
    RustFuture::new("give_way", async move {
        let (_alive, _use) = (alive, DriverUse::begin());
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
        Ok(or_none(value))
    })
}

/// Pending for ever.
#[pyfunction]
fn never() -> RustFuture {
    let alive = Alive::new();
    RustFuture::new("never", async move {
        let _alive = alive;
        std::future::pending().await
    })
}

/// Raises `exception`.
#[pyfunction]
fn error(exception: Py<PyAny>) -> RustFuture {
    let alive = Alive::new();
    RustFuture::holding("error", exception, async move { drop(alive) }, |(), exception| {
        Err(Python::attach(|py| PyErr::from_value(exception.into_bound(py))))
    })
}

/// Panics with `message`.
#[pyfunction]
fn panic(message: String) -> RustFuture {
    let alive = Alive::new();
    RustFuture::new("panic", async move {
        let _alive = alive;
        std::panic::panic_any(message)
    })
}

/// Have the turn of a loop panic, as a mistake of pyloop's own would: while it carries a message out.
#[pyfunction]
fn panic_in_turn(event_loop: &Bound<'_, LoopState>, message: String) {
    struct Panics(String);
    impl Deliver for Panics {
        fn deliver(self: Arc<Self>, _py: Python<'_>, _state: &LoopState) {
            std::panic::panic_any(self.0.clone());
        }
    }
    event_loop.get().shared.send(Arc::new(Panics(message)));
}

/// Have a batch panic, as a mistake of pyloop's own would: the step in which the task ends.
#[pyfunction]
fn panic_in_batch(task: &Bound<'_, Task>, message: Bound<'_, PyString>) {
    fn panics(_py: Python<'_>, message: &Bound<'_, PyAny>) -> PyResult<()> {
        std::panic::panic_any(message.extract::<String>()?)
    }
    let waiter = Waiter::Task { task: message.into_any().unbind(), wake: panics };
    drop(task.as_super().get().wait(task.py(), waiter));
}

#[derive(Default)]
struct Signal {
    done: bool,
    waker: Option<Waker>,
}

struct FromThread {
    signal: Arc<Mutex<Signal>>,
    delay: Option<Duration>,
    _alive: Alive,
}

impl Future for FromThread {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let start = {
            let mut signal = self.signal.lock().unwrap_or_else(PoisonError::into_inner);
            if signal.done {
                return Poll::Ready(());
            }
            signal.waker = Some(cx.waker().clone());
            self.delay.is_some()
        };
        if start {
            let (signal, delay) = (Arc::clone(&self.signal), self.delay.take().unwrap_or_default());
            thread::spawn(move || {
                thread::sleep(delay);
                let waker = {
                    let mut signal = signal.lock().unwrap_or_else(PoisonError::into_inner);
                    signal.done = true;
                    signal.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            });
        }
        Poll::Pending
    }
}

/// The wakers that `kept` has kept.
static KEPT: Mutex<Vec<Waker>> = Mutex::new(Vec::new());

/// Pending for ever; the waker of its first poll outlives it, until `wake_kept`.
#[pyfunction]
fn kept() -> RustFuture {
    let alive = Alive::new();
    RustFuture::new("kept", async move {
        let _alive = alive;
        std::future::poll_fn(|cx| {
            KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
            Poll::<()>::Pending
        })
        .await;
        Ok(or_none(None))
    })
}

/// Wake what `kept` has kept, from this thread; how many there were.
#[pyfunction]
fn wake_kept() -> usize {
    let kept = std::mem::take(&mut *KEPT.lock().unwrap_or_else(PoisonError::into_inner));
    let count = kept.len();
    kept.into_iter().for_each(Waker::wake);
    count
}

/// Woken by a thread of its own after `delay` seconds; the thread never takes the GIL.
#[pyfunction]
#[pyo3(signature = (delay, value = None))]
fn woken_from_thread(delay: f64, value: Option<Py<PyAny>>) -> RustFuture {
    let delay = Some(Duration::try_from_secs_f64(delay).unwrap_or_default());
    let woken = FromThread { signal: Arc::default(), delay, _alive: Alive::new() };
    RustFuture::holding("woken_from_thread", value, woken, |(), value| Ok(or_none(value)))
}

/// A future that is not `Send`, pending once.
#[pyfunction]
#[pyo3(signature = (value = None))]
fn local(value: Option<Py<PyAny>>) -> RustFuture {
    let yields = YieldN { left: 1, _alive: Alive::new() };
    let not_send: PhantomData<*const ()> = PhantomData;
    RustFuture::new_local("local", async move {
        let _not_send = not_send;
        yields.await;
        Ok(or_none(value))
    })
}

/// Blocks the thread for `seconds` in one poll.
#[pyfunction]
fn slow(seconds: f64) -> RustFuture {
    let alive = Alive::new();
    RustFuture::new("slow", async move {
        drop(alive);
        thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        Ok(or_none(None))
    })
}

/// The module.
pub(crate) fn module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let module = PyModule::new(py, "_testing")?;
    module.add_function(wrap_pyfunction!(live, &module)?)?;
    module.add_function(wrap_pyfunction!(ready, &module)?)?;
    module.add_function(wrap_pyfunction!(yield_once, &module)?)?;
    module.add_function(wrap_pyfunction!(yield_n, &module)?)?;
    module.add_function(wrap_pyfunction!(give_way, &module)?)?;
    module.add_function(wrap_pyfunction!(never, &module)?)?;
    module.add_function(wrap_pyfunction!(error, &module)?)?;
    module.add_function(wrap_pyfunction!(panic, &module)?)?;
    module.add_function(wrap_pyfunction!(panic_in_turn, &module)?)?;
    module.add_function(wrap_pyfunction!(panic_in_batch, &module)?)?;
    module.add_function(wrap_pyfunction!(woken_from_thread, &module)?)?;
    module.add_function(wrap_pyfunction!(kept, &module)?)?;
    module.add_function(wrap_pyfunction!(wake_kept, &module)?)?;
    module.add_function(wrap_pyfunction!(local, &module)?)?;
    module.add_function(wrap_pyfunction!(slow, &module)?)?;
    super::sync::testing::add(&module)?;
    Ok(module)
}
