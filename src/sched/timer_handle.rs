//! `TimerHandle`: what `call_later` and `call_at` give back. `isinstance(handle, asyncio.TimerHandle)` holds.

use pyo3::basic::CompareOp;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::handle::{Handle, Parts};
use super::state::LoopState;
use crate::accel::collector::{self, Hidden};
use crate::accel::pool::{Pooled, has_pool};
use crate::core::timers::{Timers, nanos};
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::cell::GilValue;

/// The object returned by `loop.call_later()` and `loop.call_at()` (kept from asyncio: `asyncio.TimerHandle`).
#[pyclass(frozen, extends = Handle, module = "pyloop._native")]
pub struct TimerHandle {
    when: f64,
    /// What `call_at` was given, if that was no float; of one that stands for a timer of asyncio's own class, that
    /// timer.
    given: Option<Py<PyAny>>,
    /// In the loop's heap.
    scheduled: GilValue<bool>,
}

impl TimerHandle {
    /// Make one and put it into the loop's heap.
    ///
    /// # Errors
    /// MemoryError; in debug mode, what looking at the stack raises.
    #[inline(always)]
    pub fn schedule<'py>(
        when: f64,
        given: Option<Bound<'py, PyAny>>,
        parts: Parts<'py>,
        event_loop: &Bound<'py, LoopState>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let own = Self { when, given: given.map(Bound::unbind), scheduled: GilValue::new(true) };
        let make = Handle::maker(parts, event_loop)?;
        let handle: Bound<'_, Self> = collector::create_hidden(py, || (make(), own))?;
        if event_loop.get().debug.get(py) {
            handle.as_super().get().note_origin(py)?;
        }
        // Nothing runs between this and the push: no run can end in between.
        Handle::begin_waiting(handle.as_super());
        let in_heap = Hidden::new(handle.clone().unbind());
        event_loop.get().timers.with(py, |timers| timers.push(nanos(when), in_heap));
        Ok(handle)
    }

    /// Whether it stands for a timer of asyncio's own class, which it queues.
    pub(super) fn stands_for_another(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let class = asyncio(py)?.timer_handle_class.bind(py);
        slf.get().given.as_ref().map_or(Ok(false), |given| given.bind(py).try_is_instance(class))
    }

    /// When it is due, in seconds of the loop's clock.
    pub(super) fn seconds(&self) -> f64 {
        self.when
    }

    /// It came out of the heap.
    pub(super) fn forget(&self, py: Python<'_>) {
        self.scheduled.set(py, false);
    }

    fn base<'a, 'py>(slf: &'a Bound<'py, Self>) -> &'a Handle {
        slf.as_super().get()
    }
}

#[cold]
fn let_go_of_cancelled(py: Python<'_>, state: &LoopState) {
    let is_cancelled = |timer: &Hidden<TimerHandle>| timer.bind(py).as_super().get().is_cancelled(py);
    for timer in state.timers.with(py, |timers| timers.take_cancelled(is_cancelled)) {
        timer.let_go(py);
    }
}

impl Pooled for TimerHandle {
    has_pool!((Handle, TimerHandle), TimerHandle);
    const SPARE: usize = 1024;

    #[inline]
    fn release(values: (Handle, Self), py: Python<'_>) {
        if let Some(given) = values.1.given {
            given.drop_ref(py);
        }
        Handle::release((values.0,), py);
    }
}

#[pymethods]
impl TimerHandle {
    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyType>> {
        Ok(asyncio(slf.py())?.timer_handle_class.clone_ref(slf.py()))
    }

    /// The time it is scheduled for, in seconds of `loop.time()`: what `call_at` was given.
    fn when(&self, py: Python<'_>) -> Py<PyAny> {
        match &self.given {
            Some(given) => given.clone_ref(py),
            None => PyFloat::new(py, self.when).into_any().unbind(),
        }
    }

    #[getter]
    fn _when(&self, py: Python<'_>) -> Py<PyAny> {
        self.when(py)
    }

    #[getter]
    fn _scheduled(&self, py: Python<'_>) -> bool {
        self.scheduled.get(py)
    }

    /// Cancel the callback; nothing happens when it has run or was cancelled.
    pub(crate) fn cancel(slf: &Bound<'_, Self>) {
        let (py, base) = (slf.py(), Self::base(slf));
        if Handle::cancel_once(slf.as_super()) && slf.get().scheduled.get(py) {
            let state = base.event_loop().get();
            if state.timers.with(py, Timers::note_cancelled) {
                let_go_of_cancelled(py, state);
            }
        }
    }

    fn _repr_info(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "timer_handle_repr_info")?.try_call((slf,))?.unbind())
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        PyFloat::new(py, self.when).hash()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.given)
    }

    fn __richcmp__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>, op: CompareOp) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        // Ordered by deadline, equal when all is equal, as asyncio's.
        let helper = asyncio(py)?.helper(py, "compare_timer_handles")?;
        let op = match op {
            CompareOp::Lt => "lt",
            CompareOp::Le => "le",
            CompareOp::Eq => "eq",
            CompareOp::Ne => "ne",
            CompareOp::Gt => "gt",
            CompareOp::Ge => "ge",
        };
        Ok(helper.try_call((slf, other, op))?.unbind())
    }
}
