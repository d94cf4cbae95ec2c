//! `pyloop.Future`: asyncio's Future, natively. `isinstance(future, asyncio.Future)` holds.

use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::callbacks::{TaskWakeup, Waiter, Waiters};
use super::state::{Failure, Outcome, State};
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::exit::outlast;
use crate::py::finalize::Finalize;
use crate::py::iter::Await;
use crate::py::{call, context, error, names};
use crate::sched::entry::DoneCallback;
use crate::sched::replaced::Name;
use crate::sched::state::ours;

/// A future of any event loop, with the whole contract of `asyncio.Future`.
#[pyclass(frozen, subclass, weakref, dict, module = "pyloop")]
pub struct Future {
    pub(crate) state: GilCell<State>,
}

impl Future {
    /// A pending future of this loop.
    pub fn bound_to(event_loop: Py<PyAny>) -> Self {
        Self { state: GilCell::new(State { event_loop: Some(event_loop), exact: true, ..State::default() }) }
    }

    /// Remember where it was made (debug mode).
    pub fn note_origin(&self, py: Python<'_>) -> PyResult<()> {
        let stack = asyncio(py)?.helper(py, "extract_stack")?.try_call(())?.unbind();
        drop(self.state.with(py, |state| state.rare_mut().source_traceback.replace(stack)));
        Ok(())
    }

