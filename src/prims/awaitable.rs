//! `awaitable`: a tokio operation as a `RustFuture`, whose wakes never wait for the GIL.
//!
//! A loop of pyloop's is woken without it. Any other loop is woken by its `call_soon_threadsafe`: a thread that has not
//! got the GIL, a Rust thread that sends into a channel, say, leaves that to the background runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use pin_project::pin_project;
use pyo3::prelude::*;

use crate::bridge::RustFuture;
use crate::py::attach;
use crate::rt::{background, context};

/// A Rust future for Python.
pub fn awaitable(name: &'static str, future: impl Future<Output = PyResult<Py<PyAny>>> + Send + 'static) -> RustFuture {
    RustFuture::new(name, Relaying { future })
}

#[pin_project]
struct Relaying<F> {
    #[pin]
    future: F,
}

impl<F: Future> Future for Relaying<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let future = self.project().future;
        if context::is_driving() {
            return future.poll(cx);
        }
        let relay = Waker::from(Arc::new(Relay(cx.waker().clone())));
        future.poll(&mut Context::from_waker(&relay))
    }
}

/// The waker of a task on a loop of somebody else's.
struct Relay(Waker);

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        match background::running() {
            Some(runtime) if !attach::is_attached() => drop(runtime.spawn(async move { self.0.wake_by_ref() })),
            _ => self.0.wake_by_ref(),
        }
    }
}
