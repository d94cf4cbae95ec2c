//! `pyloop.fs`: tokio's file system calls for Python.
//!
//! The calls are made by tokio's pool of blocking threads, which never take the GIL: paths go there as `PathBuf`, data
//! as bytes that nobody changes, answers come back as Rust values and become Python objects in the awaiting task's
//! step. An error is the OSError that the `os` module raises for the same call.
//!
//! What the pool has begun it ends: cancelling the task stops the waiting, not the call.

mod dir;
mod file;
mod mode;
mod opening;
mod ops;
mod path;
mod stat;

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tokio::task::JoinError;

pub use dir::{DirEntry, ReadDir};
pub use file::File;
pub use opening::Opening;

/// These bytes as Python's. What is large may be too much for the process, where PyO3's plain way is a panic.
fn copied<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    const LARGE: usize = 1024 * 1024;
    if data.len() < LARGE {
        return Ok(PyBytes::new(py, data));
    }
    PyBytes::new_with_writer(py, data.len(), |writer| Ok(writer.write_all(data)?))
}

/// Run `call` on the pool.
///
/// # Panics
/// tokio's panic when no thread can be started (RuntimeError to Python). It has queued the call all the same, which does
/// nothing then.
async fn on_pool<T: Send + 'static>(call: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
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
fn joined<T>(ended: Result<io::Result<T>, JoinError>) -> io::Result<T> {
    match ended {
        Ok(answer) => answer,
        Err(failed) if failed.is_panic() => resume_unwind(failed.into_panic()),
        Err(_) => Err(io::Error::other("the event loop was closed before the call was made")),
    }
}

/// The module `pyloop._fs`.
///
/// # Errors
/// What making the classes raises.
pub(crate) fn module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let module = PyModule::new(py, "pyloop._fs")?;
    module.add_class::<File>()?;
    module.add_class::<Opening>()?;
    module.add_class::<ReadDir>()?;
    module.add_class::<DirEntry>()?;
    module.add_function(wrap_pyfunction!(opening::open, &module)?)?;
    module.add_function(wrap_pyfunction!(dir::read_dir, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::read, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::write, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::metadata, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::exists, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::create_dir, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::create_dir_all, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::remove_file, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::remove_dir, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::remove_dir_all, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::rename, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::copy, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::canonicalize, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::symlink, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::hard_link, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::read_link, &module)?)?;
    module.add_function(wrap_pyfunction!(ops::set_permissions, &module)?)?;
    Ok(module)
}
