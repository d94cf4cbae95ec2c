//! asyncio's registers of tasks: which tasks there are, and which one is current.
//!
//! A task made while its loop runs goes into the strong register (a C set insertion); when the run ends the loop moves
//! what is pending to the weak one and keeps it alive itself (`sched::run`). Tasks of other loops are registered
//! weakly, as stock tasks are.

use pyo3::prelude::*;

use crate::py::asyncio::{Asyncio, asyncio};
use crate::sched::LoopState;

/// Register a new task.
#[inline]
pub(super) fn register(task: &Bound<'_, PyAny>, ours: Option<&LoopState>) -> PyResult<()> {
    let py = task.py();
    let names = asyncio(py)?;
    let Some(state) = ours else { return names.register_weak(task) };
    if state.shared.lifecycle.is_running() {
        state.strong_tasks.with(py, |count| *count += 1);
        return names.register_strong(task);
    }
    names.register_weak(task)?;
    let key = task.as_ptr() as usize;
    let before = state.resting.with(py, |resting| resting.insert(key, task.clone().unbind()));
    drop(before);
    Ok(())
}

/// A task has ended.
#[inline]
pub(super) fn unregister(task: &Bound<'_, PyAny>, ours: Option<&LoopState>) -> PyResult<()> {
    let py = task.py();
    let names = asyncio(py)?;
    let Some(state) = ours else { return names.unregister_weak(task) };
    let key = task.as_ptr() as usize;
    let rested = state.resting.with(py, |resting| if resting.is_empty() { None } else { resting.remove(&key) });
    if rested.is_some() {
        drop(rested);
        return names.unregister_weak(task);
    }
    state.strong_tasks.with(py, |count| *count = count.saturating_sub(1));
    names.unregister_strong(task)
}

/// Make the task the current one of its loop, until another step or `LoopState::leave_task`.
#[inline]
pub(super) fn enter(
    names: &Asyncio,
    state: &LoopState,
    event_loop: &Bound<'_, PyAny>,
    task: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = task.py();
    let known = state.task_is_current.with(py, |current| current.as_ref().is_some_and(|known| known.is(task)));
    if known {
        return Ok(());
    }
    names.set_current_task(event_loop, task)?;
    let before = state.task_is_current.with(py, |current| current.replace(task.clone().unbind()));
    drop(before);
    Ok(())
}
