//! The Rust future inside of a `RustFuture`.

use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::holding::Traverse;
use super::owner::{self, OwnerThread};
use crate::py::error::Slim;
use crate::rt::process::{Here, here};

/// What a future ends with.
pub type Output = PyResult<Py<PyAny>>;

/// The same, as it is handed up from the poll: two words.
pub(super) type SlimOutput = Slim<Py<PyAny>>;

/// An `Output` as `SlimOutput`.
#[pin_project]
pub(super) struct Slimmed<F>(#[pin] pub F);

impl<F: Future<Output = Output>> Future for Slimmed<F> {
    type Output = SlimOutput;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SlimOutput> {
        self.project().0.poll(cx).map_err(Box::new)
    }
}

impl<F: Traverse> Traverse for Slimmed<F> {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit)
    }
}

/// A future that the cycle collector sees into.
pub(super) trait Seen: Future<Output = SlimOutput> + Traverse + Send {}

impl<F: Future<Output = Output> + Traverse + Send> Seen for Slimmed<F> {}

/// The future inside: one that may move between threads (and that the cycle collector perhaps sees into), or one that
/// must stay on its own.
pub(super) enum Body {
    Send(Pin<Box<dyn Future<Output = SlimOutput> + Send>>),
    Seen(Pin<Box<dyn Seen>>),
    Local(ManuallyDrop<Pin<Box<dyn Future<Output = SlimOutput>>>>, OwnerThread),
}

// SAFETY: the `Local` future is polled and dropped on its own thread only: `poll` and `drop` compare the thread, and
// what would have to be dropped elsewhere goes back (`owner::send`).
unsafe impl Send for Body {}

impl Body {
    #[inline]
    fn poll(&mut self, here: &Here, cx: &mut Context<'_>) -> Slim<Poll<SlimOutput>> {
        match self {
            Self::Send(future) => Ok(future.as_mut().poll(cx)),
            Self::Seen(future) => Ok(future.as_mut().poll(cx)),
            Self::Local(future, owner) if owner.is_at(here) => Ok(future.as_mut().poll(cx)),
            Self::Local(..) => Err(Box::new(PyRuntimeError::new_err(
                "a Rust future that is not Send was awaited on another thread than the one that made it",
            ))),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Self::Local(future, owner) = self {
            // SAFETY: taken once, in the destructor.
            let future = unsafe { ManuallyDrop::take(future) };
            if here(|here| owner.is_at(here)) {
                drop(future);
            } else {
                owner::send(*owner, future);
            }
        }
    }
}

/// Poll, and drop the future at once when it is done: its destructor belongs to the same runtime.
#[inline]
pub(super) fn poll_body(here: &Here, body: &mut Option<Body>, cx: &mut Context<'_>) -> Slim<Poll<SlimOutput>> {
    let Some(future) = body else { unreachable!("a future that may be polled is there") };
    let polled = future.poll(here, cx);
    if !matches!(polled, Ok(Poll::Pending)) {
        *body = None;
    }
    polled
}
