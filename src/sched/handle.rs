//! `Handle`: what `call_soon` gives back. `isinstance(handle, asyncio.Handle)` holds.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::state::LoopState;
use crate::py::asyncio::asyncio;
use crate::py::cell::GilCell;
use crate::py::{call, context, error, gc};

/// A callback with its arguments and its context; empty once cancelled.
#[derive(Debug)]
pub struct Callback {
    pub callable: Py<PyAny>,
    pub args: Py<PyTuple>,
}

/// The object returned by `loop.call_soon()` (kept from asyncio: `asyncio.Handle`).
#[pyclass(frozen, subclass, weakref, freelist = 4096, module = "pyloop._native")]
pub struct Handle {
    callback: GilCell<Option<Callback>>,
    context: Py<PyAny>,
    event_loop: Py<LoopState>,
    /// Where it was scheduled (debug mode): `traceback.StackSummary`.
    source_traceback: GilCell<Option<Py<PyAny>>>,
    /// What it looked like when it was cancelled (debug mode).
    looked: GilCell<Option<Py<PyAny>>>,
    cancelled: GilCell<bool>,
}

impl Handle {
    pub fn new(
        callable: Bound<'_, PyAny>,
        args: Bound<'_, PyTuple>,
        context: Py<PyAny>,
        event_loop: &Bound<'_, LoopState>,
    ) -> Self {
        Self {
            callback: GilCell::new(Some(Callback { callable: callable.unbind(), args: args.unbind() })),
            context,
            event_loop: event_loop.clone().unbind(),
            source_traceback: GilCell::new(None),
            looked: GilCell::new(None),
            cancelled: GilCell::new(false),
        }
    }

    pub fn set_source_traceback(&self, py: Python<'_>, stack: Py<PyAny>) {
        drop(self.source_traceback.replace(py, Some(stack)));
    }

    /// Run it. The error is one that ends the run.
    pub(super) fn run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // Cloned, not taken: the callback may look at its own handle, or an exception handler may.
        let Some((callable, args)) =
            this.callback.with(py, |slot| slot.as_ref().map(|c| (c.callable.clone_ref(py), c.args.clone_ref(py))))
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
        let stack = self.source_traceback.with(py, |stack| stack.as_ref().map(|s| s.clone_ref(py)));
        let stack = stack.map(|stack| stack.into_bound(py));
        if let Some(stack) = &stack {
            items.push(("source_traceback", stack));
        }
        error::call_exception_handler(self.event_loop.bind(py), &message, &items)
    }

    /// Before a cancel in debug mode: the representation is kept for the slow callback report.
    pub(super) fn keep_look(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if this.event_loop.get().debug.get(py) && !this.cancelled.get(py) {
            let look = slf.repr()?.into_any().unbind();
            drop(this.looked.replace(py, Some(look)));
        }
        Ok(())
    }

    /// Cancel it. False: it was cancelled before.
    pub fn cancel_once(slf: &Bound<'_, Self>) -> bool {
        let (py, this) = (slf.py(), slf.get());
        if this.cancelled.with(py, |cancelled| std::mem::replace(cancelled, true)) {
            return false;
        }
        gc::track(slf.as_any());
        drop(this.callback.take(py));
        true
    }

    pub(super) fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.cancelled.get(py)
    }

    pub(super) fn event_loop(&self) -> &Py<LoopState> {
        &self.event_loop
    }
}

#[pymethods]
impl Handle {
    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyType>> {
        Ok(asyncio(slf.py())?.handle_class.clone_ref(slf.py()))
    }

    /// Cancel the callback; nothing happens when it has run or was cancelled.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::keep_look(slf)?;
        Self::cancel_once(slf);
        Ok(())
    }

    /// Whether it was cancelled.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.cancelled.get(py)
    }

    /// The `contextvars.Context` that the callback runs in.
    fn get_context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.callback.with(py, |slot| slot.as_ref().map(|c| c.callable.clone_ref(py)))
    }

    #[getter]
    fn _args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.callback.with(py, |slot| slot.as_ref().map(|c| c.args.clone_ref(py)))
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
        self.cancelled.get(py)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.source_traceback.with(py, |stack| stack.as_ref().map(|s| s.clone_ref(py)))
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::run(slf)
    }

    #[getter]
    fn _repr(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.looked.with(py, |look| look.as_ref().map(|look| look.clone_ref(py)))
    }

    fn _repr_info(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "handle_repr_info")?.call1((slf,))?.unbind())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "handle_repr")?.call1((slf,))?.unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(Some(callback)) = self.callback.peek_in_traverse() {
            visit.call(&callback.callable)?;
            visit.call(&callback.args)?;
        }
        if let Some(stack) = self.source_traceback.peek_in_traverse() {
            visit.call(stack)?;
        }
        visit.call(&self.context)?;
        visit.call(&self.event_loop)
    }

    fn __clear__(&self) {
        Python::attach(|py| drop(self.callback.take(py)));
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
