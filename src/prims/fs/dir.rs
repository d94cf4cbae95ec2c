//! `pyloop.fs.read_dir`: the entries of a directory, read by the pool in batches.
//!
//! The batch under way belongs to the reader, not to the task that waits for it: cancelling an iteration's step loses
//! no entry.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, spawn_blocking};

use super::path::{Kind, PathArg};
use super::pool::joined;
use super::stat::stat_result;
use crate::bridge::RustFuture;
use crate::py::call::Object;
use crate::py::error;
use crate::sched::virtual_time::Held;

/// How many entries one trip to the pool brings.
const BATCH: usize = 64;

/// An entry as the pool has found it.
struct Found {
    name: OsString,
    path: PathBuf,
    inode: u64,
    is_symlink: bool,
    /// What it is, links followed; an error number for one that cannot be.
    target: Result<Target, i32>,
}

/// What an entry is: a directory, a regular file, or neither.
#[derive(Clone, Copy, Default)]
struct Target {
    is_dir: bool,
    is_file: bool,
}

impl Found {
    fn new(entry: &fs::DirEntry) -> io::Result<Self> {
        let own = entry.file_type()?;
        let path = entry.path();
        let target = |kind: fs::FileType| Target { is_dir: kind.is_dir(), is_file: kind.is_file() };
        let target = if own.is_symlink() {
            match fs::metadata(&path) {
                Ok(found) => Ok(target(found.file_type())),
                // It leads nowhere.
                Err(failed) if failed.kind() == io::ErrorKind::NotFound => Ok(Target::default()),
                Err(failed) => Err(failed.raw_os_error().unwrap_or(libc::EIO)),
            }
        } else {
            Ok(target(own))
        };
        Ok(Self { name: entry.file_name(), inode: entry.ino(), is_symlink: own.is_symlink(), target, path })
    }
}

type Batch = io::Result<(VecDeque<Found>, Option<fs::ReadDir>)>;

enum Source {
    /// Not opened yet.
    Path(PathBuf),
    Open(fs::ReadDir),
    /// The pool is reading.
    Reading(JoinHandle<Batch>),
    Over,
}

struct Reading {
    source: Source,
    found: VecDeque<Found>,
}

fn read_batch(source: Source) -> Batch {
    let mut entries = match source {
        Source::Path(path) => fs::read_dir(path)?,
        Source::Open(entries) => entries,
        Source::Reading(_) | Source::Over => return Ok((VecDeque::new(), None)),
    };
    let mut found = VecDeque::with_capacity(BATCH);
    while found.len() < BATCH {
        match entries.next() {
            Some(entry) => found.push_back(Found::new(&entry?)?),
            None => return Ok((found, None)),
        }
    }
    Ok((found, Some(entries)))
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<Found>> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Ok(Some(found));
            }
            let reading = match std::mem::replace(&mut self.source, Source::Over) {
                Source::Over => return Ok(None),
                Source::Reading(reading) => reading,
                source => spawn_blocking(move || read_batch(source)),
            };
            self.source = Source::Reading(reading);
            let Source::Reading(reading) = &mut self.source else { return Ok(None) };
            let batch = reading.await;
            self.source = Source::Over;
            let (found, rest) = joined(batch)?;
            self.found = found;
            if let Some(rest) = rest {
                self.source = Source::Open(rest);
            }
        }
    }
}

/// The entries of a directory: `async for entry in read_dir(path)`, once, in no particular order.
#[pyclass(frozen, module = "pyloop.fs", name = "ReadDir", generic)]
pub struct ReadDir {
    directory: Arc<(PathArg, Mutex<Reading>)>,
}

#[pymethods]
impl ReadDir {
    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(&self) -> RustFuture {
        let directory = Arc::clone(&self.directory);
        RustFuture::new("__anext__", async move {
            let _held = Held::here();
            let (path, reading) = &*directory;
            let next = reading.lock().await.next().await;
            Python::attach(|py| match next {
                Ok(Some(found)) => Ok(Py::new(py, DirEntry { found, kind: path.kind })?.into_any()),
                Ok(None) => Err(PyStopAsyncIteration::new_err(())),
                Err(failed) => Err(path.error(py, &failed)),
            })
        })
    }
}

/// An entry of a directory: an `os.PathLike`.
#[pyclass(frozen, module = "pyloop.fs", generic)]
pub struct DirEntry {
    found: Found,
    kind: Kind,
}

#[pymethods]
impl DirEntry {
    /// Its name in the directory; bytes when the directory's path was.
    #[getter]
    fn name(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.kind.object(py, &self.found.name)
    }

    /// The directory's path joined with the name.
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.kind.object(py, self.found.path.as_os_str())
    }

    fn __fspath__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.path(py)
    }

    /// Whether it was a directory when it was read, or a symbolic link to one. Raises OSError for a link that could not
    /// be followed; one that leads nowhere is neither a directory nor a file.
    fn is_dir(&self, py: Python<'_>) -> PyResult<bool> {
        self.target(py).map(|target| target.is_dir)
    }

    /// Whether it was a regular file when it was read, or a symbolic link to one. Raises as `is_dir`.
    fn is_file(&self, py: Python<'_>) -> PyResult<bool> {
        self.target(py).map(|target| target.is_file)
    }

    /// Whether it was a symbolic link when it was read.
    fn is_symlink(&self) -> bool {
        self.found.is_symlink
    }

    /// Its inode number.
    fn inode(&self) -> u64 {
        self.found.inode
    }

    /// `os.stat` of it, as it is now; of a symbolic link itself with `follow_symlinks=False`.
    #[pyo3(signature = (*, follow_symlinks = true))]
    fn metadata(&self, follow_symlinks: bool) -> RustFuture {
        let (path, kind) = (self.found.path.clone(), self.kind);
        RustFuture::new("metadata", async move {
            let found = if follow_symlinks {
                tokio::fs::metadata(&path).await
            } else {
                tokio::fs::symlink_metadata(&path).await
            };
            Python::attach(|py| match found {
                Ok(found) => stat_result(py, &found),
                Err(failed) => Err(error::os_error_about(&failed, kind.object(py, path.as_os_str())?, None)),
            })
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<DirEntry {}>", self.name(py)?.bind(py).try_repr()?))
    }
}

impl DirEntry {
    fn target(&self, py: Python<'_>) -> PyResult<Target> {
        self.found.target.or_else(|code| {
            let failed = io::Error::from_raw_os_error(code);
            Err(error::os_error_about(&failed, self.path(py)?, None))
        })
    }
}

/// The entries of a directory, for `async for`. What is wrong with the path is raised by the first step.
#[pyfunction]
pub fn read_dir(path: PathArg) -> ReadDir {
    let source = Source::Path(path.path.clone());
    ReadDir { directory: Arc::new((path, Mutex::new(Reading { source, found: VecDeque::new() }))) }
}
