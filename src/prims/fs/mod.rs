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
mod pool;
mod stat;

use pyo3::prelude::*;

pub use dir::{DirEntry, ReadDir};
pub use file::File;
pub use opening::Opening;

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
