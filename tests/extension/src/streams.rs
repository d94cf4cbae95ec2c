//! Rust streams in Python.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use futures::StreamExt;
use futures::stream;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::{BroadcastStream, UnboundedReceiverStream};

static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Alive;

impl Drop for Alive {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

#[pyfunction]
fn live_streams() -> usize {
    LIVE.load(Ordering::SeqCst)
}

type Item = Result<Py<PyAny>, String>;

/// A stream in the hand of a test.
#[pyclass(frozen)]
struct Channel {
    sender: Mutex<Option<mpsc::UnboundedSender<Item>>>,
    receiver: Mutex<Option<mpsc::UnboundedReceiver<Item>>>,
}

impl Channel {
    fn give(&self, item: Item) -> PyResult<()> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sender = sender.ok_or_else(|| PyValueError::new_err("closed"))?;
        sender.send(item).map_err(|_| PyValueError::new_err("nobody listens"))
    }
}

#[pymethods]
impl Channel {
    #[new]
    fn new() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { sender: Mutex::new(Some(sender)), receiver: Mutex::new(Some(receiver)) }
    }

    /// The stream, once.
    fn stream<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let receiver = receiver.ok_or_else(|| PyValueError::new_err("taken"))?;
        LIVE.fetch_add(1, Ordering::SeqCst);
        let alive = Alive;
        let items = UnboundedReceiverStream::new(receiver).map(move |item| {
            let _alive = &alive;
            item.map_err(PyValueError::new_err)
        });
        pyloop::stream_into_py(py, items)
    }

    fn send(&self, item: Py<PyAny>) -> PyResult<()> {
        self.give(Ok(item))
    }

    fn fail(&self, message: String) -> PyResult<()> {
        self.give(Err(message))
    }

    fn close(&self) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(sender);
    }
}

/// Panics at its third item.
#[pyfunction]
fn panicking_stream(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let items = stream::iter(0..10).map(|number| {
        assert!(number < 2, "no third item");
        Ok::<_, PyErr>(number)
    });
    pyloop::stream_into_py(py, items)
}

/// Each item takes a call of `callable(number)`.
#[pyfunction]
fn calling_stream(py: Python<'_>, callable: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let items = stream::iter(0..).map(move |number: usize| Python::attach(|py| callable.call1(py, (number,))));
    pyloop::stream_into_py(py, items)
}

/// A broadcast channel that a thread fills with the numbers up to `to`, and two streams of it.
#[pyfunction]
fn broadcast_from_thread(py: Python<'_>, to: usize) -> PyResult<(Bound<'_, PyAny>, Bound<'_, PyAny>)> {
    let (sender, receiver) = broadcast::channel(to.next_power_of_two());
    let other = sender.subscribe();
    std::thread::spawn(move || {
        for number in 0..to {
            // Refused when nobody listens any more.
            if sender.send(number).is_err() {
                break;
            }
        }
    });
    let stream = |receiver| {
        BroadcastStream::new(receiver).map(|item| item.map_err(|lagged| PyValueError::new_err(lagged.to_string())))
    };
    Ok((pyloop::stream_into_py(py, stream(receiver))?, pyloop::stream_into_py(py, stream(other))?))
}

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! functions {
        ($($name:ident),* $(,)?) => { $(module.add_function(wrap_pyfunction!($name, module)?)?;)* };
    }
    functions!(live_streams, panicking_stream, calling_stream, broadcast_from_thread);
    module.add_class::<Channel>()
}
