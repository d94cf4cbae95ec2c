//! Rust futures as Python awaitables: polled in place, or run elsewhere and waited for in place.
//!
//! All of them are lazy, like coroutines: nothing runs before the first await. Cancelling the awaiting task drops the
//! future at the `.await` it stands at, before `cancel()` returns or at the latest before the loop goes on; so does
//! dropping the last reference to the awaitable.

use std::any::type_name;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::{pin_project, pinned_drop};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::awaitable::RustFuture;
use super::body::{Output, SlimOutput};
use super::holding::Traverse;
use super::locals::{self, TaskLocals};
use crate::py::{error, names};
use crate::rt::background;

/// A Python awaitable that polls `fut` in place: in the step of the task that awaits it, on that task's thread, with
/// its context variables current and (while a loop runs) inside a tokio runtime.
///
/// `fut` need not be `Send` and may hold `Py<T>`. It belongs to the thread that made it: the awaitable must be awaited
/// there, and is dropped there. For one that is made on one thread and awaited on another (`run_coroutine_threadsafe`)
/// use [`send_future_into_py`]. Work that takes long between two awaits blocks the loop as Python code would: see
/// [`spawn_into_py`] and [`spawn_blocking_into_py`].
///
/// The result converts with `IntoPyObject`, the error with `Into<PyErr>` (an `io::Error` with
/// [`io_error`](crate::io_error)); a panic raises `PanicException`.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// #[pyfunction]
/// fn read(py: Python<'_>, host: String, port: u16) -> PyResult<Bound<'_, PyAny>> {
///     pyloop::future_into_py(py, async move {
///         let stream = tokio::net::TcpStream::connect((host.as_str(), port)).await?;
///         stream.readable().await?;
///         std::io::Result::Ok("there is something to read") // an io::Error is raised as an OSError
///     })
/// }
/// ```
///
/// # Errors
/// MemoryError; RuntimeError in a subinterpreter, by this call or by the `await`.
pub fn future_into_py<F, T, E>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: for<'py> IntoPyObject<'py>,
    E: Into<PyErr> + 'static,
{
    named_into_py(py, type_name::<F>(), fut)
}

/// [`future_into_py`] with a name for reports, task dumps and `__qualname__`; without one it is made from the function
/// that `fut` comes from.
///
/// # Errors
/// As `future_into_py`.
pub fn named_into_py<'py, F, T, E>(py: Python<'py>, name: &'static str, fut: F) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = Result<T, E>> + 'static,
    T: for<'a> IntoPyObject<'a>,
    E: Into<PyErr> + 'static,
{
    RustFuture::local_object(py, name, Converted { future: fut })
}

/// [`future_into_py`] for a future that is `Send`: it may be awaited by any thread.
///
/// # Errors
/// As `future_into_py`.
pub fn send_future_into_py<F, T, E>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: for<'py> IntoPyObject<'py>,
    E: Into<PyErr> + 'static,
{
    RustFuture::object(py, type_name::<F>(), Converted { future: fut })
}

/// [`send_future_into_py`] for a future that has Python objects with it: the cycle collector sees `held` while `fut`
/// waits, then `finish` gets it with what `fut` gives.
///
/// What an `async` block or a closure has captured nobody can see. A Python object in there that refers to what awaits
/// the future (an object that keeps the awaitable in an attribute, say) is never collected, nor is that. So neither
/// `fut` nor `finish` should hold one.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// /// `value`, later.
/// #[pyfunction]
/// fn later(py: Python<'_>, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
///     let sleeping = async { tokio::time::sleep(std::time::Duration::from_secs(1)).await };
///     pyloop::holding_into_py(py, value, sleeping, |(), value| Ok::<_, PyErr>(value))
/// }
/// ```
///
/// # Errors
/// As `future_into_py`.
pub fn holding_into_py<H, F, T, E>(
    py: Python<'_>,
    held: H,
    fut: F,
    finish: impl FnOnce(F::Output, H) -> Result<T, E> + Send + 'static,
) -> PyResult<Bound<'_, PyAny>>
where
    H: Traverse + Send + 'static,
    F: Future + Send + 'static,
    T: for<'py> IntoPyObject<'py>,
    E: Into<PyErr> + 'static,
{
    let finish = |value, held| match finish(value, held) {
        Ok(value) => Python::attach(|py| into_object(py, value)),
        Err(failed) => Err(error::into_error(failed)),
    };
    RustFuture::holding(type_name::<F>(), held, fut, finish).into_object(py).map(Bound::into_any)
}

/// [`send_future_into_py`] with these locals for what the future calls (`into_future`, `get_current_locals`).
///
/// # Errors
/// As `future_into_py`.
pub fn future_into_py_with_locals<F, T>(py: Python<'_>, locals: TaskLocals, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    let name = type_name::<F>();
    RustFuture::object(py, name, Converted { future: locals::scope(locals, fut) })
}

