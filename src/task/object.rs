//! The native object behind `pyloop.Task`: what it is made of, and how it goes. Its methods for Python are in `class`.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::name::Name;
use super::state::{TaskState, Wait};
use crate::accel::collector::{Hidden, HiddenAny};
use crate::accel::pool::{Pooled, has_pool};
use crate::bridge::waker::SharedSlot;
use crate::future::Future;
use crate::py::cell::GilCell;
use crate::py::code_of::key_of_coroutine;
use crate::py::finalize::{Finalize, Inner};
use crate::py::{call, error};
use crate::sched::LoopState;

/// A coroutine driven by an event loop, with the whole contract of `asyncio.Task`.
#[pyclass(frozen, subclass, extends = Future, module = "pyloop")]
pub struct Task {
    pub(super) state: GilCell<TaskState>,
    /// What the task's wakers share; made when the first Rust future keeps a waker.
    pub(super) shared: SharedSlot,
}

impl Task {
    #[inline]
    pub(super) fn home<'py>(&self, py: Python<'py>) -> Option<Bound<'py, LoopState>> {
        self.state.with(py, |state| state.home.as_ref().map(|home| home.clone_ref(py))).map(|home| home.into_bound(py))
    }

    #[inline]
    pub(super) fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.state
            .with(py, |state| state.context.as_ref().map(|context| context.get().clone_ref(py)))
            .map(|context| context.into_bound(py))
            .ok_or_else(|| PyRuntimeError::new_err("Task object is not initialized."))
    }

    /// Take a pending task of a running loop, which keeps it alive, out of the cycle collector's sight, and what it
    /// alone is made of.
    #[inline]
    pub(super) fn hide(slf: &Bound<'_, Self>) -> HiddenAny {
        let py = slf.py();
        slf.get().state.with(py, |state| state.coroutine.iter().chain(&state.context).for_each(|part| part.hide(py)));
        let hidden = Hidden::new(slf.clone().unbind());
        hidden.hide(py);
        hidden.into_any()
    }

    /// What a pending task is made of is the collector's business again.
    pub(super) fn show(slf: &Bound<'_, Self>) {
        let py = slf.py();
        drop(slf.get().state.with(py, |state| state.awaits.take()));
        slf.get().state.with(py, |state| {
            state.coroutine.iter().chain(&state.context).for_each(|part| part.show(py));
            if let Wait::Future(awaited) = &state.wait {
                awaited.show(py);
            }
        });
    }

    /// So it is with one that has ended; its coroutine, which has nothing any more, is when the task lets go of it.
    #[inline]
    pub(super) fn show_done(slf: &Bound<'_, Self>) {
        let py = slf.py();
        slf.get().state.with(py, |state| state.context.iter().for_each(|context| context.show(py)));
    }

    /// Whether the task has ended.
    pub fn is_done(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().is_done(slf.py())
    }

    /// The task's result; its exception, CancelledError, or InvalidStateError while it is pending.
    ///
    /// # Errors
    /// As said.
    pub fn get_result<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.as_super().get().raise_result(slf.py())
    }
}

/// The coroutine that a step in the queue is of; None: the task has ended.
pub(crate) fn coroutine_of<'py>(task: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: only `drive::schedule` makes such entries, always with a task.
    let task = unsafe { call::cast::<Task>(task) };
    let py = task.py();
    let coroutine = task.get().state.with(py, |state| Some(state.coroutine.as_ref()?.get().clone_ref(py)));
    coroutine.map(|coroutine| coroutine.into_bound(py))
}

/// The key of its code, found without a reference to it.
pub(crate) fn code_key_of(task: &Bound<'_, PyAny>) -> Option<usize> {
    // SAFETY: only `drive::schedule` makes such entries, always with a task.
    let task = unsafe { call::cast::<Task>(task) };
    let py = task.py();
    task.get().state.with(py, |state| key_of_coroutine(state.coroutine.as_ref()?.get().bind(py)))
}

impl Pooled for Task {
    has_pool!((Future, Task), Task);
    const SPARE: usize = 256;

    #[inline]
    fn release((future, task): (Future, Self), py: Python<'_>) {
        Future::release((future,), py);
        // Wakes do not find the task any more.
        drop(task.shared);
        let TaskState { home, coroutine, awaits, context, name, wait, .. } = task.state.into_inner();
        if let Some(home) = home {
            home.drop_ref(py);
        }
        for part in [coroutine, context].into_iter().flatten() {
            part.let_go(py);
        }
        if let Name::Given(name) = name {
            name.drop_ref(py);
        }
        if awaits.is_some() || !matches!(wait, Wait::Queued | Wait::Running) {
            Python::attach(|_| drop((awaits, wait)));
        }
    }
}

impl Finalize for Task {
    fn needs_finalizer(slf: &Bound<'_, Self>) -> bool {
        !Self::is_done(slf) || Future::needs_finalizer(slf.as_super())
    }

    /// "Task was destroyed but it is pending!", then what every future reports.
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let log = slf.get().state.with(py, |state| state.log_destroy_pending);
        let future = slf.as_super();
        let (pending, event_loop, stack) = future.get().state.with(py, |state| {
            (
                !state.is_done(),
                state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py)),
                state.source_traceback(py),
            )
        });
        if let (true, true, Some(event_loop)) = (log, pending, event_loop) {
            let stack = stack.map(|stack| stack.into_bound(py));
            let mut items = vec![("task", slf.as_any())];
            if let Some(stack) = &stack {
                items.push(("source_traceback", stack));
            }
            error::call_exception_handler(event_loop.bind(py), "Task was destroyed but it is pending!", &items)?;
        }
        Future::finalize(future)
    }

    fn inner_dealloc() -> &'static Inner {
        static INNER: Inner = Inner::new();
        &INNER
    }
}
