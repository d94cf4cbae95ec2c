//! `await future`: the iterator that yields a pending future once and then gives its result.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use super::class::Future;
use crate::accel::pool::{self, Pooled, has_pool};
use crate::accel::slots;
use crate::accel::stop_iteration;
use crate::py::cell::GilCell;
use crate::py::error::Slim;
use crate::py::exit::outlast;
use crate::py::iter::{Await, Next, Sent, thrown};

impl Await for Future {
    #[inline]
    fn iterator<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().check_initialized(slf.py())?;
        let iter = pool::create::<FutureIter>(slf.py(), || (FutureIter::new(slf.clone().unbind()),))?;
        Ok(iter.into_any())
    }
}

/// The iterator behind `Future.__await__`.
#[pyclass(frozen, module = "pyloop._native")]
pub struct FutureIter {
    future: GilCell<Option<Py<Future>>>,
}

impl FutureIter {
    pub(super) fn new(future: Py<Future>) -> Self {
        Self { future: GilCell::new(Some(future)) }
    }

    #[inline]
    fn advance<'py>(&self, py: Python<'py>) -> Slim<Sent<'py>> {
        let looked = self.future.with(py, |slot| {
            let (done, blocking) = slot.as_ref()?.get().begin_waiting(py);
            let future = if done { slot.take() } else { slot.as_ref().map(|future| future.clone_ref(py)) };
            future.map(|future| (future.into_bound(py), done, blocking))
        });
        let Some((future, done, blocking)) = looked else {
            return Ok(Sent::Returned(py.None().into_bound(py)));
        };
        if done {
            return Ok(Sent::Returned(future.get().raise_result(py)?));
        }
        if blocking {
            return Err(Box::new(not_awaited()));
        }
        Ok(Sent::Yielded(future.into_any()))
    }
}

#[cold]
fn not_awaited() -> PyErr {
    PyRuntimeError::new_err("await wasn't used with future")
}

impl Future {
    /// One that awaits it goes on: the result, or the future itself, to be yielded to the task.
    ///
    /// # Errors
    /// Its exception; RuntimeError when what it was yielded to has not taken it up.
    #[inline]
    pub fn go_on_waiting<'py>(slf: &Bound<'py, Self>) -> PyResult<Sent<'py>> {
        match slf.get().begin_waiting(slf.py()) {
            (true, _) => slf.get().raise_result(slf.py()).map(Sent::Returned),
            (false, true) => Err(not_awaited()),
            (false, false) => Ok(Sent::Yielded(slf.clone().into_any())),
        }
    }

    /// Whether it is done, and whether it had been yielded and not been taken up; one that is not done is yielded now.
    #[inline]
    fn begin_waiting(&self, py: Python<'_>) -> (bool, bool) {
        self.state.with(py, |state| {
            let (done, blocking) = (state.is_done(), state.blocking);
            state.blocking |= !done;
            (done, blocking)
        })
    }
}

impl Pooled for FutureIter {
    has_pool!((FutureIter,), FutureIter);
    const SPARE: usize = 256;

    #[inline]
    fn release(values: (Self,), py: Python<'_>) {
        if let Some(future) = values.0.future.into_inner() {
            future.drop_ref(py);
        }
        stop_iteration::take_back(py);
    }

    fn install_slots(class: &Bound<'_, PyType>) {
        slots::install_next::<Self>(class);
    }
}

impl Next for FutureIter {
    #[inline]
    fn next<'py>(slf: &Bound<'py, Self>) -> Slim<Option<Bound<'py, PyAny>>> {
        match slf.get().advance(slf.py())? {
            Sent::Yielded(future) => Ok(Some(future)),
            Sent::Returned(value) => {
                stop_iteration::end_iteration(slf, value);
                Ok(None)
            }
        }
    }
}

#[pymethods]
impl FutureIter {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Self::next(slf).map_err(|raised| *raised)
    }

    #[pyo3(signature = (_value, /))]
    fn send<'py>(&self, py: Python<'py>, _value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.advance(py).map_err(|raised| *raised)? {
            Sent::Yielded(future) => Ok(future),
            Sent::Returned(value) => Err(stop_iteration::stop_iteration(py, value)),
        }
    }

    #[pyo3(signature = (typ, val = None, tb = None, /))]
    fn throw(
        &self,
        py: Python<'_>,
        typ: &Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        drop(self.future.take(py));
        Err(thrown(typ, val, tb)?)
    }

    fn close(&self, py: Python<'_>) {
        drop(self.future.take(py));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.future.peek_in_traverse(&visit) {
            Some(future) => visit.call(future),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| drop(self.future.take(py)));
    }
}