/// [`future_into_py`] with these locals for what the future calls.
///
/// # Errors
/// As `future_into_py`.
pub fn local_future_into_py_with_locals<F, T>(py: Python<'_>, locals: TaskLocals, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = PyResult<T>> + 'static,
    T: for<'py> IntoPyObject<'py>,
{
    named_into_py(py, type_name::<F>(), locals::scope_local(locals, fut))
}

/// A Python awaitable that runs `fut` on the background runtime, beside the loop: for work that takes long between two
/// awaits. The loop is woken once, without the GIL, when it is done; cancelling aborts it at its next await.
///
/// Python code that `fut` calls finds the loop and the context of the awaiting task in [`TaskLocals`].
///
/// # Errors
/// As `future_into_py`; OSError, when awaited, if the runtime cannot be started.
pub fn spawn_into_py<F, T, E>(py: Python<'_>, fut: F) -> PyResult<Bound<'_, PyAny>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
    E: Into<PyErr> + Send + 'static,
{
    spawn_named(py, type_name::<F>(), fut)
}

/// [`spawn_into_py`] with a name.
pub(super) fn spawn_named<'py, F, T, E>(py: Python<'py>, name: &'static str, fut: F) -> PyResult<Bound<'py, PyAny>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
    E: Into<PyErr> + Send + 'static,
{
    let spawned = async move {
        let locals = Python::attach(locals::get_current_locals)?;
        let handle = background::handle()?;
        joined(AbortOnDrop(handle.spawn(locals::scope(locals, fut))).await)?.map_err(error::into_error)
    };
    RustFuture::object(py, name, Converted { future: spawned })
}

/// A Python awaitable that runs `f` on a thread where it may block. Cancelling gives the result up; a function that
/// has begun runs to its end.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// #[pyfunction]
/// fn size(py: Python<'_>, path: String) -> PyResult<Bound<'_, PyAny>> {
///     pyloop::spawn_blocking_into_py(py, move || std::fs::metadata(path).map(|found| found.len()))
/// }
/// ```
///
/// # Errors
/// As `spawn_into_py`.
pub fn spawn_blocking_into_py<F, T, E>(py: Python<'_>, f: F) -> PyResult<Bound<'_, PyAny>>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
    E: Into<PyErr> + Send + 'static,
{
    blocking_named(py, type_name::<F>(), f)
}

/// [`spawn_blocking_into_py`] with a name.
pub(super) fn blocking_named<'py, F, T, E>(py: Python<'py>, name: &'static str, f: F) -> PyResult<Bound<'py, PyAny>>
where
    F: FnOnce() -> Result<T, E> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
    E: Into<PyErr> + Send + 'static,
{
    let spawned = async move {
        let handle = background::handle()?;
        joined(AbortOnDrop(handle.spawn_blocking(f)).await)?.map_err(error::into_error)
    };
    RustFuture::object(py, name, Converted { future: spawned })
}

/// A Python awaitable for work that must not be cut off at an await (a commit that is on the wire): it runs on the
/// background runtime to its end, whatever becomes of the awaiting task. When that is cancelled, the token that
/// `make` was given is cancelled, for the work to end early in its own way.
///
/// ```no_run
/// # use std::time::Duration;
/// # use pyo3::prelude::*;
/// #[pyfunction]
/// fn commit(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
///     pyloop::shielded_into_py(py, |token| async move {
///         tokio::time::sleep(Duration::from_millis(10)).await; // goes on when the Python task is cancelled
///         Ok::<_, PyErr>(!token.is_cancelled())
///     })
/// }
/// ```
///
/// # Errors
/// As `spawn_into_py`.
pub fn shielded_into_py<M, F, T, E>(py: Python<'_>, make: M) -> PyResult<Bound<'_, PyAny>>
where
    M: FnOnce(CancellationToken) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: for<'py> IntoPyObject<'py> + Send + 'static,
    E: Into<PyErr> + Send + 'static,
{
    shielded_named(py, type_name::<F>(), make)
}

/// [`shielded_into_py`] with a name.
pub(super) fn shielded_named<'py, M, F, T, E>(
    py: Python<'py>,
    name: &'static str,
    make: M,
) -> PyResult<Bound<'py, PyAny>>
where
    M: FnOnce(CancellationToken) -> F + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
    E: Into<PyErr> + Send + 'static,
{
    let spawned = async move {
        let locals = Python::attach(locals::get_current_locals)?;
        let token = CancellationToken::new();
        let fut = make(token.clone());
        let cancelled = token.drop_guard();
        let ended = background::handle()?.spawn(locals::scope(locals, fut)).await;
        drop(cancelled.disarm());
        joined(ended)?.map_err(error::into_error)
    };
    RustFuture::object(py, name, Converted { future: spawned })
}

/// A spawned task's result; its panic goes on here.
fn joined<R>(ended: Result<R, JoinError>) -> PyResult<R> {
    match ended {
        Ok(result) => Ok(result),
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        // The runtime has been shut down.
        Err(_) => Python::attach(|py| Err(PyErr::from_type(names::cancelled_error(py)?.clone(), ()))),
    }
}

/// A future whose result Python can take.
#[pin_project]
pub(super) struct Converted<F> {
    #[pin]
    pub future: F,
}

impl<F, T, E> Future for Converted<F>
where
    F: Future<Output = Result<T, E>>,
    T: for<'py> IntoPyObject<'py>,
    E: Into<PyErr> + 'static,
{
    type Output = SlimOutput;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SlimOutput> {
        Poll::Ready(match ready!(self.project().future.poll(cx)) {
            // SAFETY: a `Converted` is polled by `RustFuture::poll`, which has a token.
            Ok(value) => into_object(unsafe { Python::assume_attached() }, value).map_err(Box::new),
            Err(failed) => Err(Box::new(error::into_error(failed))),
        })
    }
}

/// As the result of a Python function: nothing is None.
#[inline]
pub(super) fn into_object<T: for<'py> IntoPyObject<'py>>(py: Python<'_>, value: T) -> Output {
    // PyO3 makes an empty tuple of the unit type, and None of a function that returns it.
    if size_of::<T>() == 0 && type_name::<T>() == "()" { Ok(py.None()) } else { value.into_py_any(py) }
}

/// Nobody waits for the task any more: it ends.
#[pin_project(PinnedDrop)]
struct AbortOnDrop<T>(#[pin] JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().0.poll(cx)
    }
}

#[pinned_drop]
impl<T> PinnedDrop for AbortOnDrop<T> {
    fn drop(self: Pin<&mut Self>) {
        self.0.abort();
    }
}