    /// `__init__`: a pending future of `event_loop`, or of the current loop.
    pub fn initialize(slf: &Bound<'_, Self>, event_loop: Option<Bound<'_, PyAny>>, exact: bool) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if cfg!(Py_3_15) && this.state.with(py, |state| state.event_loop.is_some()) {
            return Err(error::already_initialized(slf.as_any()));
        }
        let event_loop = match event_loop {
            Some(event_loop) if !event_loop.is_none() => event_loop,
            _ => asyncio(py)?.get_event_loop.bind(py).try_call(())?,
        };
        let debug = match ours(&event_loop) {
            Some(state) => state.get().debug.get(py),
            None => event_loop.try_call_method(pyo3::intern!(py, "get_debug"), ())?.try_is_truthy()?,
        };
        drop(this.state.replace(py, State { event_loop: Some(event_loop.unbind()), exact, ..State::default() }));
        if debug { this.note_origin(py) } else { Ok(()) }
    }

    #[inline]
    pub fn is_done(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.is_done())
    }

    #[inline]
    pub fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.is_cancelled())
    }

    /// Whether this is no Python subclass: its methods are known.
    #[inline]
    pub fn is_exact(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.exact)
    }

    /// The loop.
    ///
    /// # Errors
    /// RuntimeError before `__init__`.
    #[inline]
    pub fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.state
            .with(py, |state| state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py)))
            .map(|event_loop| event_loop.into_bound(py))
            .ok_or_else(not_initialized)
    }

    /// # Errors
    /// RuntimeError before `__init__`.
    #[inline]
    pub(super) fn check_initialized(&self, py: Python<'_>) -> PyResult<()> {
        if self.state.with(py, |state| state.event_loop.is_some()) { Ok(()) } else { Err(not_initialized()) }
    }

    /// Add one that waits for a pending future; false when it is done.
    #[inline]
    pub fn wait(&self, py: Python<'_>, waiter: Waiter) -> Result<(), Waiter> {
        self.state.with(py, |state| {
            if state.is_done() {
                return Err(waiter);
            }
            state.waiters.push(waiter);
            Ok(())
        })
    }

    /// Finish a pending future and schedule who waits.
    ///
    /// # Errors
    /// InvalidStateError when it was done; what `call_soon` raises.
    pub fn finish(slf: &Bound<'_, Self>, outcome: Outcome) -> PyResult<()> {
        let py = slf.py();
        match slf.get().state.with(py, |state| state.finish(outcome)) {
            Ok(waiters) => Self::schedule(slf, waiters),
            Err(refused) => {
                drop(refused);
                Err(names::invalid_state(py, "invalid state")?)
            }
        }
    }

    /// Finish by cancelling; false when it was done.
    pub fn cancel_with(slf: &Bound<'_, Self>, message: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        // RuntimeError before `__init__`, as in asyncio.
        slf.get().check_initialized(py)?;
        let finished = slf.get().state.with(py, |state| {
            state.log_traceback = false;
            let waiters = state.finish(Outcome::Cancelled).ok()?;
            Some((waiters, state.set_cancel_message(message)))
        });
        match finished {
            Some((waiters, old)) => {
                drop(old);
                Self::schedule(slf, waiters).map(|()| true)
            }
            None => Ok(false),
        }
    }

    fn schedule(slf: &Bound<'_, Self>, waiters: Waiters) -> PyResult<()> {
        match waiters {
            Waiters::None => Ok(()),
            Waiters::One(waiter) => Self::schedule_one(slf, waiter),
            Waiters::Many(all) => all.into_iter().try_for_each(|waiter| Self::schedule_one(slf, waiter)),
        }
    }

    fn schedule_one(slf: &Bound<'_, Self>, waiter: Waiter) -> PyResult<()> {
        let py = slf.py();
        match waiter {
            Waiter::Task { task, wake } => wake(py, &task.into_bound(py)),
            Waiter::Call { callable, context, shared } => Self::call_soon(slf, callable, context, shared),
        }
    }

    /// `loop.call_soon(callable, self, context=context)`.
    fn call_soon(slf: &Bound<'_, Self>, callable: Py<PyAny>, context: Py<PyAny>, shared: bool) -> PyResult<()> {
        let py = slf.py();
        let event_loop = slf.get().event_loop(py)?;
        if let Some(ours) = ours(&event_loop)
            && !ours.get().replaced.has(&event_loop, Name::CallSoon)?
        {
            let state = ours.get();
            state.check_closed()?;
            if !state.debug.get(py) {
                let future = slf.clone().into_any().unbind();
                state.push_done(py, DoneCallback { callback: callable, future, context, shared });
                state.wake_if_away();
                return Ok(());
            }
        }
        let args = (callable, slf);
        let context = context.into_bound(py);
        let context = if shared { context::copy(&context)? } else { context };
        let keywords = PyDict::new(py);
        keywords.set_item(pyo3::intern!(py, "context"), context)?;
        event_loop.try_call_method_with(pyo3::intern!(py, "call_soon"), args, &keywords).map(drop)
    }

    /// The error that a cancelled future raises: made anew each time, but for the one a task ended with.
    pub fn cancelled_error(&self, py: Python<'_>) -> PyResult<PyErr> {
        let (kept, message) = self.state.with(py, |state| {
            (state.rare.as_mut().and_then(|rare| rare.cancelled_error.take()), state.cancel_message(py))
        });
        if let Some(kept) = kept {
            return Ok(PyErr::from_value(kept.into_bound(py).into_any()));
        }
        names::cancelled(py, message)
    }

    /// The result, or the error that `result()` raises.
    pub fn take_result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        enum Known {
            Pending,
            Cancelled,
            Result(Py<PyAny>),
            Failed(Py<PyBaseException>, Option<Py<PyAny>>),
        }
        let known = self.state.with(py, |state| match &state.outcome {
            Outcome::Pending => Known::Pending,
            Outcome::Cancelled => Known::Cancelled,
            Outcome::Result(value) => Known::Result(value.clone_ref(py)),
            Outcome::Failed(failure) => {
                state.log_traceback = false;
                let traceback = failure.traceback.as_ref().map(|traceback| traceback.clone_ref(py));
                Known::Failed(failure.exception.clone_ref(py), traceback)
            }
        });
        match known {
            Known::Result(value) => Ok(value.into_bound(py)),
            Known::Pending => Err(names::invalid_state(py, "Result is not set.")?),
            Known::Cancelled => Err(self.cancelled_error(py)?),
            Known::Failed(exception, traceback) => {
                let exception = exception.into_bound(py).into_any();
                exception.try_setattr(pyo3::intern!(py, "__traceback__"), traceback)?;
                Err(PyErr::from_value(exception))
            }
        }
    }

    /// `result()`: as `take_result`, its error raised in what is being handled by the caller.
    pub fn raise_result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.take_result(py).map_err(|raised| error::in_context(py, raised))
    }

    /// `exception()`, likewise.
    pub(super) fn raise_exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.take_exception(py).map_err(|raised| error::in_context(py, raised))
    }

    /// The exception or None, or the error that `exception()` raises.
    fn take_exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let known = self.state.with(py, |state| match &state.outcome {
            Outcome::Pending => Err(true),
            Outcome::Cancelled => Err(false),
            Outcome::Result(_) => Ok(py.None()),
            Outcome::Failed(failure) => {
                state.log_traceback = false;
                Ok(failure.exception.clone_ref(py).into_any())
            }
        });
        match known {
            Ok(exception) => Ok(exception.into_bound(py)),
            Err(true) => Err(names::invalid_state(py, "Exception is not set.")?),
            Err(false) => Err(self.cancelled_error(py)?),
        }
    }

    #[inline(always)]
    pub fn has_result(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.outcome, Outcome::Result(_)))
    }

    /// The error to throw into a task that waits for this done future; None: it has a result.
    pub fn failure(&self, py: Python<'_>) -> Option<PyErr> {
        if self.has_result(py) { None } else { self.take_result(py).err() }
    }

    /// `set_exception`'s argument as an exception, with asyncio's checks.
    pub fn exception_from<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBaseException>> {
        let py = value.py();
        let made = match value.cast::<PyType>() {
            Ok(class) => class.try_call(())?,
            Err(_) => value.clone(),
        };
        let exception =
            made.cast_into::<PyBaseException>().map_err(|_| PyTypeError::new_err("invalid exception object"))?;
        if exception.is_instance_of::<PyStopIteration>() {
            if !asyncio(py)?.wraps_stop_iteration {
                return Err(PyTypeError::new_err(
                    "StopIteration interacts badly with generators and cannot be raised into a Future",
                ));
            }
            let wrapper = PyRuntimeError::new_err(
                "StopIteration interacts badly with generators and cannot be raised into a Future",
            )
            .into_value(py)
            .into_bound(py);
            wrapper.try_setattr("__cause__", &exception)?;
            wrapper.try_setattr("__context__", &exception)?;
            return Ok(wrapper);
        }
        Ok(exception)
    }

    /// The outcome for an exception, its traceback noted.
    pub fn failed(exception: &Bound<'_, PyBaseException>) -> Outcome {
        let traceback = exception.as_any().try_getattr(pyo3::intern!(exception.py(), "__traceback__"));
        let traceback = traceback.ok().filter(|traceback| !traceback.is_none()).map(Bound::unbind);
        Outcome::Failed(Box::new(Failure { exception: exception.clone().unbind(), traceback }))
    }
}

