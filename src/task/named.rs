//! A task's next step as an object that Python can call: what asyncio gives to `loop.call_soon`. For loops that are not
//! ours, and for ours when somebody has replaced what asyncio calls by name (`sched::replaced`).

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::object::Task;
use super::state::Wait;
use crate::core::ready::Lane;
use crate::future::callbacks::{TaskWakeup, Wakeup};
use crate::py::call::Object;
use crate::sched::handle::Parts;

/// What is called in the end (`drive`).
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// Make the step.
    pub step: Step,
    /// The same when one of our futures is done that the task waited for.
    pub wake: Wakeup,
}

type Step = for<'py> fn(&Bound<'py, Task>) -> PyResult<()>;

/// A step (kept from asyncio: its name).
#[pyclass(frozen, name = "TaskStepMethWrapper", module = "pyloop._native")]
pub struct StepCall {
    task: Py<Task>,
    step: Step,
}

#[pymethods]
impl StepCall {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        (self.step)(self.task.bind(py))
    }

    #[getter]
    fn __self__(&self, py: Python<'_>) -> Py<Task> {
        self.task.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.task)
    }
}

/// The callable, its arguments and its context.
pub(super) fn step_of<'py>(task: &Bound<'py, Task>, steps: Steps) -> PyResult<Parts<'py>> {
    let (py, this) = (task.py(), task.get());
    let context = Some(this.context(py)?);
    let woken = this.state.with(py, |state| match &state.wait {
        Wait::Woken(future) => Some(future.clone_ref(py)),
        _ => None,
    });
    let (callable, args) = match woken {
        Some(future) => {
            let wakeup = TaskWakeup::new(task.clone().into_any().unbind(), Some(steps.wake));
            (Bound::new(py, wakeup)?.into_any(), Some(PyTuple::new(py, [future])?))
        }
        None => (Bound::new(py, StepCall { task: task.clone().unbind(), step: steps.step })?.into_any(), None),
    };
    Ok(Parts { callable, args, context })
}

/// `loop.call_soon(step, context=context)`.
#[cold]
pub(super) fn schedule(task: &Bound<'_, Task>, event_loop: &Bound<'_, PyAny>, steps: Steps) -> PyResult<()> {
    let py = task.py();
    let Parts { callable, args, context } = step_of(task, steps)?;
    let keywords = PyDict::new(py);
    keywords.set_item(pyo3::intern!(py, "context"), context)?;
    let call_soon = event_loop.try_getattr(pyo3::intern!(py, "call_soon"))?;
    // What it gives back is nobody's business, as in asyncio.
    match args {
        Some(args) => call_soon.try_call_with((callable, args.get_item(0)?), &keywords).map(drop),
        None => call_soon.try_call_with((callable,), &keywords).map(drop),
    }
}

/// The lane for what `call_soon` is given: that of the task whose step it is.
pub(crate) fn lane_of(callback: &Bound<'_, PyAny>) -> Lane {
    task_of(callback).map_or(Lane::Normal, |task| task.get().state.with(task.py(), |state| state.lane))
}

/// The task whose step this is.
pub(super) fn task_of<'py>(callback: &Bound<'py, PyAny>) -> Option<Bound<'py, Task>> {
    let py = callback.py();
    let task = match (callback.cast_exact::<StepCall>(), callback.cast_exact::<TaskWakeup>()) {
        (Ok(step), _) => step.get().task.clone_ref(py).into_any(),
        (_, Ok(wakeup)) => wakeup.get().task(py),
        _ => return None,
    };
    task.into_bound(py).cast_into::<Task>().ok()
}
