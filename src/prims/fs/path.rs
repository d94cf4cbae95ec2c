//! Paths and data on their way from Python and back, and the errors about them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::prelude::OsStrExt;
use std::path::{Path, PathBuf};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyMemoryView};

use crate::py::call::Object;
use crate::py::error;

/// A path as the caller gave it: str, bytes, or an `os.PathLike` of one of them.
pub struct PathArg {
    pub path: PathBuf,
    /// What `os.fspath` made of it: the `filename` of errors.
    pub plain: Py<PyAny>,
    /// Whether answers are bytes.
    pub kind: Kind,
}

/// What a path is in Python: answers are of the kind of the question, as in the os module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Str,
    Bytes,
}

impl Kind {
    /// `os.fsdecode` (undecodable bytes as surrogates), or the bytes as they are.
    pub fn object(self, py: Python<'_>, text: &OsStr) -> PyResult<Py<PyAny>> {
        match self {
            Self::Str => Ok(text.into_pyobject(py)?.into_any().unbind()),
            Self::Bytes => Ok(PyBytes::new(py, text.as_bytes()).into_any().unbind()),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for PathArg {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let plain = py.import(pyo3::intern!(py, "os"))?.try_call_method(pyo3::intern!(py, "fspath"), (object,))?;
        let (path, kind) = match plain.cast::<PyBytes>() {
            Ok(bytes) => (PathBuf::from(OsStr::from_bytes(bytes.as_bytes())), Kind::Bytes),
            Err(_) => (PathBuf::from(plain.extract::<OsString>()?), Kind::Str),
        };
        if path.as_os_str().as_bytes().contains(&0) {
            return Err(PyValueError::new_err("embedded null byte"));
        }
        Ok(Self { path, plain: plain.unbind(), kind })
    }
}

impl PathArg {
    pub fn error(&self, py: Python<'_>, failed: &io::Error) -> PyErr {
        error::os_error_about(failed, self.plain.clone_ref(py), None)
    }

    pub fn error_of_two(&self, other: &Self, py: Python<'_>, failed: &io::Error) -> PyErr {
        error::os_error_about(failed, self.plain.clone_ref(py), Some(other.plain.clone_ref(py)))
    }

    pub fn object(&self, py: Python<'_>, path: &Path) -> PyResult<Py<PyAny>> {
        self.kind.object(py, path.as_os_str())
    }
}

/// Bytes to be written: those of a `bytes` object itself, of anything else a copy of now.
pub struct Data(pub PyBackedBytes);

impl<'py> FromPyObject<'_, 'py> for Data {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = object.cast::<PyBytes>() {
            return Ok(Self(bytes.to_owned().into()));
        }
        let view = PyMemoryView::from(&object)?;
        Ok(Self(view.try_call_method("tobytes", ())?.cast_into::<PyBytes>()?.into()))
    }
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
