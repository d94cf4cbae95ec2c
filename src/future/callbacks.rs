//! Who waits for a future: in order of arrival, one of them without an allocation.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::sched::hooks::WakeTask;

/// One that waits.
#[derive(Debug)]
pub enum Waiter {
    /// `add_done_callback(callable, context=context)`; `shared`: the context is a snapshot (`sched::snapshots`).
    Call { callable: Py<PyAny>, context: Py<PyAny>, shared: bool },
    /// A task of ours whose next step this is.
    Task { task: Py<PyAny>, wake: WakeTask },
}

impl Waiter {
    /// Whether this is the callback that `remove_done_callback` means is decided by equality, in the caller; this is
    /// the callable to compare with.
    pub fn callable(&self) -> Option<&Py<PyAny>> {
        match self {
            Self::Call { callable, .. } => Some(callable),
            Self::Task { .. } => None,
        }
    }
}

/// What a woken task does: `wake(task, future)`.
pub type Wakeup = for<'py> fn(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<()>;

/// A waiting task as a done callback: given to futures that are not ours, and shown for those that are.
#[pyclass(frozen, module = "pyloop._native")]
pub struct TaskWakeup {
    task: Py<PyAny>,
    wakeup: Option<Wakeup>,
}

impl TaskWakeup {
    pub fn new(task: Py<PyAny>, wakeup: Option<Wakeup>) -> Self {
        Self { task, wakeup }
    }

    pub fn task(&self, py: Python<'_>) -> Py<PyAny> {
        self.task.clone_ref(py)
    }
}

#[pymethods]
impl TaskWakeup {
    fn __call__(&self, py: Python<'_>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.wakeup {
            Some(wakeup) => wakeup(self.task.bind(py), future),
            None => Ok(()),
        }
    }

    #[getter]
    fn __self__(&self, py: Python<'_>) -> Py<PyAny> {
        self.task.clone_ref(py)
    }

    /// As asyncio's reports call it; its own representation would be the task's, which shows the future again.
    #[getter]
    #[allow(clippy::unused_self, reason = "a property")]
    fn __qualname__(&self) -> &'static str {
        "Task.task_wakeup"
    }

    #[getter]
    #[allow(clippy::unused_self, reason = "a property")]
    fn __name__(&self) -> &'static str {
        "task_wakeup"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.task)
    }
}

/// The waiters of one future.
#[derive(Debug, Default)]
pub enum Waiters {
    #[default]
    None,
    One(Waiter),
    /// Boxed: few futures have many, and a million pending ones are to be small.
    #[expect(clippy::box_collection, reason = "a vector is three words, a box one")]
    Many(Box<Vec<Waiter>>),
}

impl Waiters {
    #[inline(always)]
    pub fn push(&mut self, waiter: Waiter) {
        if let Self::None = self {
            *self = Self::One(waiter);
        } else {
            self.push_one_more(waiter);
        }
    }

    fn push_one_more(&mut self, waiter: Waiter) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(waiter),
            Self::One(first) => Self::Many(Box::new(vec![first, waiter])),
            Self::Many(mut all) => {
                all.push(waiter);
                Self::Many(all)
            }
        };
    }

    pub fn as_slice(&self) -> &[Waiter] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(all) => all,
        }
    }

    pub fn into_vec(self) -> Vec<Waiter> {
        match self {
            Self::None => Vec::new(),
            Self::One(one) => vec![one],
            Self::Many(all) => *all,
        }
    }
}
