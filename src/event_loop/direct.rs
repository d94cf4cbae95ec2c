//! The direct methods of the loop (`py::direct`): those that run a program's code which a greenlet may leave in the
//! middle.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Loop;
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::direct::{self, Args, Direct, keeps_usual};
use crate::task::{self, Task};

/// `create_task(coro, **keywords)`: PyO3's method, then the first step of a task that starts eagerly, or the call of the
/// task factory.
struct CreateTask;

impl Direct for CreateTask {
    type Class = Loop;
    const NAME: &'static str = "create_task";

    fn call<'py>(slf: &Bound<'py, Loop>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        Some(direct::usual::<Self>(slf, args).and_then(|prepared| go_on(slf, prepared)))
    }

    keeps_usual!();
}

fn go_on<'py>(slf: &Bound<'py, Loop>, prepared: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    match prepared.cast_into::<Task>() {
        Ok(task) => {
            task::begin_eagerly(&task)?;
            Ok(task.into_any())
        }
        // BaseEventLoop knows how this Python calls a factory.
        Err(other) => {
            let keywords = other.into_inner().cast_into::<PyDict>()?;
            asyncio(py)?.helper(py, "create_task_by_factory")?.try_call_with((slf,), &keywords)
        }
    }
}

/// Put them in place; before the class has subclasses.
///
/// # Errors
/// MemoryError.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    direct::stand_before::<CreateTask>(&py.get_type::<Loop>())
}
