//! `pyloop.sleep`: a Rust future on tokio's timer.

use std::future::poll_fn;
use std::mem::replace;
use std::task::Poll;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::virtual_sleep::Sleeping;
use crate::bridge::RustFuture;
use crate::py::call::Number;
use crate::rt::driver_use::DriverUse;

/// Complete after `seconds` with `result`, on tokio's timer (milliseconds, never early). Not positive: after one turn.
///
/// Polled in place by the awaiting task; on other loops than pyloop's through a background runtime.
///
/// Raises ValueError for NaN.
#[pyfunction]
#[pyo3(signature = (seconds, result = None))]
pub fn sleep(seconds: Number, result: Option<Py<PyAny>>) -> PyResult<RustFuture> {
    let Number(seconds) = seconds;
    if seconds.is_nan() {
        return Err(PyValueError::new_err("Invalid delay: NaN (not a number)"));
    }
    // tokio takes what is too far away for "never soon": some 2 years.
    let delay = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    let sleeping = async move {
        if delay.is_zero() {
            one_turn().await;
        } else if let Some(sleeping) = Sleeping::begin(delay)? {
            sleeping.await;
        } else {
            let _use = DriverUse::begin();
            tokio::time::sleep(delay).await;
        }
        Ok(())
    };
    let finish = |slept: PyResult<()>, result: Option<Py<PyAny>>| {
        slept.map(|()| result.unwrap_or_else(|| Python::attach(|py| py.None())))
    };
    Ok(RustFuture::holding("sleep", result, sleeping, finish))
}

/// To the back of the queue, as `asyncio.sleep(0)`. tokio's `yield_now` is woken after a look at the driver: a busy
/// loop has many turns between two of them.
async fn one_turn() {
    let mut yielded = false;
    poll_fn(|cx| {
        if replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
