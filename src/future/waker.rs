//! A Python future awaited from Rust: `Awaited(future).await`, on the loop's thread or on any other.

use std::future::Future as RustFuture;
use std::pin::Pin;
use std::task::{Context, Poll};

use pyo3::prelude::*;

use super::callbacks::Waiter;
use super::class::Future;

/// The result of one of our futures (a task is one, too). Each poll takes the GIL for a moment; waiting does not.
pub struct Awaited(Py<Future>);

impl Awaited {
    pub fn new(future: Py<Future>) -> Self {
        Self(future)
    }
}

impl RustFuture for Awaited {
    type Output = PyResult<Py<PyAny>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Python::attach(|py| {
            let future = self.0.get();
            // A waiter a poll: a Rust task that polls us often (select!) leaves several, each woken once at most.
            let waker = cx.waker();
            let waits = future.state.with(py, |state| {
                let known = |waiter: &Waiter| matches!(waiter, Waiter::Rust(known) if known.will_wake(waker));
                !state.is_done() && state.waiters.as_slice().iter().any(known)
            });
            if waits {
                return Poll::Pending;
            }
            match future.wait(py, Waiter::Rust(waker.clone())) {
                Ok(()) => Poll::Pending,
                Err(_done) => Poll::Ready(future.take_result(py).map(Bound::unbind)),
            }
        })
    }
}
