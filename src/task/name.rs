//! Task names: a number until somebody asks, then asyncio's "Task-N".

use std::sync::atomic::{AtomicU64, Ordering};

use crate::py::call::Object;
use pyo3::prelude::*;
use pyo3::types::PyString;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// The name of a task.
#[derive(Debug)]
pub enum Name {
    Number(u64),
    Given(Py<PyString>),
}

impl Name {
    /// The name given, or the next number.
    pub fn new(given: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        match given {
            Some(name) if !name.is_none() => Ok(Self::Given(name.try_str()?.unbind())),
            _ => Ok(Self::Number(NEXT.fetch_add(1, Ordering::Relaxed))),
        }
    }

    pub fn to_python(&self, py: Python<'_>) -> Py<PyString> {
        match self {
            Self::Number(number) => PyString::new(py, &format!("Task-{number}")).unbind(),
            Self::Given(name) => name.clone_ref(py),
        }
    }
}
