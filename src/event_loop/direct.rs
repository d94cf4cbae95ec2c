//! The direct methods of the loop (`py::direct`): those that run a program's code which a greenlet may leave in the
//! middle.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Loop, above};
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::direct::{self, Args, Direct, keeps_usual};
use crate::sched::state::Making;
use crate::task::{self, Task};

/// `create_task(coro, **keywords)`: PyO3's method, then the first step of a task that starts eagerly, or the call of
/// the task factory, or of what somebody has put into BaseEventLoop.
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
        Err(other) => {
            let other = other.into_inner();
            if let Ok((keywords, making)) = other.extract::<(Bound<'_, PyDict>, Option<(Bound<'_, PyAny>, bool)>)>() {
                let making = match making {
                    Some((lane, eager)) => Some(Making { lane: above::lane_of(Some(&lane))?, eager }),
                    None => None,
                };
                return above::create_task(slf.as_super(), &keywords, making);
            }
            // BaseEventLoop knows how this Python calls a factory.
            let keywords = other.cast_into::<PyDict>()?;
            asyncio(py)?.helper(py, "create_task_by_factory")?.try_call_with((slf,), &keywords)
        }
    }
}

/// `_new_task(loop, coro, **keywords)`: the same of the task factory that BaseEventLoop is given then.
struct NewTask;

impl Direct for NewTask {
    type Class = Loop;
    const NAME: &'static str = "_new_task";

    fn call<'py>(slf: &Bound<'py, Loop>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        Some(direct::usual::<Self>(slf, args).and_then(|made| go_on(slf, made)))
    }

    keeps_usual!();
}

/// Put them in place; before the class has subclasses.
///
/// # Errors
/// MemoryError.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    direct::stand_before::<CreateTask>(&py.get_type::<Loop>())?;
    direct::stand_before::<NewTask>(&py.get_type::<Loop>())
}
