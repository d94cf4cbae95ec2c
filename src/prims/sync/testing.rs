//! Channels in the hands of Rust threads, for the tests.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::{BroadcastSender, Item, Receiver, Sender, Tx, WatchSender};

/// How long a thread that needs no GIL may take: a bound for the test, which keeps the GIL meanwhile.
const SOON: Duration = Duration::from_secs(5);

/// Whether a thread that runs `f` comes to its end while this one keeps the GIL.
fn ends_without_the_gil(f: impl FnOnce() + Send + 'static) -> bool {
    let (done, ended) = channel::<()>();
    let spawned = thread::spawn(move || {
        f();
        drop(done);
    });
    let ended = matches!(ended.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected));
    if ended { spawned.join().is_ok() } else { false }
}

/// A receiver that a Rust thread fills with the numbers below `count`, in a queue of `capacity`.
#[pyfunction]
fn counting(count: u64, capacity: usize) -> Receiver {
    let (tx, rx) = tokio::sync::mpsc::channel(capacity);
    thread::spawn(move || {
        for number in 0..count {
            if tx.blocking_send(Item::new(number)).is_err() {
                return;
            }
        }
    });
    Receiver::from_tokio(rx)
}

/// Has a Rust thread send the objects; whether it could while this thread kept the GIL. Objects that find no room or no
/// receiver are dropped there.
#[pyfunction]
fn sends_without_the_gil(py: Python<'_>, sender: &Bound<'_, PyAny>, objects: Vec<Py<PyAny>>) -> PyResult<bool> {
    if let Ok(sender) = sender.cast::<Sender>() {
        let tx = sender.get().to_tokio(py).ok_or_else(|| PyValueError::new_err("closed"))?;
        return Ok(ends_without_the_gil(move || {
            for object in objects {
                match &tx {
                    Tx::Bounded(tx) => drop(tx.try_send(object.into())),
                    Tx::Unbounded(tx) => drop(tx.send(object.into())),
                }
            }
        }));
    }
    if let Ok(sender) = sender.cast::<BroadcastSender>() {
        let tx = sender.get().to_tokio(py).ok_or_else(|| PyValueError::new_err("closed"))?;
        return Ok(ends_without_the_gil(move || {
            for object in objects {
                drop(tx.send(object.into()));
            }
        }));
    }
    let tx = sender.cast::<WatchSender>()?.get().to_tokio(py).ok_or_else(|| PyValueError::new_err("closed"))?;
    Ok(ends_without_the_gil(move || {
        for object in objects {
            drop(tx.send_replace(object.into()));
        }
    }))
}

/// Adds these to the module of the tests.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(counting, module)?)?;
    module.add_function(wrap_pyfunction!(sends_without_the_gil, module)?)
}
