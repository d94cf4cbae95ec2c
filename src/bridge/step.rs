//! One step of a coroutine: send or throw, and what comes out says who will wake it.

use pyo3::prelude::*;

use super::awaitable::RustFuture;
use crate::future::Future;
use crate::py::call;
use crate::py::iter::{Sent, send_none, stop_value};

/// What a step of a coroutine came to.
#[derive(Debug)]
pub enum Stepped<'py> {
    /// It ended with this value.
    Returned(Bound<'py, PyAny>),
    /// It gave way (`sleep(0)`): its next step goes to the back of the queue.
    Gave,
    /// It waits for a Rust future, which has the waker of this step already.
    Polled(Bound<'py, RustFuture>),
    /// It waits for one of our futures.
    Waits(Bound<'py, Future>),
    /// It yielded something else: an asyncio future, or a mistake.
    Other(Bound<'py, PyAny>),
}

/// Send None, or throw; `first`: nobody has stepped the coroutine for this task before.
///
/// # Errors
/// What the coroutine raises.
#[inline]
pub fn step<'py>(coroutine: &Bound<'py, PyAny>, thrown: Option<PyErr>, first: bool) -> PyResult<Stepped<'py>> {
    let py = coroutine.py();
    let yielded = match thrown {
        None => {
            // A Rust future that is the task's whole coroutine is polled without the iterator protocol.
            if let Ok(future) = coroutine.cast_exact::<RustFuture>() {
                return RustFuture::step(future, first);
            }
            match send_none(coroutine)? {
                Sent::Returned(value) => return Ok(Stepped::Returned(value)),
                Sent::Yielded(yielded) => yielded,
            }
        }
        Some(thrown) => {
            let thrown = thrown.into_value(py);
            match coroutine.call_method1(pyo3::intern!(py, "throw"), (thrown,)) {
                Ok(yielded) => yielded,
                Err(raised) => return stop_value(py, raised).map(Stepped::Returned),
            }
        }
    };
    Ok(classify(yielded))
}

#[inline]
fn classify(yielded: Bound<'_, PyAny>) -> Stepped<'_> {
    if yielded.is_none() {
        return Stepped::Gave;
    }
    let py = yielded.py();
    if call::has_type(&yielded, &py.get_type::<RustFuture>()) {
        // SAFETY: the type was compared.
        return Stepped::Polled(unsafe { yielded.cast_into_unchecked() });
    }
    match yielded.cast_into::<Future>() {
        Ok(future) if future.get().is_exact(py) => Stepped::Waits(future),
        // A subclass is asked by its own methods.
        Ok(derived) => Stepped::Other(derived.into_any()),
        Err(other) => Stepped::Other(other.into_inner()),
    }
}
