//! One step of a coroutine: send or throw, and what comes out says who will wake it.

use std::task::Poll;

use pyo3::prelude::*;

use super::awaitable::RustFuture;
use super::capsule;
use super::cx::Step;
use crate::accel::stop_iteration::stop_value;
use crate::future::Future;
use crate::py::call::Object;
use crate::py::error::Slim;
use crate::py::iter::{Sent, send_none};

/// What a step of a coroutine came to.
#[derive(Debug)]
pub enum Stepped<'py> {
    /// It ended with this value.
    Returned(Bound<'py, PyAny>),
    /// It gave way (`sleep(0)`): its next step goes to the back of the queue.
    Gave,
    /// So did a Rust future that it waits for.
    GaveWay(Bound<'py, PyAny>),
    /// It waits for a Rust future (ours, or one of another extension module's), which has the waker of this step.
    Polled(Bound<'py, PyAny>),
    /// The same of one that perhaps has not: it was polled in another step, which a greenlet was left in the middle of.
    PolledElsewhere(Bound<'py, PyAny>),
    /// It waits for one of our futures.
    Waits(Bound<'py, Future>),
    /// It yielded something else: an asyncio future, or a bad yield.
    Other(Bound<'py, PyAny>),
}

/// Send None, or throw, in the step `running`; `first`: nobody has stepped the coroutine for this task before.
///
/// # Errors
/// What the coroutine raises.
#[inline(always)]
pub fn step<'py>(
    coroutine: &Bound<'py, PyAny>,
    thrown: Option<Box<PyErr>>,
    first: bool,
    running: &Step,
) -> Slim<Stepped<'py>> {
    let py = coroutine.py();
    let yielded = match thrown {
        None => {
            // A Rust future that is the task's whole coroutine is polled without the iterator protocol.
            if let Some(future) = rust_future(coroutine) {
                return step_rust(future, first, running);
            }
            match send_none(coroutine)? {
                Sent::Returned(value) => return Ok(Stepped::Returned(value)),
                Sent::Yielded(yielded) => yielded,
            }
        }
        Some(thrown) => {
            let thrown = thrown.into_value(py);
            match coroutine.try_call_method(pyo3::intern!(py, "throw"), (thrown,)) {
                Ok(yielded) => yielded,
                Err(raised) => return Ok(stop_value(py, raised).map(Stepped::Returned)?),
            }
        }
    };
    Ok(classify(yielded, running))
}

/// A Rust future that is the task's whole coroutine.
#[inline]
fn step_rust<'py>(future: &Bound<'py, RustFuture>, first: bool, running: &Step) -> Slim<Stepped<'py>> {
    let py = future.py();
    if first {
        future.get().begin_await(py)?;
    }
    match RustFuture::advance(future)? {
        Poll::Ready(value) => Ok(Stepped::Returned(value.into_bound(py))),
        Poll::Pending => Ok(polled(future.clone(), running)),
    }
}

/// A Rust future that was polled is given to the task.
#[inline(always)]
fn polled<'py>(future: Bound<'py, RustFuture>, running: &Step) -> Stepped<'py> {
    let ended = running.ended();
    let will_wake = future.get().take_up(future.py(), ended.number);
    let future = future.into_any();
    match (ended.woken, will_wake) {
        (true, _) => Stepped::GaveWay(future),
        (false, true) => Stepped::Polled(future),
        (false, false) => Stepped::PolledElsewhere(future),
    }
}

/// The same, of another extension module.
#[inline(never)]
fn polled_by_client<'py>(future: Bound<'py, PyAny>, running: &Step) -> Stepped<'py> {
    let ended = running.ended();
    match (ended.woken, ended.asked) {
        (true, _) => Stepped::GaveWay(future),
        (false, true) => Stepped::Polled(future),
        // The client may have kept the task's waker in an earlier step.
        (false, false) => Stepped::PolledElsewhere(future),
    }
}

#[inline(always)]
fn classify<'py>(yielded: Bound<'py, PyAny>, running: &Step) -> Stepped<'py> {
    if yielded.is_none() {
        return Stepped::Gave;
    }
    let py = yielded.py();
    // What is most often yielded is asked for first: a subclass is looked for along the bases.
    let is_future = yielded.is_exact_instance_of::<Future>();
    if !is_future {
        // Asked first: a cast that fails makes an error.
        if yielded.is_exact_instance_of::<RustFuture>() {
            return match yielded.cast_into_exact::<RustFuture>() {
                Ok(future) => polled(future, running),
                Err(other) => Stepped::Other(other.into_inner()),
            };
        }
        if capsule::registered(&yielded).is_some() {
            return polled_by_client(yielded, running);
        }
    }
    if is_future || yielded.is_instance_of::<Future>() {
        return match yielded.cast_into::<Future>() {
            Ok(future) if future.get().is_exact(py) => Stepped::Waits(future),
            // A subclass is asked by its own methods.
            Ok(derived) => Stepped::Other(derived.into_any()),
            Err(other) => Stepped::Other(other.into_inner()),
        };
    }
    Stepped::Other(yielded)
}

/// The Rust future that this is, if it is one of this copy's.
#[inline(always)]
pub fn rust_future<'a, 'py>(object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, RustFuture>> {
    // Asked first: a cast that fails makes an error.
    if object.is_exact_instance_of::<RustFuture>() { object.cast_exact::<RustFuture>().ok() } else { None }
}

/// Whether this is a Rust future, ours or another extension module's, that is a coroutine, too.
#[inline]
pub fn is_rust_coroutine(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<RustFuture>() || capsule::registered(object).is_some_and(|known| known.is_coroutine)
}

/// The task that waits for this Rust future is cancelled: the future is dropped.
///
/// # Errors
/// The PanicException of its destructor.
pub fn cancel(awaited: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Ok(future) = awaited.cast_exact::<RustFuture>() {
        return future.get().finish(awaited.py());
    }
    if let Some(cancel) = capsule::registered(awaited).and_then(|known| known.cancel) {
        // SAFETY: the client registered `cancel` for instances of exactly this class, which `registered` has found; the
        // Bound holds the object for the call, and the GIL.
        unsafe { cancel(awaited.as_ptr().cast()) };
    }
    Ok(())
}
