//! What Python sees of a `RustFuture`: a coroutine (`send`, `throw`, `close`, `__await__`), and, to a task of another
//! class that it was yielded to, a pending asyncio future.

use std::sync::Arc;
use std::task::{Poll, Waker};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use super::awaitable::{Foreign, RustFuture, Stage};
use super::foreign;
use super::holding::Traverse;
use super::link::Current;
use super::waiters::ForeignWaiters;
use crate::accel::stop_iteration;
use crate::py::call::Object;
use crate::py::error::Slim;
use crate::py::exit::outlast;
use crate::py::iter::{Await, Next, Resume, Sent};
use crate::py::{api, error, iter, names, refs};

impl Resume for RustFuture {
    fn resume<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> Slim<Sent<'py>> {
        let py = slf.py();
        if slf.get().begin(py) && !value.is_none() {
            return Err(Box::new(PyTypeError::new_err("can't send non-None value to a just-started coroutine")));
        }
        Ok(match Self::advance_and_yield(slf)? {
            Poll::Pending => Sent::Yielded(slf.clone().into_any()),
            Poll::Ready(value) => Sent::Returned(value.into_bound(py)),
        })
    }
}

impl Next for RustFuture {
    const ATTACHES: bool = true;

    #[inline]
    fn next<'py>(slf: &Bound<'py, Self>) -> Slim<Option<Bound<'py, PyAny>>> {
        match Self::advance_and_yield(slf)? {
            Poll::Pending => Ok(Some(slf.clone().into_any())),
            Poll::Ready(value) => {
                stop_iteration::end_iteration(slf, value.into_bound(slf.py()));
                Ok(None)
            }
        }
    }
}

#[pymethods]
impl RustFuture {
    #[classmethod]
    #[pyo3(signature = (item, /))]
    fn __class_getitem__(class: &Bound<'_, PyType>, item: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = class.py();
        Ok(py.import("types")?.try_getattr("GenericAlias")?.try_call((class, item))?.unbind())
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::iterator(slf)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        // Some tasks drive a coroutine by this alone.
        Self::next(slf).map_err(|raised| *raised)
    }

