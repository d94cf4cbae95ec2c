//! What stands in for the accelerations in a build for many Pythons (`abi3`): their plain paths, as far as a client
//! needs them. Nothing here knows anyone's insides, so nothing is tried and nothing can be switched off.

use pyo3::prelude::*;
use pyo3::{PyClass, PyClassInitializer};

use crate::py::require_main_for_futures;

/// A new instance, which PyO3 makes and frees.
///
/// # Errors
/// MemoryError; RuntimeError in a subinterpreter.
pub fn create_late<T>(py: Python<'_>, make: impl FnOnce() -> (T,)) -> PyResult<Bound<'_, T>>
where
    T: PyClass + Into<PyClassInitializer<T>>,
{
    require_main_for_futures(py)?;
    Bound::new(py, make().0)
}

/// Ending an iteration with a value: each time by a StopIteration of its own.
pub mod stop_iteration {
    use pyo3::prelude::*;

    use crate::py::{error, iter};

    /// `raise StopIteration(value)`, as a coroutine's `return value`: the error that `send` gives back.
    pub fn stop_iteration(py: Python<'_>, value: Bound<'_, PyAny>) -> PyErr {
        iter::raise_stop(&value);
        error::fetch(py)
    }

    /// The same for `__next__`, which then gives PyO3's "no more items" (all there is to do for None).
    #[inline]
    pub fn end_iteration<T>(_iterator: &Bound<'_, T>, value: Bound<'_, PyAny>) {
        if !value.is_none() {
            iter::raise_stop(&value);
        }
    }
}
