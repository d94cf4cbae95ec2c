//! `Handle`: what `call_soon` gives back. `isinstance(handle, asyncio.Handle)` holds.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::state::LoopState;
use crate::py::asyncio::asyncio;
use crate::py::cell::GilCell;
use crate::py::{call, context, error, gc};

/// A callback with its arguments.
#[derive(Debug)]
struct Callback {
    callable: Py<PyAny>,
    args: Py<PyTuple>,
}

/// Debug mode's share of a handle.
#[derive(Debug, Default)]
struct Origin {
    /// Where it was scheduled: `traceback.StackSummary`.
    source_traceback: Option<Py<PyAny>>,
    /// What it looked like when it was cancelled.
    looked: Option<Py<PyAny>>,
}

#[derive(Debug)]
struct State {
    /// None once cancelled.
    callback: Option<Callback>,
    origin: Option<Box<Origin>>,
    cancelled: bool,
}

/// The object returned by `loop.call_soon()` (kept from asyncio: `asyncio.Handle`).
#[pyclass(frozen, subclass, weakref, freelist = 8192, module = "pyloop._native")]
pub struct Handle {
    state: GilCell<State>,
    context: Py<PyAny>,
    event_loop: Py<LoopState>,
}

impl Handle {
    #[inline]
    pub fn new(
        callable: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        context: Py<PyAny>,
        event_loop: &Bound<'_, LoopState>,
    ) -> Self {
        let callback = Some(Callback { callable: callable.unbind(), args: args.unbind() });
        Self {
            state: GilCell::new(State { callback, origin: None, cancelled: false }),
            context,
            event_loop: event_loop.clone().unbind(),
        }
    }

    /// It goes into its loop's queues, which keep it alive while the loop runs: the cycle collector need not look at
    /// it then, nor at its context, when that was made for it (`own`) and nobody else has it.
    #[inline]
    pub fn begin_waiting(slf: &Bound<'_, Self>, own: bool) {
        let this = slf.get();
        if this.event_loop.get().shared.lifecycle.is_running() {
            gc::untrack(slf.as_any());
            if own {
                gc::untrack(this.context.bind(slf.py()));
            }
        } else {
            gc::track(slf.as_any());
        }
    }

    /// It has run or is cancelled, or the run is over: the collector's business again, if anybody holds it.
    #[inline]
    pub(super) fn end_waiting(slf: &Bound<'_, Self>) {
        if gc::is_shared(slf.as_any()) {
            Self::track(slf);
        }
    }

    pub(super) fn track(slf: &Bound<'_, Self>) {
        gc::track_context(slf.get().context.bind(slf.py()));
        gc::track(slf.as_any());
    }

    /// Remember where it is made (debug mode).
    pub fn note_origin(&self, py: Python<'_>) -> PyResult<()> {
        let stack = asyncio(py)?.helper(py, "extract_stack")?.call0()?.unbind();
        drop(self.state.with(py, |state| state.origin.get_or_insert_default().source_traceback.replace(stack)));
        Ok(())
    }

