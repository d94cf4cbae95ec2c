//! What befalls futures: wakers kept too long, destructors with ideas of their own, polls that run Python, threads
//! that are faster than a cancellation.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::basics::Alive;

/// A future that ends when it is told to, and the wakers that it was polled with, kept for ever.
#[pyclass(frozen, module = "pyloop_extension")]
struct Kept {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    wakers: Mutex<Vec<Waker>>,
    over: AtomicBool,
}

impl Shared {
    fn wakers(&self) -> Vec<Waker> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[pymethods]
impl Kept {
    #[new]
    fn new() -> Self {
        Self { shared: Arc::default() }
    }

    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (alive, shared) = (Alive::new(), Arc::clone(&self.shared));
        pyloop::send_future_into_py(py, async move {
            let _alive = alive;
            poll_fn(|cx| {
                shared.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
                if shared.over.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            Ok::<_, PyErr>(())
        })
    }

    fn kept(&self) -> usize {
        self.shared.wakers().len()
    }

    fn finish(&self) {
        self.shared.over.store(true, Ordering::SeqCst);
    }

    /// Wake all of them `times` times from each of so many threads, and wait for these.
    fn wake(&self, py: Python<'_>, times: usize, threads: usize) {
        py.detach(|| {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for waker in self.shared.wakers() {
                            (0..times).for_each(|_| waker.wake_by_ref());
                        }
                    });
                }
            });
        });
    }

    /// As `wake`, from one thread that nobody waits for, until the process ends.
    fn wake_for_ever(&self) {
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            loop {
                shared.wakers().iter().for_each(Waker::wake_by_ref);
                std::thread::sleep(Duration::from_micros(50));
            }
        });
    }
}

/// Completed by a thread after `spins` turns of an empty loop.
#[pyfunction]
fn raced(py: Python<'_>, spins: u32) -> PyResult<Bound<'_, PyAny>> {
    let alive = Alive::new();
    pyloop::send_future_into_py(py, async move {
        let _alive = alive;
        let (sender, receiver) = oneshot::channel();
        // The runtime's threads are there already: to make one takes longer than what is raced with.
        pyloop::tokio::get_runtime().spawn(async move {
            (0..spins).for_each(|_| std::hint::spin_loop());
            sender.send(spins)
        });
        receiver.await.map_err(|_| pyo3::exceptions::PyValueError::new_err("the thread is gone"))
    })
}

/// Calls `callable()` in each poll, and ends with what it gives when that is not None. Woken at once each time.
#[pyfunction]
fn polls_python(py: Python<'_>, callable: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let alive = Alive::new();
    pyloop::future_into_py(py, async move {
        let _alive = alive;
        poll_fn(|cx| {
            Python::attach(|py| match callable.call0(py) {
                Ok(value) if value.is_none(py) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                ended => Poll::Ready(ended),
            })
        })
        .await
    })
}

/// Pending for ever; calls `callable()` when it is dropped.
#[pyfunction]
fn drops_python(py: Python<'_>, callable: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    struct Dropped(Py<PyAny>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            Python::attach(|py| {
                if let Err(raised) = self.0.call0(py) {
                    raised.write_unraisable(py, None);
                }
            });
        }
    }
    let dropped = Dropped(callable);
    pyloop::future_into_py(py, async move {
        let _dropped = dropped;
        std::future::pending::<PyResult<()>>().await
    })
}

/// Panics when it is dropped.
#[pyfunction]
fn panics_in_drop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    struct Dropped;
    impl Drop for Dropped {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    pyloop::future_into_py(py, async move {
        let _dropped = Dropped;
        std::future::pending::<PyResult<()>>().await
    })
}

/// Leaves `count` local tasks behind that never end and hold `value`.
#[pyfunction]
fn leaves_local_tasks(py: Python<'_>, count: usize, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        for _ in 0..count {
            let (alive, value) = (Alive::new(), Python::attach(|py| value.clone_ref(py)));
            drop(tokio::task::spawn_local(async move {
                let (_alive, _value) = (alive, value);
                std::future::pending::<()>().await;
            }));
        }
        tokio::task::yield_now().await;
        Ok::<_, PyErr>(())
    })
}

