//! The functions of `pyloop.fs` that take paths: each one call on the pool.

use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt};

use super::path::{Data, PathArg};
use super::pool::{copied, on_pool};
use super::stat::stat_result;
use crate::bridge::RustFuture;

/// A call about one path.
fn about<T: Send>(
    name: &'static str,
    path: PathArg,
    call: impl Future<Output = io::Result<T>> + Send + 'static,
    answer: impl FnOnce(Python<'_>, T, &PathArg) -> PyResult<Py<PyAny>> + Send + 'static,
) -> RustFuture {
    RustFuture::new(name, async move {
        let called = call.await;
        Python::attach(|py| match called {
            Ok(value) => answer(py, value, &path),
            Err(failed) => Err(path.error(py, &failed)),
        })
    })
}

/// A call about two paths.
fn about_two<T: Send>(
    name: &'static str,
    (from, to): (PathArg, PathArg),
    call: impl Future<Output = io::Result<T>> + Send + 'static,
    answer: impl FnOnce(Python<'_>, T) -> Py<PyAny> + Send + 'static,
) -> RustFuture {
    RustFuture::new(name, async move {
        let called = call.await;
        Python::attach(|py| match called {
            Ok(value) => Ok(answer(py, value)),
            Err(failed) => Err(from.error_of_two(&to, py, &failed)),
        })
    })
}

#[expect(clippy::unnecessary_wraps, reason = "an `answer` of `about`")]
fn nothing(py: Python<'_>, _done: (), _path: &PathArg) -> PyResult<Py<PyAny>> {
    Ok(py.None())
}

fn number(py: Python<'_>, count: u64) -> Py<PyAny> {
    PyInt::new(py, count).into_any().unbind()
}

/// The whole content of a file, as bytes.
#[pyfunction]
pub fn read(path: PathArg) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || fs::read(target));
    about("read", path, call, |py, data, _| Ok(copied(py, &data)?.into_any().unbind()))
}

/// Make a file's content these bytes, and say how many; an existing file is truncated first.
///
/// Cancelled before it was awaited: nothing is written. Later: all is, without anybody waiting for it.
#[pyfunction]
pub fn write(path: PathArg, data: Data) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || {
        fs::write(target, &data)?;
        Ok(data.as_ref().len() as u64)
    });
    about("write", path, call, |py, count, _| Ok(number(py, count)))
}

/// `os.stat`; of a symbolic link itself with `follow_symlinks=False`.
#[pyfunction]
#[pyo3(signature = (path, *, follow_symlinks = true))]
pub fn metadata(path: PathArg, follow_symlinks: bool) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || if follow_symlinks { fs::metadata(target) } else { fs::symlink_metadata(target) });
    about("metadata", path, call, |py, found, _| stat_result(py, &found))
}

/// `os.path.exists`: False as well when one may not look.
#[pyfunction]
pub fn exists(path: PathArg) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || Ok(fs::metadata(target).is_ok()));
    about("exists", path, call, |py, found, _| Ok(PyBool::new(py, found).to_owned().into_any().unbind()))
}

/// `os.mkdir`.
#[pyfunction]
pub fn create_dir(path: PathArg) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || fs::create_dir(target));
    about("create_dir", path, call, nothing)
}

/// `os.makedirs(path, exist_ok=True)`.
#[pyfunction]
pub fn create_dir_all(path: PathArg) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || fs::create_dir_all(target));
    about("create_dir_all", path, call, nothing)
}

/// `os.remove`.
#[pyfunction]
pub fn remove_file(path: PathArg) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || fs::remove_file(target));
    about("remove_file", path, call, nothing)
}

/// `os.rmdir`: an empty directory.
#[pyfunction]
pub fn remove_dir(path: PathArg) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || fs::remove_dir(target));
    about("remove_dir", path, call, nothing)
}

/// `shutil.rmtree`: a directory and what is in it. Symbolic links are removed, not followed.
#[pyfunction]
pub fn remove_dir_all(path: PathArg) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || fs::remove_dir_all(target));
    about("remove_dir_all", path, call, nothing)
}

/// `os.replace`: what is at `dst` is replaced.
#[pyfunction]
pub fn rename(src: PathArg, dst: PathArg) -> RustFuture {
    let (from, to) = (src.path.clone(), dst.path.clone());
    let call = on_pool(move || fs::rename(from, to));
    about_two("rename", (src, dst), call, |py, ()| py.None())
}

/// Copy a file's content and permissions, and say how many bytes they were.
#[pyfunction]
pub fn copy(src: PathArg, dst: PathArg) -> RustFuture {
    let (from, to) = (src.path.clone(), dst.path.clone());
    let call = on_pool(move || fs::copy(from, to));
    about_two("copy", (src, dst), call, number)
}

/// `os.path.realpath(path, strict=True)`.
#[pyfunction]
pub fn canonicalize(path: PathArg) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || fs::canonicalize(target));
    about("canonicalize", path, call, |py, real, asked| asked.object(py, &real))
}

/// `os.symlink`: `dst` becomes a link that points to `src`.
#[pyfunction]
pub fn symlink(src: PathArg, dst: PathArg) -> RustFuture {
    let (from, to) = (src.path.clone(), dst.path.clone());
    let call = on_pool(move || std::os::unix::fs::symlink(from, to));
    about_two("symlink", (src, dst), call, |py, ()| py.None())
}

/// `os.link`: `dst` becomes another name of `src`.
#[pyfunction]
pub fn hard_link(src: PathArg, dst: PathArg) -> RustFuture {
    let (from, to) = (src.path.clone(), dst.path.clone());
    let call = on_pool(move || fs::hard_link(from, to));
    about_two("hard_link", (src, dst), call, |py, ()| py.None())
}

/// `os.readlink`.
#[pyfunction]
pub fn read_link(path: PathArg) -> RustFuture {
    let target = path.path.clone();
    let call = on_pool(move || fs::read_link(target));
    about("read_link", path, call, |py, target, asked| asked.object(py, &target))
}

/// `os.chmod`: `mode` as 0o644.
///
/// Raises ValueError for what is no mode.
#[pyfunction]
pub fn set_permissions(path: PathArg, mode: i64) -> PyResult<RustFuture> {
    let mode = u32::try_from(mode)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| PyValueError::new_err("mode must be between 0 and 0o7777"))?;
    let target = path.path.clone();
    let call = on_pool(move || fs::set_permissions(target, Permissions::from_mode(mode)));
    Ok(about("set_permissions", path, call, nothing))
}
