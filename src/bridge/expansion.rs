//! What `#[pyloop::awaitable]` expands to calls: the functions of `into_py` with the function's Python name, and what
//! makes a Python function's result of what the function gives.
//!
//! Some of it is chosen by the type: an inherent method is found before that of a trait, where its bounds hold.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::{False, True};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use super::awaitable::RustFuture;
use super::into_py::{self, Converted};
use crate::py::error;
use crate::py::exit::outlast;
use crate::rt::background;

pub use pyo3::{Bound, Py, PyAny, PyClass, PyResult, Python};

/// What `#[pyloop::main]` says of the background runtime; `workers`: 0 for one of each core.
pub fn init_background(current_thread: bool, workers: usize) {
    let mut builder = if current_thread { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    builder.enable_all().on_thread_start(outlast);
    background::init(builder);
}

/// `class.name`.
///
/// # Panics
/// If it is not as long as the array: when it is compiled.
pub const fn qualified<const N: usize>(class: &str, name: &str) -> [u8; N] {
    assert!(class.len() + 1 + name.len() == N);
    let mut bytes = [b'.'; N];
    let (mut i, mut j) = (0, 0);
    while i < class.len() {
        bytes[i] = class.as_bytes()[i];
        i += 1;
    }
    while j < name.len() {
        bytes[i + 1 + j] = name.as_bytes()[j];
        j += 1;
    }
    bytes
}

/// An object that a method borrows.
pub struct Borrowing<'a, T>(pub &'a Py<T>);

impl<'a, T: PyClass<Frozen = True> + Sync> Borrowing<'a, T> {
    /// That of a frozen class has nothing to borrow.
    #[inline]
    pub fn shared(self) -> PyResult<&'a T> {
        Ok(self.0.get())
    }
}

impl<'a, T: PyClass<Frozen = False>> Borrowing<'a, T> {
    /// # Errors
    /// RuntimeError: somebody else has borrowed it.
    #[inline]
    pub fn exclusive(self) -> PyResult<PyClassGuardMut<'a, T>> {
        Python::attach(|py| Ok(PyClassGuardMut::extract(self.0.as_any().bind_borrowed(py))?))
    }
}

/// What `Borrowing` has for any other class.
pub trait Guarded<'a, T: PyClass> {
    /// # Errors
    /// RuntimeError: somebody else has borrowed it mutably.
    fn shared(self) -> PyResult<PyClassGuard<'a, T>>;
}

impl<'a, T: PyClass> Guarded<'a, T> for Borrowing<'a, T> {
    #[inline]
    fn shared(self) -> PyResult<PyClassGuard<'a, T>> {
        Python::attach(|py| Ok(PyClassGuard::extract(self.0.as_any().bind_borrowed(py))?))
    }
}

/// What a function gave.
pub struct Returned<R>(pub R);

impl<T, E> Returned<Result<T, E>> {
    /// # Errors
    /// The function's.
    #[inline]
    pub fn into_result(self) -> PyResult<T>
    where
        E: Into<PyErr> + 'static,
    {
        self.0.map_err(error::into_error)
    }
}

/// What `Returned` has for what is no `Result`.
pub trait Plain<T> {
    /// # Errors
    /// None.
    fn into_result(self) -> PyResult<T>;
}

impl<T> Plain<T> for Returned<T> {
    #[inline]
    fn into_result(self) -> PyResult<T> {
        Ok(self.0)
    }
}

/// The next item of an async iterator.
///
/// # Errors
/// The function's; StopAsyncIteration at the end.
#[inline]
pub fn into_item<R: Item>(given: R) -> PyResult<R::Value> {
    given.into_item()
}

/// What `__anext__` gives.
#[diagnostic::on_unimplemented(
    message = "`__anext__` gives `{Self}`, which does not tell the end",
    note = "it gives `Option<T>` or `Result<Option<T>, E>`, and `None` at the end"
)]
pub trait Item {
    type Value;
    /// # Errors
    /// The function's; StopAsyncIteration at the end.
    fn into_item(self) -> PyResult<Self::Value>;
}

impl<T> Item for Option<T> {
    type Value = T;

    #[inline]
    fn into_item(self) -> PyResult<T> {
        self.ok_or_else(|| PyStopAsyncIteration::new_err(()))
    }
}

impl<T, E: Into<PyErr> + 'static> Item for Result<Option<T>, E> {
    type Value = T;

    #[inline]
    fn into_item(self) -> PyResult<T> {
        self.map_err(error::into_error)?.into_item()
    }
}

/// A future, and what makes a result of what it gives.
#[pin_project]
struct Finished<F, C> {
    #[pin]
    future: F,
    finish: C,
}

impl<F: Future, T, C: Fn(F::Output) -> PyResult<T>> Future for Finished<F, C> {
    type Output = PyResult<T>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PyResult<T>> {
        let this = self.project();
        Poll::Ready((this.finish)(ready!(this.future.poll(cx))))
    }
}

/// A future that is polled in place.
pub struct InPlace<F>(pub F);

impl<F: Send> InPlace<F> {
    /// One that any thread may await.
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub fn into_py<'py, T, C>(self, py: Python<'py>, name: &'static str, finish: C) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future + 'static,
        C: Fn(F::Output) -> PyResult<T> + Send + 'static,
        T: for<'a> IntoPyObject<'a>,
    {
        RustFuture::object(py, name, Converted { future: Finished { future: self.0, finish } })
    }
}

/// What `InPlace` has for a future that is not `Send`.
pub trait NotSend<F> {
    /// # Errors
    /// MemoryError.
    fn into_py<'py, T, C>(self, py: Python<'py>, name: &'static str, finish: C) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future + 'static,
        C: Fn(F::Output) -> PyResult<T> + 'static,
        T: for<'a> IntoPyObject<'a>;
}

impl<F> NotSend<F> for InPlace<F> {
    #[inline]
    fn into_py<'py, T, C>(self, py: Python<'py>, name: &'static str, finish: C) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future + 'static,
        C: Fn(F::Output) -> PyResult<T> + 'static,
        T: for<'a> IntoPyObject<'a>,
    {
        into_py::named_into_py(py, name, Finished { future: self.0, finish })
    }
}

/// `spawn_into_py`.
///
/// # Errors
/// As that.
pub fn spawn<'py, F, T, C>(py: Python<'py>, name: &'static str, future: F, finish: C) -> PyResult<Bound<'py, PyAny>>
where
    F: Future + Send + 'static,
    C: Fn(F::Output) -> PyResult<T> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    into_py::spawn_named(py, name, Finished { future, finish })
}

/// `shielded_into_py`.
///
/// # Errors
/// As that.
pub fn shield<'py, M, F, T, C>(py: Python<'py>, name: &'static str, make: M, finish: C) -> PyResult<Bound<'py, PyAny>>
where
    M: FnOnce(CancellationToken) -> F + Send + 'static,
    F: Future + Send + 'static,
    C: Fn(F::Output) -> PyResult<T> + Send + 'static,
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    into_py::shielded_named(py, name, move |token| Finished { future: make(token), finish })
}

/// `spawn_blocking_into_py`.
///
/// # Errors
/// As that.
pub fn block<'py, T>(
    py: Python<'py>,
    name: &'static str,
    function: impl FnOnce() -> PyResult<T> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>>
where
    T: for<'a> IntoPyObject<'a> + Send + 'static,
{
    into_py::blocking_named(py, name, function)
}
