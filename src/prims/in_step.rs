//! `awaitable`: a `RustFuture` whose result is taken in the awaiting task's own step and nowhere else.
//!
//! A task of ours polls in its step; what a poll gives is in the coroutine's hands before anything can cancel the task.
//! A task of another class polls in its step too (with no waker: `advance`), then asks to be woken by a second poll
//! (`add_done_callback`). A value that came out of the second one would be lost if that task were cancelled before its
//! next step. So the second poll only leaves its waker here:
//!
//! | poll with                       | does                                                                    |
//! |---------------------------------|-------------------------------------------------------------------------|
//! | a task's waker                  | polls the future with it                                                |
//! | no waker (`Waker::noop`)        | polls the future with a `Relay`                                         |
//! | a waker, after a pending `noop` | leaves the waker with the relay, which wakes it now if it was woken     |
//!
//! The relay never waits for the GIL: a thread that has not got it hands the wake of a foreign loop
//! (`call_soon_threadsafe`) to the runtime that serves those loops.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use pin_project::pin_project;
use pyo3::prelude::*;
use tokio::runtime::Handle;

use crate::bridge::RustFuture;
use crate::py::attach;

/// A Rust future for Python. Dropping it before its poll was ready loses nothing that the future did not lose; a
/// result is never made outside of a step.
pub fn awaitable(name: &'static str, future: impl Future<Output = PyResult<Py<PyAny>>> + Send + 'static) -> RustFuture {
    RustFuture::new(name, InStep { future, relay: None, registers: false })
}

#[pin_project]
struct InStep<F> {
    #[pin]
    future: F,
    relay: Option<Arc<Relay>>,
    /// The last poll was one without a waker and is pending.
    registers: bool,
}

impl<F: Future> Future for InStep<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // `Waker::noop` is the one without data; `will_wake` may take it for another.
        let bare = cx.waker().data().is_null();
        if let Some(relay) = this.relay.as_ref().filter(|_| *this.registers && !bare) {
            *this.registers = false;
            relay.register(cx.waker());
            return Poll::Pending;
        }
        if !bare {
            return this.future.poll(cx);
        }
        let relay = this.relay.get_or_insert_with(Arc::default);
        relay.begin();
        let waker = Waker::from(Arc::clone(relay));
        let polled = this.future.poll(&mut Context::from_waker(&waker));
        *this.registers = polled.is_pending();
        polled
    }
}

/// The waker of a future that a foreign task awaits.
struct Relay {
    target: AtomicWaker,
    woken: AtomicBool,
    /// The runtime of the polls: where a foreign loop's wakes may wait for the GIL.
    runtime: Option<Handle>,
}

impl Default for Relay {
    fn default() -> Self {
        Self { target: AtomicWaker::new(), woken: AtomicBool::new(false), runtime: Handle::try_current().ok() }
    }
}

impl Relay {
    fn begin(&self) {
        self.woken.store(false, Ordering::SeqCst);
    }

    /// On the loop's thread, with the GIL.
    fn register(&self, waker: &Waker) {
        self.target.register(waker);
        if self.woken.load(Ordering::SeqCst) {
            self.target.wake();
        }
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        let Some(waker) = self.target.take() else { return };
        match &self.runtime {
            Some(runtime) if !attach::is_attached() => drop(runtime.spawn(async move { waker.wake() })),
            _ => waker.wake(),
        }
    }
}
