//! The fast methods of futures (`py::method`): what asyncio's own locks and queues call per wake.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::class::Future;
use super::state::Outcome;
use crate::py::method::{self, Args, Fast};

/// `set_result(result)`.
struct SetResult;

impl Fast for SetResult {
    type Class = Future;
    const NAME: &'static str = "set_result";

    #[inline]
    fn call<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let py = args.py();
        if args.count() != 1 || !args.is_plain() || slf.get().is_done(py) || slf.get().check_initialized(py).is_err() {
            return None;
        }
        let finished = Future::finish(slf, Outcome::Result(args.get(0).to_owned().unbind()));
        Some(finished.map(|()| py.None().into_bound(py)))
    }

    fn usual() -> &'static PyOnceLock<Py<PyAny>> {
        static USUAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        &USUAL
    }
}

/// `done()`.
struct Done;

impl Fast for Done {
    type Class = Future;
    const NAME: &'static str = "done";

    #[inline]
    fn call<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let py = args.py();
        let plain = args.count() == 0 && args.is_plain();
        plain.then(|| Ok(pyo3::types::PyBool::new(py, slf.get().is_done(py)).to_owned().into_any()))
    }

    fn usual() -> &'static PyOnceLock<Py<PyAny>> {
        static USUAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        &USUAL
    }
}

/// Put the fast methods in place; before the class has subclasses.
///
/// # Errors
/// MemoryError.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Future>();
    method::install::<SetResult>(&class)?;
    method::install::<Done>(&class)
}