#[cold]
fn not_initialized() -> PyErr {
    PyRuntimeError::new_err("Future object is not initialized.")
}

#[pymethods]
impl Future {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(*, loop=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self { state: GilCell::default() }
    }

    #[pyo3(signature = (*, r#loop = None))]
    fn __init__(slf: &Bound<'_, Self>, r#loop: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::initialize(slf, r#loop, slf.is_exact_instance_of::<Self>())
    }

    #[classmethod]
    #[pyo3(signature = (item, /))]
    fn __class_getitem__(class: &Bound<'_, PyType>, item: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = class.py();
        Ok(py.import("types")?.try_getattr("GenericAlias")?.try_call((class, item))?.unbind())
    }

    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(call::class_of(slf.as_any(), &asyncio(slf.py())?.future_class, &slf.py().get_type::<Self>()))
    }

    /// The value; its exception is raised, a cancelled future raises CancelledError, a pending one InvalidStateError.
    fn result<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.raise_result(py)
    }

    /// The exception that was set, or None; CancelledError when cancelled, InvalidStateError when pending.
    fn exception<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.raise_exception(py)
    }

    /// Set the result; InvalidStateError when done.
    #[pyo3(signature = (result, /))]
    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        slf.get().check_initialized(slf.py())?;
        Self::finish(slf, Outcome::Result(result))
    }

    /// Set the exception (an instance or a class); InvalidStateError when done.
    #[pyo3(signature = (exception, /))]
    fn set_exception(slf: &Bound<'_, Self>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.get().check_initialized(slf.py())?;
        if slf.get().is_done(slf.py()) {
            return Err(names::invalid_state(slf.py(), "invalid state")?);
        }
        let exception = Self::exception_from(exception)?;
        Self::finish(slf, Self::failed(&exception))
    }

    /// Cancel it and schedule the callbacks; False when it was done.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        Self::cancel_with(slf, msg)
    }

    /// Whether it was cancelled.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    /// Whether it has a result or an exception, or was cancelled.
    fn done(&self, py: Python<'_>) -> bool {
        self.is_done(py)
    }

    /// Have `fn(future)` called by the loop once the future is done, in `context` (default: a copy of the current).
    #[pyo3(signature = (r#fn, /, *, context = None))]
    pub(super) fn add_done_callback(
        slf: &Bound<'_, Self>,
        r#fn: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let event_loop = slf.get().event_loop(py)?;
        let (context, shared) = match (context, ours(&event_loop)) {
            (Some(context), _) if !context.is_none(py) => (context, false),
            (_, Some(home)) => {
                let (context, shared) = home.get().snapshots.for_callback(py)?;
                (context.unbind(), shared)
            }
            _ => (context::copy_current(py)?.unbind(), false),
        };
        match slf.get().wait(py, Waiter::Call { callable: r#fn, context, shared }) {
            Ok(()) => Ok(()),
            Err(waiter) => Self::schedule_one(slf, waiter),
        }
    }

    /// Remove all instances of a callback; how many there were.
    #[pyo3(signature = (r#fn, /))]
    fn remove_done_callback(slf: &Bound<'_, Self>, r#fn: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = slf.py();
        slf.get().check_initialized(py)?;
        // Equality runs Python code, so the list is taken out; what is added meanwhile comes after what was there.
        let waiters = slf.get().state.with(py, |state| std::mem::take(&mut state.waiters)).into_vec();
        let (mut kept, mut removed, mut failed) = (Vec::with_capacity(waiters.len()), Vec::new(), None);
        for waiter in waiters {
            let equal = match waiter.callable() {
                Some(callable) if failed.is_none() => match callable.bind(py).try_eq(r#fn) {
                    Ok(equal) => equal,
                    Err(raised) => {
                        failed = Some(raised);
                        false
                    }
                },
                _ => false,
            };
            if equal { removed.push(waiter) } else { kept.push(waiter) }
        }
        let late = slf.get().state.with(py, |state| {
            let added = std::mem::take(&mut state.waiters).into_vec();
            if state.is_done() {
                return kept;
            }
            kept.into_iter().chain(added).for_each(|waiter| state.waiters.push(waiter));
            Vec::new()
        });
        // Finished by an `__eq__`: who was out of the list then is scheduled now.
        late.into_iter().try_for_each(|waiter| Self::schedule_one(slf, waiter))?;
        match failed {
            Some(raised) => Err(raised),
            None => Ok(removed.len()),
        }
    }

    /// The event loop it belongs to.
    fn get_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop(py)
    }

    fn _make_cancelled_error(&self, py: Python<'_>) -> PyResult<Py<PyBaseException>> {
        Ok(self.cancelled_error(py)?.into_value(py))
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::iterator(slf)
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::iterator(slf)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "future_repr")?.try_call((slf,))?.unbind())
    }

    /// The last look; a method, so that Python subclasses inherit it as their finalizer.
    fn __del__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::finalize(slf)
    }

    #[getter]
    fn _asyncio_future_blocking(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.blocking)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_private_asyncio_future_blocking(&self, py: Python<'_>, blocking: &Bound<'_, PyAny>) -> PyResult<()> {
        let blocking = blocking.try_is_truthy()?;
        self.state.with(py, |state| state.blocking = blocking);
        Ok(())
    }

    #[getter]
    fn _state(&self, py: Python<'_>) -> &'static str {
        self.state.with(py, |state| state.word())
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py)))
    }

    #[getter]
    fn _result(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| match &state.outcome {
            Outcome::Result(value) => Some(value.clone_ref(py)),
            _ => None,
        })
    }

    #[getter]
    fn _exception(&self, py: Python<'_>) -> Option<Py<PyBaseException>> {
        self.state.with(py, |state| match &state.outcome {
            Outcome::Failed(failure) => Some(failure.exception.clone_ref(py)),
            _ => None,
        })
    }

    #[getter]
    fn _callbacks<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyList>>> {
        enum Known {
            Call(Py<PyAny>, Py<PyAny>, bool),
            Task(Py<PyAny>),
        }
        let known: Vec<_> = self.state.with(py, |state| {
            let known = state.waiters.as_slice().iter().map(|waiter| match waiter {
                Waiter::Call { callable, context, shared } => {
                    Known::Call(callable.clone_ref(py), context.clone_ref(py), *shared)
                }
                Waiter::Task { task, .. } => Known::Task(task.clone_ref(py)),
            });
            known.collect()
        });
        let pair = |known| match known {
            // What nobody is to enter is not shown.
            Known::Call(callable, context, true) => Ok((callable, Some(context::copy(context.bind(py))?.unbind()))),
            Known::Call(callable, context, false) => Ok((callable, Some(context))),
            Known::Task(task) => Ok((Py::new(py, TaskWakeup::new(task, None))?.into_any(), None)),
        };
        let pairs = known.into_iter().map(pair).collect::<PyResult<Vec<_>>>()?;
        if pairs.is_empty() { Ok(None) } else { PyList::new(py, pairs).map(Some) }
    }

    /// The tasks that await it, for asyncio's call graphs; None: no task does.
    #[getter]
    fn _asyncio_awaited_by(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "awaited_by")?.try_call((slf,))?.unbind())
    }

    #[getter]
    fn _log_traceback(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.log_traceback)
    }

    #[setter(_log_traceback)]
    fn set_private_log_traceback(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if value.try_is_truthy()? {
            return Err(PyValueError::new_err("_log_traceback can only be set to False"));
        }
        self.state.with(py, |state| state.log_traceback = false);
        Ok(())
    }

    #[getter]
    fn _cancel_message(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.cancel_message(py))
    }

    #[setter(_cancel_message)]
    fn set_private_cancel_message(&self, py: Python<'_>, message: Option<Py<PyAny>>) {
        drop(self.state.with(py, |state| state.set_cancel_message(message)));
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.source_traceback(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.state.peek_in_traverse(&visit) else { return Ok(()) };
        visit.call(&state.event_loop)?;
        match &state.outcome {
            Outcome::Pending | Outcome::Cancelled => {}
            Outcome::Result(value) => visit.call(value)?,
            Outcome::Failed(failure) => {
                visit.call(&failure.exception)?;
                visit.call(&failure.traceback)?;
            }
        }
        for waiter in state.waiters.as_slice() {
            match waiter {
                Waiter::Call { callable, context, .. } => {
                    visit.call(callable)?;
                    visit.call(context)?;
                }
                Waiter::Task { task, .. } => visit.call(task)?,
            }
        }
        if let Some(rare) = &state.rare {
            visit.call(&rare.cancel_message)?;
            visit.call(&rare.cancelled_error)?;
            visit.call(&rare.source_traceback)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| drop(self.state.take(py)));
    }
}
