//! The names of `pyo3_async_runtimes::tokio`, with its signatures: an extension moves over by changing its `use`.
//!
//! What differs: a future is polled in place, by the task that awaits it, and does not run before it is awaited
//! ([`spawn_into_py`](crate::spawn_into_py) is the function that runs it on a runtime's threads); [`get_runtime`]
//! gives a runtime's handle, whose `block_on` refuses to block an event loop.

use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use futures::{Stream, StreamExt};
use pyo3::prelude::*;

pub use crate::bridge::{
    TaskLocals, future_into_py_with_locals, get_current_locals, get_current_loop, into_future, into_future_with_locals,
    local_future_into_py_with_locals, scope, scope_local,
};
use crate::py::api::is_attached;
pub use crate::rt::background::{init, init_with_runtime};
use crate::rt::block_on::refuse_to_block;
pub use pyloop_macros::main;

/// [`run`](crate::run), with `PyErr` for an error.
///
/// # Errors
/// As `pyloop::run`.
pub fn run<F, T>(py: Python<'_>, fut: F) -> PyResult<T>
where
    F: Future<Output = PyResult<T>> + 'static,
    T: 'static,
{
    crate::bridge::run(py, fut)
}

/// [`run_until_complete`](crate::run_until_complete), with `PyErr` for an error.
///
/// # Errors
/// As `pyloop::run_until_complete`.
pub fn run_until_complete<F, T>(event_loop: Bound<'_, PyAny>, fut: F) -> PyResult<T>
where
    F: Future<Output = PyResult<T>> + 'static,
    T: 'static,
{
    crate::bridge::run_until_complete(event_loop, fut)
}

/// A Python awaitable that polls `fut` in place, on whichever thread awaits it.
///
/// # Errors
/// MemoryError.
pub fn future_into_py<F, T>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    crate::bridge::send_future_into_py(py, fut)
}

/// A Python awaitable that polls `fut`, which need not be `Send`, in place on this thread. No `LocalSet` is needed.
///
/// # Errors
/// MemoryError.
pub fn local_future_into_py<F, T>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    crate::bridge::future_into_py(py, fut)
}

/// [`spawn_into_py`](crate::spawn_into_py), with `PyErr` for an error: what this crate's `future_into_py` is not, a
/// future that runs on the runtime's threads.
///
/// # Errors
/// MemoryError.
pub fn spawn_into_py<F, T>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    crate::bridge::spawn_into_py(py, fut)
}

/// What [`get_runtime`] gives: a tokio `Handle`, but for `block_on`.
#[derive(Debug)]
#[repr(transparent)]
pub struct BackgroundRuntime(::tokio::runtime::Handle);

impl BackgroundRuntime {
    fn of(handle: &'static ::tokio::runtime::Handle) -> &'static Self {
        // SAFETY: a `BackgroundRuntime` is a `Handle`, and laid out as one (`transparent`); the reference is a shared
        // one of the same length.
        unsafe { &*std::ptr::from_ref(handle).cast::<Self>() }
    }

    /// As `Runtime::handle`.
    pub fn handle(&self) -> &::tokio::runtime::Handle {
        &self.0
    }

    /// Run `future` to its end and wait for it here. It is polled with the GIL held, if this thread has it, so it need
    /// not be `Send`; the GIL is released while there is nothing to poll. [`block_on`](crate::block_on) releases it
    /// throughout.
    ///
    /// # Panics
    /// Where `block_on` is an error: on a thread that runs an event loop or a tokio runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        if !is_attached() {
            return self.0.block_on(future);
        }
        Python::attach(|py| {
            let instead = || "await the future, or run it in a helper thread (pyloop.run_in_thread)".to_owned();
            match refuse_to_block(py, instead) {
                Ok(()) => wait_for(py, crate::bridge::in_runtime(future)),
                Err(refused) => panic!("{refused}"),
            }
        })
    }
}

/// Wakes a thread that waits in `wait_for`.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Poll `future` to its end, with the GIL released between two polls.
fn wait_for<F: Future>(py: Python<'_>, future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        // A wake that comes before it is not lost, one that is somebody else's costs a poll.
        py.detach(std::thread::park);
    }
}

impl Deref for BackgroundRuntime {
    type Target = ::tokio::runtime::Handle;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The background runtime, started if it is not running: `spawn`, `spawn_blocking`, `block_on`, `handle` and `enter` as
/// on a `Runtime`. What is spawned there when the interpreter has ended it is dropped at once.
///
/// # Panics
/// When its threads cannot be started.
pub fn get_runtime() -> &'static BackgroundRuntime {
    match crate::rt::background::handle_at_last() {
        Ok(handle) => BackgroundRuntime::of(handle),
        Err(failed) => panic!("unable to build the tokio runtime: {failed}"),
    }
}

/// A Rust stream over an async generator; exceptions are items.
///
/// # Errors
/// RuntimeError when there is no current event loop; AttributeError for what is no async iterator.
pub fn into_stream_v1(
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = PyResult<Py<PyAny>>> + use<> + 'static> {
    crate::bridge::into_stream(generator)
}

/// [`into_stream_v1`] with these locals.
///
/// # Errors
/// AttributeError for what is no async iterator.
pub fn into_stream_with_locals_v1(
    locals: TaskLocals,
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = PyResult<Py<PyAny>>> + use<> + 'static> {
    crate::bridge::into_stream_with_locals(locals, generator)
}

/// A Rust stream over an async generator; an exception ends it and is reported to `sys.unraisablehook`.
///
/// # Errors
/// As `into_stream_v1`.
pub fn into_stream_v2(generator: Bound<'_, PyAny>) -> PyResult<impl Stream<Item = Py<PyAny>> + use<> + 'static> {
    crate::bridge::into_stream(generator).map(items)
}

/// [`into_stream_v2`] with these locals.
///
/// # Errors
/// As `into_stream_with_locals_v1`.
pub fn into_stream_with_locals_v2(
    locals: TaskLocals,
    generator: Bound<'_, PyAny>,
) -> PyResult<impl Stream<Item = Py<PyAny>> + use<> + 'static> {
    crate::bridge::into_stream_with_locals(locals, generator).map(items)
}

fn items(stream: impl Stream<Item = PyResult<Py<PyAny>>>) -> impl Stream<Item = Py<PyAny>> {
    stream.filter_map(|item| {
        std::future::ready(match item {
            Ok(item) => Some(item),
            Err(raised) => {
                Python::attach(|py| crate::py::error::unraisable(py, raised, None));
                None
            }
        })
    })
}