/// A local task that a thread completes after `seconds`; it calls `callable()` then.
#[pyfunction]
fn local_task_from_thread(py: Python<'_>, seconds: f64, callable: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::future_into_py(py, async move {
        let (sender, receiver) = oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs_f64(seconds));
            sender.send(())
        });
        drop(tokio::task::spawn_local(async move {
            if receiver.await.is_ok() {
                Python::attach(|py| {
                    if let Err(raised) = callable.call0(py) {
                        raised.write_unraisable(py, None);
                    }
                });
            }
        }));
        Ok::<_, PyErr>(())
    })
}

/// Calls `callable()` on a thread where it may block.
#[pyfunction]
fn blocking_call(py: Python<'_>, callable: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    pyloop::spawn_blocking_into_py(py, move || Python::attach(|py| callable.call0(py)))
}

/// Takes the GIL again and again on the background runtime, until that ends.
#[pyfunction]
fn attaches_for_ever() {
    pyloop::tokio::get_runtime().spawn(async {
        loop {
            Python::attach(|py| py.None());
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
    });
}

/// Asks for the background runtime's handle from a thread of its own until the process ends.
#[pyfunction]
fn asks_for_the_runtime_for_ever() {
    std::thread::spawn(|| {
        loop {
            std::hint::black_box(pyloop::tokio::get_runtime());
        }
    });
}

/// Waits on the background runtime for a Python awaitable; gives its result to `callable`, or what it failed with.
#[pyfunction]
fn awaits_detached(awaitable: Bound<'_, PyAny>, callable: Py<PyAny>) -> PyResult<()> {
    let alive = Alive::new();
    let future = pyloop::into_future(awaitable)?;
    pyloop::tokio::get_runtime().spawn(async move {
        let _alive = alive;
        let ended = future.await;
        Python::attach(|py| {
            let told = match ended {
                Ok(value) => callable.call1(py, (value,)),
                Err(raised) => callable.call1(py, (raised,)),
            };
            if let Err(raised) = told {
                raised.write_unraisable(py, None);
            }
        });
    });
    Ok(())
}

/// Waits on the background runtime for the first items of an async generator, and drops the stream in the middle of
/// the next one.
#[pyfunction]
fn drops_a_stream_elsewhere<'py>(py: Python<'py>, generator: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let mut stream = pyloop::into_stream(generator)?;
    pyloop::spawn_into_py(py, async move {
        let first = stream.next().await;
        let second = tokio::time::timeout(Duration::from_millis(5), stream.next()).await;
        drop(stream);
        Ok::<_, PyErr>((first.is_some(), second.is_ok()))
    })
}

/// A stream of what is put in.
#[pyclass(frozen, module = "pyloop_extension")]
struct Channel(Mutex<Option<mpsc::UnboundedSender<u64>>>);

#[pymethods]
impl Channel {
    fn put(&self, item: u64) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sender) = sender {
            drop(sender.unbounded_send(item));
        }
    }

    fn end(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[pyfunction]
fn channel(py: Python<'_>) -> PyResult<(Channel, Bound<'_, PyAny>)> {
    let (sender, receiver) = mpsc::unbounded();
    let stream = pyloop::stream_into_py(py, receiver.map(Ok::<_, PyErr>))?;
    Ok((Channel(Mutex::new(Some(sender))), stream))
}

/// A stream whose second item is a panic.
#[pyfunction]
fn stream_panics(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let alive = Alive::new();
    let items = futures::stream::unfold((0u64, alive), |(i, alive)| async move {
        if i == 1 {
            panic!("second");
        }
        Some((Ok::<_, PyErr>(i), (i + 1, alive)))
    });
    pyloop::stream_into_py(py, items)
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(
        raced,
        polls_python,
        drops_python,
        panics_in_drop,
        leaves_local_tasks,
        local_task_from_thread,
        blocking_call,
        attaches_for_ever,
        asks_for_the_runtime_for_ever,
        awaits_detached,
        drops_a_stream_elsewhere,
        channel,
        stream_panics,
    );
    module.add_class::<Kept>()?;
    module.add_class::<Channel>()
}
