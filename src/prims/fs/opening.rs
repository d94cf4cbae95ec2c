//! `pyloop.fs.open`: modes, and the file that is being opened.

use std::fs::OpenOptions;
use std::io::{self, Seek};
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::file::File;
use super::on_pool;
use super::path::PathArg;
use crate::bridge::RustFuture;
use crate::py::cell::GilCell;

/// What a file is opened for.
#[derive(Clone, Debug)]
pub struct Mode {
    /// As Python's io shows it: "rb+" for "r+b", and for "w+b" before CPython 3.15.
    pub text: &'static str,
    /// r, w, a or x.
    kind: char,
    pub reads: bool,
    pub writes: bool,
}

impl Mode {
    fn parse(text: &str) -> PyResult<Self> {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        let sorted: String = letters.into_iter().collect();
        let (text, kind, reads, writes) = match sorted.as_str() {
            "br" => ("rb", 'r', true, false),
            "bw" => ("wb", 'w', false, true),
            "ab" => ("ab", 'a', false, true),
            "bx" => ("xb", 'x', false, true),
            "+br" => ("rb+", 'r', true, true),
            // io shows no difference.
            "+bw" => (if cfg!(Py_3_15) { "wb+" } else { "rb+" }, 'w', true, true),
            "+ab" => ("ab+", 'a', true, true),
            "+bx" => ("xb+", 'x', true, true),
            text if !text.contains('b') => {
                return Err(PyValueError::new_err(format!(
                    "mode {text:?} is for text: pyloop.fs.open() opens binary files ('rb', 'wb', ...); read_text() and \
                     write_text() do text"
                )));
            }
            _ => return Err(PyValueError::new_err(format!("invalid mode: {text:?}"))),
        };
        Ok(Self { text, kind, reads, writes })
    }

    fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(self.reads);
        match self.kind {
            'w' => options.write(true).create(true).truncate(true),
            'a' => options.append(true).create(true),
            'x' => options.write(true).create_new(true),
            _ => options.write(self.writes),
        };
        options
    }
}

/// What `open` gives: await it for the file, or enter it for the length of a block, which closes the file.
#[pyclass(frozen, module = "pyloop.fs")]
pub struct Opening {
    path: Arc<PathArg>,
    mode: Mode,
    file: Arc<GilCell<Option<Py<File>>>>,
}

async fn opened(path: Arc<PathArg>, mode: Mode) -> PyResult<Py<File>> {
    let (target, options, appends) = (path.path.clone(), mode.options(), mode.kind == 'a');
    let called = on_pool(move || {
        let mut file = options.open(target)?;
        // As io.open does: the kernel opens a directory for reading, and appends wherever the position is.
        if file.metadata()?.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        if appends {
            // A pipe has no position.
            let _end = file.seek(io::SeekFrom::End(0));
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