    /// Run it. The error is one that ends the run.
    #[inline]
    pub(super) fn run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // Cloned, not taken: the callback may look at its own handle, or an exception handler may.
        let Some((callable, args)) = this
            .state
            .with(py, |state| state.callback.as_ref().map(|c| (c.callable.clone_ref(py), c.args.clone_ref(py))))
        else {
            return Ok(());
        };
        let (callable, args) = (callable.into_bound(py), args.into_bound(py));
        let ran = context::run_in(this.context.bind(py), || call::call_tuple(&callable, &args).map(drop));
        match ran {
            Ok(()) => Ok(()),
            Err(raised) => this.report(slf.as_any(), &callable, &args, raised),
        }
    }

    #[cold]
    fn report(
        &self,
        handle: &Bound<'_, PyAny>,
        callable: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        raised: PyErr,
    ) -> PyResult<()> {
        let py = handle.py();
        if error::ends_the_run(py, &raised) {
            return Err(raised);
        }
        let debug = self.event_loop.get().debug.get(py);
        let text = asyncio(py)?.helper(py, "format_callback_source")?.call1((callable, args, debug))?;
        let message = format!("Exception in callback {text}");
        let exception = raised.value(py).as_any().clone();
        let mut items = vec![("exception", &exception), ("handle", handle)];
        let stack = self._source_traceback(py).map(|stack| stack.into_bound(py));
        if let Some(stack) = &stack {
            items.push(("source_traceback", stack));
        }
        error::call_exception_handler(self.event_loop.bind(py), &message, &items)
    }

    /// Cancel it. False: it was cancelled before.
    pub fn cancel_once(slf: &Bound<'_, Self>) -> bool {
        let (py, this) = (slf.py(), slf.get());
        if this.state.with(py, |state| std::mem::replace(&mut state.cancelled, true)) {
            return false;
        }
        if this.event_loop.get().debug.get(py) {
            this.keep_look(slf);
        }
        Self::end_waiting(slf);
        drop(this.state.with(py, |state| state.callback.take()));
        true
    }

    /// The representation is kept for the slow callback report, as asyncio does.
    #[cold]
    fn keep_look(&self, slf: &Bound<'_, Self>) {
        let py = slf.py();
        match slf.repr() {
            Ok(look) => {
                let look = look.into_any().unbind();
                drop(self.state.with(py, |state| state.origin.get_or_insert_default().looked.replace(look)));
            }
            Err(raised) => error::unraisable(py, raised, None),
        }
    }

    #[inline]
    pub(super) fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.cancelled)
    }

    pub(super) fn event_loop(&self) -> &Py<LoopState> {
        &self.event_loop
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // CPython frees tracked contexts only.
        Python::attach(|py| gc::track_context(self.context.bind(py)));
    }
}

#[pymethods]
impl Handle {
    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyType>> {
        Ok(asyncio(slf.py())?.handle_class.clone_ref(slf.py()))
    }

    /// Cancel the callback; nothing happens when it has run or was cancelled.
    fn cancel(slf: &Bound<'_, Self>) {
        Self::cancel_once(slf);
    }

    /// Whether it was cancelled.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    /// The `contextvars.Context` that the callback runs in.
    fn get_context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.callback.as_ref().map(|c| c.callable.clone_ref(py)))
    }

    #[getter]
    fn _args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.state.with(py, |state| state.callback.as_ref().map(|c| c.args.clone_ref(py)))
    }

    #[getter]
    fn _context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py).into_any()
    }

    #[getter]
    fn _cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.origin.as_ref()?.source_traceback.as_ref().map(|stack| stack.clone_ref(py)))
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::run(slf)
    }

    #[getter]
    fn _repr(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.origin.as_ref()?.looked.as_ref().map(|look| look.clone_ref(py)))
    }

    fn _repr_info(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "handle_repr_info")?.call1((slf,))?.unbind())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "handle_repr")?.call1((slf,))?.unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(state) = self.state.peek_in_traverse() {
            if let Some(callback) = &state.callback {
                visit.call(&callback.callable)?;
                visit.call(&callback.args)?;
            }
            if let Some(origin) = &state.origin {
                visit.call(&origin.source_traceback)?;
            }
        }
        visit.call(&self.context)?;
        visit.call(&self.event_loop)
    }

    fn __clear__(&self) {
        Python::attach(|py| drop(self.state.with(py, |state| state.callback.take())));
    }
}

/// asyncio's check of what `call_soon` and its like are given (debug mode, `BaseEventLoop._check_callback`).
///
/// # Errors
/// TypeError for a coroutine, a coroutine function or something that cannot be called.
pub fn check_callback(callback: &Bound<'_, PyAny>, method: &str) -> PyResult<()> {
    let py = callback.py();
    if asyncio(py)?.helper(py, "is_coroutine_like")?.call1((callback,))?.is_truthy()? {
        return Err(PyTypeError::new_err(format!("coroutines cannot be used with {method}()")));
    }
    if !callback.is_callable() {
        let text = callback.repr()?;
        return Err(PyTypeError::new_err(format!("a callable object was expected by {method}(), got {text}")));
    }
    Ok(())
}
