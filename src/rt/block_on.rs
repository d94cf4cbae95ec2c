//! Waiting for a Rust future in a thread that runs nothing else.

use std::future::Future;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::{background, inside};
use crate::py::exit::outlast;
use crate::py::names;

/// Run `future` to its end and wait for it here, with the GIL released: for synchronous callers.
///
/// # Errors
/// RuntimeError on a thread that runs an event loop (await instead, or use `pyloop.run_in_thread`) or a tokio runtime.
pub fn block_on<F>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    refuse_to_block(py, || "await the future, or run it in a helper thread (pyloop.run_in_thread)".to_owned())?;
    let handle = background::handle()?;
    outlast();
    py.detach(|| Ok(handle.block_on(future)))
}

/// An error on a thread where an event loop, or a tokio runtime, would stand still. `instead` is what to do there.
///
/// # Errors
/// RuntimeError, as said.
pub fn refuse_to_block(py: Python<'_>, instead: impl FnOnce() -> String) -> PyResult<()> {
    let stops = if !names::running_loop(py)?.is_none() {
        "event loop"
    } else if inside::is_inside_runtime() {
        "tokio runtime"
    } else {
        return Ok(());
    };
    Err(PyRuntimeError::new_err(format!("this would stop the {stops} that runs in this thread: {}", instead())))
}
