//! Numbers from the caller, as tokio takes them; the answer of what has none.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// `value` if it is one that tokio takes.
pub(super) fn within(value: i64, name: &str, least: usize, most: usize) -> PyResult<usize> {
    match usize::try_from(value) {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ if value < 0 || usize::try_from(value).is_ok_and(|value| value < least) => {
            Err(PyValueError::new_err(format!("{name} must be at least {least}, not {value}")))
        }
        _ => Err(PyValueError::new_err(format!("{name} must be at most {most}, not {value}"))),
    }
}

/// None, for a poll.
pub(super) fn none() -> Py<PyAny> {
    Python::attach(|py| py.None())
}
