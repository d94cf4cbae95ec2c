//! [`PyloopRuntime`]: the loop and the background runtime, for code that is generic over the traits of
//! [`pyo3_async_runtimes::generic`].
//!
//! Those functions hand a future to `spawn` and its result back by `call_soon_threadsafe`. On the thread of a loop,
//! `spawn` means that loop's local set: the future runs beside the coroutines and sees the loop's runtime. A thread
//! without a loop has the background runtime. Who need not be generic calls [`pyloop::tokio`](crate::tokio), which
//! has no hand-over at all.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{self, ContextExt, LocalContextExt, Runtime, SpawnLocalExt};
use tokio::task::JoinHandle;

use crate::bridge::{can_spawn_local, spawn_local};

tokio::task_local! {
    static LOCALS: TaskLocals;
}

/// The parameter `R` of the functions of `pyo3_async_runtimes::generic`:
///
/// ```no_run
/// # use pyo3::prelude::*;
/// use pyloop::PyloopRuntime;
/// use pyo3_async_runtimes::generic::future_into_py;
///
/// #[pyfunction]
/// fn ready(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
///     future_into_py::<PyloopRuntime, _, _>(py, async { Ok(42) })
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PyloopRuntime;

/// A task that was spawned; dropping the handle detaches it.
#[derive(Debug)]
pub struct Spawned(JoinHandle<()>);

/// Why a spawned task has no result: it panicked, or its runtime ended before it.
#[derive(Debug)]
pub struct SpawnError(tokio::task::JoinError);

impl Future for Spawned {
    type Output = Result<(), SpawnError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(SpawnError)
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SpawnError {}

impl generic::JoinError for SpawnError {
    fn is_panic(&self) -> bool {
        self.0.is_panic()
    }

    fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        self.0.into_panic()
    }
}

impl Runtime for PyloopRuntime {
    type JoinError = SpawnError;
    type JoinHandle = Spawned;

    /// On the loop that runs in this thread, else on the background runtime.
    ///
    /// # Panics
    /// When the threads of the background runtime are needed and cannot be started.
    fn spawn<F>(fut: F) -> Spawned
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Spawned(if can_spawn_local() { spawn_local(fut) } else { crate::tokio::get_runtime().spawn(fut) })
    }

    /// On a thread of the background runtime, where it may block.
    ///
    /// # Panics
    /// As `spawn`.
    fn spawn_blocking<F>(f: F) -> Spawned
    where
        F: FnOnce() + Send + 'static,
    {
        Spawned(crate::tokio::get_runtime().spawn_blocking(f))
    }
}

impl SpawnLocalExt for PyloopRuntime {
    /// On the loop that runs in this thread, or is the next to run in it.
    ///
    /// # Panics
    /// On a thread of another tokio runtime, outside of a `LocalSet`, as `tokio::task::spawn_local`.
    fn spawn_local<F>(fut: F) -> Spawned
    where
        F: Future<Output = ()> + 'static,
    {
        Spawned(spawn_local(fut))
    }
}

impl ContextExt for PyloopRuntime {
    fn scope<F, R>(locals: TaskLocals, fut: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(LOCALS.scope(locals, fut))
    }

    fn get_task_locals() -> Option<TaskLocals> {
        LOCALS.try_with(Clone::clone).ok()
    }
}

impl LocalContextExt for PyloopRuntime {
    fn scope_local<F, R>(locals: TaskLocals, fut: F) -> Pin<Box<dyn Future<Output = R>>>
    where
        F: Future<Output = R> + 'static,
    {
        Box::pin(LOCALS.scope(locals, fut))
    }
}