    /// As a coroutine's: poll once; yields while pending, StopIteration with the result.
    #[pyo3(signature = (value, /))]
    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        match Self::resume(slf, value).map_err(|raised| *raised)? {
            Sent::Yielded(_) => Ok(slf.clone()),
            Sent::Returned(value) => Err(stop_iteration::stop_iteration(slf.py(), value)),
        }
    }

    /// As a coroutine's: the future is dropped and the exception raised.
    #[pyo3(signature = (typ, val = None, tb = None, /))]
    fn throw(
        slf: &Bound<'_, Self>,
        typ: &Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let raised = iter::thrown(typ, val, tb)?;
        let (over, cancelled) = this.state.with(py, |state| {
            let cancelled = state.foreign.as_mut().and_then(|foreign| foreign.cancelled.take());
            (matches!(state.stage, Stage::Over) && cancelled.is_none(), cancelled)
        });
        drop(cancelled);
        if over {
            return Err(this.reused());
        }
        this.finish(py)?;
        this.state.with(py, |state| {
            if matches!(state.stage, Stage::Dropped) {
                state.stage = Stage::Over;
            }
        });
        Err(raised)
    }

    /// Drop the future: it is cancelled where it stands.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.finish(py)
    }

    #[getter]
    fn __name__(&self) -> String {
        self.name().rsplit('.').next().unwrap_or_default().to_owned()
    }

    #[getter]
    fn __qualname__(&self) -> String {
        self.name().into_owned()
    }

    /// To `isinstance` it is a coroutine, too: `inspect.iscoroutine` asks so, and who finds one awaits it.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyType>> {
        api::coroutine_class(slf.py())
    }

    // What tells a coroutine's state (`inspect.getcoroutinestate`, tools that show tasks).

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.stage, Stage::Running | Stage::Closing))
    }

    #[getter]
    fn cr_suspended(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.stage, Stage::Idle))
    }

    /// What `inspect.getcoroutinestate` gives, from CPython 3.15 on.
    #[getter]
    fn cr_state(&self, py: Python<'_>) -> &'static str {
        self.state.with(py, |state| match state.stage {
            Stage::Created => "CORO_CREATED",
            Stage::Running | Stage::Closing => "CORO_RUNNING",
            Stage::Idle => "CORO_SUSPENDED",
            Stage::Dropped | Stage::Over => "CORO_CLOSED",
        })
    }

    /// A frame with its name and nothing else, while it can be awaited or waits.
    #[getter]
    fn cr_frame<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let ended = self.state.with(py, |state| matches!(state.stage, Stage::Dropped | Stage::Over));
        if ended { Ok(None) } else { self.frame(py).map(Some) }
    }

    #[getter]
    fn cr_code<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.frame(py)?.try_getattr("f_code")
    }

    /// What it awaits is Rust's.
    #[getter]
    #[allow(clippy::unused_self, reason = "a property for Python")]
    fn cr_await(&self) -> Option<Py<PyAny>> {
        None
    }

    #[getter]
    #[allow(clippy::unused_self, reason = "a property for Python")]
    fn cr_origin(&self) -> Option<Py<PyAny>> {
        None
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let stage = slf.get().state.with(slf.py(), |state| match state.stage {
            Stage::Created => "created",
            Stage::Idle => "pending",
            Stage::Running | Stage::Closing => "running",
            Stage::Dropped | Stage::Over => "finished",
        });
        format!("<RustFuture {} {stage}>", slf.get().name())
    }

    /// None, but for the moment in which a foreign task looks at what it was given (`asyncio.isfuture` is False).
    #[getter]
    fn _asyncio_future_blocking(&self, py: Python<'_>) -> Option<bool> {
        self.state.with(py, |state| state.blocking).then_some(true)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_private_asyncio_future_blocking(&self, py: Python<'_>, blocking: &Bound<'_, PyAny>) -> PyResult<()> {
        let blocking = blocking.try_is_truthy()?;
        self.state.with(py, |state| {
            state.blocking = blocking;
            // Taken up, or made to look as it does when it is yielded.
            state.pending_in = None;
        });
        Ok(())
    }

    fn get_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.waiters(py) {
            Some(waiters) => Ok(waiters.event_loop(py)),
            None => names::require_running_loop(py),
        }
    }

    /// A foreign task waits: it is called when the waker of the last poll is woken.
    #[pyo3(signature = (r#fn, /, *, context = None))]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if this.state.with(py, |state| state.stage == Stage::Created) {
            let text = "a Rust future is a coroutine: asyncio.ensure_future() makes a future of it";
            return Err(PyRuntimeError::new_err(text));
        }
        let context = match context {
            Some(context) if !context.is_none(py) => context,
            _ => api::copy_current(py)?.unbind(),
        };
        if let Some(waiters) = this.waiters(py)
            && waiters.add(slf, r#fn.clone_ref(py), context.clone_ref(py))
        {
            return Ok(());
        }
        // It was polled for a step of pyloop's, inside of which a task of another class runs (eagerly).
        let waiters = ForeignWaiters::new();
        let waker = Waker::from(Arc::clone(&waiters));
        let result = match this.poll(py, &Current::outside(&waker)) {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(result)) => Some(result),
            Err(raised) => Some(Err(raised)),
        };
        foreign::arm(slf, Arc::clone(&waiters))?;
        waiters.add(slf, r#fn, context);
        match result {
            None => Ok(()),
            Some(result) => {
                let old = this.with_foreign(py, |foreign| foreign.early.replace(result));
                drop(old);
                waiters.fire(py)
            }
        }
    }

    #[pyo3(signature = (r#fn, /))]
    fn remove_done_callback(&self, py: Python<'_>, r#fn: &Bound<'_, PyAny>) -> PyResult<usize> {
        match self.waiters(py) {
            Some(waiters) => waiters.remove(py, r#fn),
            None => Ok(0),
        }
    }

    /// A foreign task was woken: None sends it on to the next poll, CancelledError is thrown into it.
    fn result(&self, py: Python<'_>) -> PyResult<()> {
        let told = self.state.with(py, |state| state.foreign.as_mut().map(|foreign| foreign.cancelled.take()));
        match told {
            Some(Some(message)) => Err(names::cancelled(py, message)?),
            Some(None) => Ok(()),
            None => Err(names::invalid_state(py, "Result is not set.")?),
        }
    }

    /// A foreign task is cancelled, or it is cancelled before it is awaited: the future is dropped at once.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        let Some(waiters) = this.waiters(py) else { return Self::cancel_unawaited(slf, msg) };
        if this.with_foreign(py, |foreign| foreign.cancelled.is_some()) {
            return Ok(false);
        }
        if let Err(raised) = this.finish(py) {
            // The task must hear of its cancellation all the same.
            error::unraisable(py, raised, Some(slf.as_any()));
        }
        let old = this.with_foreign(py, |foreign| (foreign.cancelled.replace(msg), foreign.early.take()));
        drop(old);
        waiters.fire(py)?;
        Ok(true)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Traverse::traverse(self, &visit)?;
        let Some(Some(foreign)) = self.state.peek_in_traverse(&visit).map(|state| &state.foreign) else {
            return Ok(());
        };
        if let Some(Ok(value)) = &foreign.early {
            visit.call(value)?;
        }
        if let Some(Some(message)) = &foreign.cancelled {
            visit.call(message)?;
        }
        foreign.waiters.as_ref().map_or(Ok(()), |waiters| waiters.traverse(&visit))
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| {
            let foreign = self.state.with(py, |state| state.foreign.take());
            if let Some(waiters) = foreign.and_then(|foreign| foreign.waiters) {
                waiters.clear(py);
            }
            self.clear_body(py);
        });
    }
}

impl RustFuture {
    /// Poll; pending, it is about to be yielded.
    #[inline]
    fn advance_and_yield(slf: &Bound<'_, Self>) -> Slim<Poll<Py<PyAny>>> {
        let polled = Self::advance(slf)?;
        if polled.is_pending() {
            slf.get().state.with(slf.py(), |state| state.blocking = true);
        }
        Ok(polled)
    }

    /// Its `await`, if there is one, raises CancelledError. One that is awaited already is cancelled by its task.
    fn cancel_unawaited(slf: &Bound<'_, Self>, message: Option<Py<PyAny>>) -> PyResult<bool> {
        let (py, this) = (slf.py(), slf.get());
        if this.state.with(py, |state| state.stage != Stage::Created) {
            return Ok(false);
        }
        let old = this.with_foreign(py, |foreign| foreign.cancelled.replace(message));
        drop(old);
        refs::show(slf.as_any());
        this.finish(py)?;
        Ok(true)
    }

    fn frame<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        api::frame(py, &self.name())
    }

    fn waiters(&self, py: Python<'_>) -> Option<Arc<ForeignWaiters>> {
        self.state.with(py, |state| state.foreign.as_ref().and_then(|foreign| foreign.waiters.clone()))
    }

    pub(super) fn with_foreign<R>(&self, py: Python<'_>, f: impl FnOnce(&mut Foreign) -> R) -> R {
        self.state.with(py, |state| f(state.foreign.get_or_insert_default()))
    }

    pub(super) fn awaited_twice(&self) -> PyErr {
        PyRuntimeError::new_err(format!("Rust future '{}' is being awaited already", self.name()))
    }
}
