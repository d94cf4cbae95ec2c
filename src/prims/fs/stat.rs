//! `os.stat_result` of what the pool has found out.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use crate::py::call::Object;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// `os.stat_result`, as `os.stat` would give it.
pub fn stat_result(py: Python<'_>, found: &Metadata) -> PyResult<Py<PyAny>> {
    // As CPython's fill_time.
    let seconds = |whole: i64, nanoseconds: i64| whole as f64 + 1e-9 * nanoseconds as f64;
    let nanoseconds = |whole: i64, nanoseconds: i64| i128::from(whole) * 1_000_000_000 + i128::from(nanoseconds);
    let visible = (
        found.mode(),
        found.ino(),
        found.dev(),
        found.nlink(),
        found.uid(),
        found.gid(),
        found.size(),
        found.atime(),
        found.mtime(),
        found.ctime(),
    );
    let named = PyDict::new(py);
    named.set_item("st_atime", seconds(found.atime(), found.atime_nsec()))?;
    named.set_item("st_mtime", seconds(found.mtime(), found.mtime_nsec()))?;
    named.set_item("st_ctime", seconds(found.ctime(), found.ctime_nsec()))?;
    named.set_item("st_atime_ns", nanoseconds(found.atime(), found.atime_nsec()))?;
    named.set_item("st_mtime_ns", nanoseconds(found.mtime(), found.mtime_nsec()))?;
    named.set_item("st_ctime_ns", nanoseconds(found.ctime(), found.ctime_nsec()))?;
    named.set_item("st_blksize", found.blksize())?;
    named.set_item("st_blocks", found.blocks())?;
    named.set_item("st_rdev", found.rdev())?;
    Ok(py.import("os")?.try_getattr("stat_result")?.try_call((visible, named))?.unbind())
}
