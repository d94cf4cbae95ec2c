//! tokio's pool of blocking threads: what runs there, and how its answers come back.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::task::JoinError;

use crate::sched::virtual_time::Held;

/// These bytes as Python's. What is large may be too much for the process, where PyO3's plain way is a panic.
pub(super) fn copied<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    const LARGE: usize = 1024 * 1024;
    if data.len() < LARGE {
        return Ok(PyBytes::new(py, data));
    }
    PyBytes::new_with_writer(py, data.len(), |writer| Ok(writer.write_all(data)?))
}

/// Run `call` on the pool.
///
/// # Panics
/// tokio's panic when no thread can be started (RuntimeError to Python). It has queued the call all the same, which
/// does nothing then.
pub(super) async fn on_pool<T: Send + 'static>(call: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let _held = Held::here();
    let refused = Arc::new(AtomicBool::new(false));
    let is_refused = Arc::clone(&refused);
    let call = move || if is_refused.load(Ordering::SeqCst) { Err(io::ErrorKind::Interrupted.into()) } else { call() };
    let started = catch_unwind(AssertUnwindSafe(|| tokio::task::spawn_blocking(call)));
    let started = started.unwrap_or_else(|panicked| {
        refused.store(true, Ordering::SeqCst);
        resume_unwind(panicked)
    });
    joined(started.await)
}

/// What a call on the pool came to. Its panic goes on here, and arrives as any panic of a Rust future.
pub(super) fn joined<T>(ended: Result<io::Result<T>, JoinError>) -> io::Result<T> {
    match ended {
        Ok(answer) => answer,
        Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
        Err(_) => Err(io::Error::other("the event loop was closed before the call was made")),
    }
}
