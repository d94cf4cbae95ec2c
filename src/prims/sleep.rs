//! `pyloop.sleep`: a Rust future on tokio's timer.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::bridge::RustFuture;

/// Complete after `seconds` with `result`, on tokio's timer (milliseconds, never early). Not positive: after one turn.
///
/// Polled in place by the awaiting task; on other loops than pyloop's through a background runtime.
///
/// Raises ValueError for NaN.
#[pyfunction]
#[pyo3(signature = (seconds, result = None))]
pub fn sleep(seconds: f64, result: Option<Py<PyAny>>) -> PyResult<RustFuture> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid delay: NaN (not a number)"));
    }
    // tokio takes what is too far away for "never soon": some 2 years.
    let delay = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    Ok(RustFuture::new("sleep", async move {
        if delay.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(delay).await;
        }
        Ok(Python::attach(|py| result.unwrap_or_else(|| py.None())))
    }))
}
