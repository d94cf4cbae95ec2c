//! `TaskLocals`: the event loop and the context that a Rust task works for, where the thread cannot say: in what was
//! spawned away from the loop's thread.

use std::future::Future;
use std::sync::Arc;

use pyo3::prelude::*;

use crate::py::{api, names};

tokio::task_local! {
    static LOCALS: TaskLocals;
}

/// An event loop and a `contextvars.Context` (or None), for Python code that a Rust task calls.
#[derive(Clone, Debug)]
pub struct TaskLocals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    event_loop: Py<PyAny>,
    context: Py<PyAny>,
}

impl TaskLocals {
    /// This loop, and no context.
    pub fn new(event_loop: Bound<'_, PyAny>) -> Self {
        let context = event_loop.py().None();
        Self(Arc::new(Inner { event_loop: event_loop.unbind(), context }))
    }

    /// The loop that runs in this thread, and no context.
    ///
    /// # Errors
    /// RuntimeError when there is none.
    pub fn with_running_loop(py: Python<'_>) -> PyResult<Self> {
        names::require_running_loop(py).map(Self::new)
    }

    /// The same loop with another context.
    #[must_use]
    pub fn with_context(self, context: Bound<'_, PyAny>) -> Self {
        let event_loop = self.0.event_loop.clone_ref(context.py());
        Self(Arc::new(Inner { event_loop, context: context.unbind() }))
    }

    /// The same loop with a copy of the current context.
    ///
    /// # Errors
    /// MemoryError.
    pub fn copy_context(self, py: Python<'_>) -> PyResult<Self> {
        Ok(self.with_context(api::copy_current(py)?))
    }

    /// The event loop.
    pub fn event_loop<'p>(&self, py: Python<'p>) -> Bound<'p, PyAny> {
        self.0.event_loop.bind(py).clone()
    }

    /// The context, or None.
    pub fn context<'p>(&self, py: Python<'p>) -> Bound<'p, PyAny> {
        self.0.context.bind(py).clone()
    }

    /// Another handle to the same locals.
    #[must_use]
    pub fn clone_ref(&self, _py: Python<'_>) -> Self {
        self.clone()
    }
}

/// Run `fut` with these locals as the current ones.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// #[pyfunction]
/// fn ticks(py: Python<'_>, tick: Py<PyAny>) -> PyResult<()> {
///     let locals = pyloop::get_current_locals(py)?;
///     let ticking = async move {
///         // On a thread of the runtime: the locals say on which loop the coroutine is to run.
///         Python::attach(|py| pyloop::into_future(tick.bind(py).call0()?))?.await
///     };
///     pyloop::tokio::get_runtime().spawn(pyloop::scope(locals, ticking));
///     Ok(())
/// }
/// ```
pub async fn scope<F>(locals: TaskLocals, fut: F) -> F::Output
where
    F: Future + Send + 'static,
{
    LOCALS.scope(locals, fut).await
}

/// As `scope`, for a future that is not `Send`.
pub async fn scope_local<F>(locals: TaskLocals, fut: F) -> F::Output
where
    F: Future + 'static,
{
    LOCALS.scope(locals, fut).await
}

/// The locals that were set with `scope`.
pub fn scoped() -> Option<TaskLocals> {
    LOCALS.try_with(Clone::clone).ok()
}

/// The locals of the running Rust task; else the loop that runs in this thread, with a copy of the current context.
///
/// # Errors
/// RuntimeError when there is neither.
pub fn get_current_locals(py: Python<'_>) -> PyResult<TaskLocals> {
    match scoped() {
        Some(locals) => Ok(locals),
        None => TaskLocals::with_running_loop(py)?.copy_context(py),
    }
}

/// The loop of the running Rust task; else the one that runs in this thread.
///
/// # Errors
/// RuntimeError when there is neither.
pub fn get_current_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    match scoped() {
        Some(locals) => Ok(locals.event_loop(py)),
        None => names::require_running_loop(py),
    }
}

/// The loop that runs in this thread.
///
/// # Errors
/// RuntimeError when there is none.
pub fn get_running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    names::require_running_loop(py)
}
