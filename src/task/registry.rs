//! asyncio's registers of tasks: which tasks there are, and which one is current.
//!
//! A task made while its loop runs goes into the strong register (a C set insertion), which belongs to the process; it
//! is out of the cycle collector's sight there (`py::gc`). When the run ends, what is pending *rests*: it moves to the
//! weak register, and the loop keeps it alive itself, so that a loop that nobody has any more goes away with its tasks.
//! Tasks of other loops are registered weakly, as stock tasks are.

use std::num::NonZeroU32;

use pyo3::prelude::*;

use super::class::Task;
use crate::py::asyncio::{Asyncio, asyncio};
use crate::py::gc;
use crate::sched::LoopState;

/// The strong register gives its room back when it is empty and has had more tasks than this.
const MANY: usize = 4096;

/// Register a new task.
#[inline]
pub(super) fn register(task: &Bound<'_, Task>, ours: Option<&LoopState>) -> PyResult<()> {
    let py = task.py();
    let names = asyncio(py)?;
    let Some(state) = ours else { return names.register_weak(task.as_any()) };
    if state.shared.lifecycle.is_running() {
        names.register_strong(task.as_any())?;
        state.strong_tasks.with(py, |strong| {
            strong.count += 1;
            strong.most = strong.most.max(strong.count);
        });
        Task::hide(task);
        return Ok(());
    }
    gc::track(task.as_any());
    names.register_weak(task.as_any())?;
    keep(task, state);
    Ok(())
}

/// The loop keeps a resting task alive.
fn keep(task: &Bound<'_, Task>, state: &LoopState) {
    let py = task.py();
    if task.get().state.with(py, |state| state.resting.is_some()) {
        return;
    }
    let place = state.resting.with(py, |resting| {
        resting.push(task.clone().into_any().unbind());
        resting.len()
    });
    set_place(task, place);
}

/// Places are counted from 1. A loop cannot have more tasks than a `u32` counts: each takes some hundred bytes.
fn set_place(task: &Bound<'_, Task>, place: usize) {
    let place = u32::try_from(place).ok().and_then(NonZeroU32::new);
    task.get().state.with(task.py(), |state| state.resting = place);
}

/// A task has ended.
#[inline]
pub(super) fn unregister(task: &Bound<'_, Task>, ours: Option<&LoopState>) -> PyResult<()> {
    let py = task.py();
    let names = asyncio(py)?;
    let Some(state) = ours else { return names.unregister_weak(task.as_any()) };
    if let Some(place) = task.get().state.with(py, |state| state.resting.take()) {
        forget(task, state, place);
        return names.unregister_weak(task.as_any());
    }
    Task::show_done(task);
    names.unregister_strong(task.as_any())?;
    let emptied = state.strong_tasks.with(py, |strong| {
        strong.count = strong.count.saturating_sub(1);
        strong.count == 0 && std::mem::take(&mut strong.most) > MANY
    });
    if emptied {
        names.shrink_strong(py);
    }
    Ok(())
}

/// The loop lets go of a resting task; the last one takes its place.
fn forget(task: &Bound<'_, Task>, state: &LoopState, place: NonZeroU32) {
    let py = task.py();
    let index = place.get() as usize - 1;
    let (gone, moved) = state.resting.with(py, |resting| {
        // A loop that was closed has forgotten them all.
        if !resting.get(index).is_some_and(|known| known.is(task)) {
            return (None, None);
        }
        let gone = resting.swap_remove(index);
        if resting.is_empty() {
            resting.shrink_to_fit();
        }
        (Some(gone), resting.get(index).map(|moved| moved.clone_ref(py)))
    });
    if let Some(moved) = moved {
        // SAFETY: only `keep` puts anything there, always a task.
        set_place(unsafe { moved.bind(py).cast_unchecked::<Task>() }, index + 1);
    }
    drop(gone);
}

/// A run has ended: what is pending of the loop's tasks rests.
///
/// # Errors
/// What registering a task raises: a signal handler's exception, or a `__hash__`'s of somebody's subclass. All tasks
/// rest nevertheless.
pub fn rest(event_loop: &Bound<'_, LoopState>) -> PyResult<()> {
    let py = event_loop.py();
    let state = event_loop.get();
    let names = asyncio(py)?;
    let count = state.strong_tasks.take(py).count;
    if count == 0 {
        names.shrink_strong(py);
        return Ok(());
    }
    let mut tasks: Vec<Bound<'_, Task>> = Vec::with_capacity(count);
    for task in names.strong_tasks(event_loop.as_any())?.try_iter()? {
        if let Ok(task) = task?.cast_into::<Task>()
            && task.get().home().is_some_and(|home| home.is(event_loop))
            && task.get().state.with(py, |state| state.resting.is_none())
        {
            tasks.push(task);
        }
    }
    state.resting.with(py, |resting| match resting.is_empty() {
        true => resting.reserve_exact(tasks.len()),
        false => resting.reserve(tasks.len()),
    });
    tasks.iter().for_each(Task::show);
    // `Future.cancel(task)` leaves a task that is done and registered.
    let pending = || tasks.iter().filter(|task| !Task::is_done(task));
    pending().for_each(|task| keep(task, state));
    let weak = pending().map(|task| names.register_weak(task.as_any())).fold(Ok(()), Result::and);
    let strong = tasks.iter().map(|task| names.unregister_strong(task.as_any())).fold(Ok(()), Result::and);
    names.shrink_strong(py);
    weak.and(strong)
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
    if let Some(before) = before {
        before.drop_ref(py);
    }
    Ok(())
}
