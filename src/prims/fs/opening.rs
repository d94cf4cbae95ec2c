//! `pyloop.fs.open`: the file that is being opened.

use std::io::{self, Seek};
use std::sync::Arc;

use pyo3::prelude::*;

use super::file::File;
use super::mode::Mode;
use super::path::PathArg;
use super::pool::on_pool;
use crate::bridge::RustFuture;
use crate::py::cell::GilCell;

/// What `open` gives: await it for the file, or enter it for the length of a block, which closes the file.
#[pyclass(frozen, module = "pyloop.fs")]
pub struct Opening {
    path: Arc<PathArg>,
    mode: Mode,
    file: Arc<GilCell<Option<Py<File>>>>,
}

async fn opened(path: Arc<PathArg>, mode: Mode) -> PyResult<Py<File>> {
    let (target, options, appends) = (path.path.clone(), mode.options(), mode.appends());
    let called = on_pool(move || {
        let mut file = options.open(target)?;
        // As io.open does: the kernel opens a directory for reading, and appends wherever the position is.
        if file.metadata()?.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        if appends {
            match file.seek(io::SeekFrom::End(0)) {
                // A pipe has no position.
                Err(failed) if failed.raw_os_error() != Some(libc::ESPIPE) => return Err(failed),
                _ => {}
            }
        }
        Ok(file)
    });
    let called = called.await;
    Python::attach(|py| match called {
        Ok(file) => Py::new(py, File::new(file, path.plain.clone_ref(py), mode)),
        Err(failed) => Err(path.error(py, &failed)),
    })
}

#[pymethods]
impl Opening {
    fn __await__(&self) -> RustFuture {
        let opening = opened(Arc::clone(&self.path), self.mode.clone());
        RustFuture::new("open", async move { Ok(opening.await?.into_any()) })
    }

    fn __aenter__(&self) -> RustFuture {
        let opening = opened(Arc::clone(&self.path), self.mode.clone());
        let slot = Arc::clone(&self.file);
        RustFuture::new("open", async move {
            let file = opening.await?;
            Python::attach(|py| drop(slot.replace(py, Some(file.clone_ref(py)))));
            Ok(file.into_any())
        })
    }

    #[pyo3(signature = (*_args))]
    fn __aexit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) -> RustFuture {
        match self.file.take(py) {
            Some(file) => file.get().close(),
            None => RustFuture::new("close", async { Ok(Python::attach(|py| py.None())) }),
        }
    }
}

/// Open a file: `async with open(path) as file:` or `file = await open(path)`.
///
/// `mode` is that of a binary file: 'rb', 'wb', 'ab' or 'xb', with '+' for reading and writing. Raises ValueError for
/// another, and at the await what `io.open` raises.
#[pyfunction]
#[pyo3(signature = (path, mode = "rb"))]
pub fn open(path: PathArg, mode: &str) -> PyResult<Opening> {
    Ok(Opening { path: Arc::new(path), mode: Mode::parse(mode)?, file: Arc::default() })
}
