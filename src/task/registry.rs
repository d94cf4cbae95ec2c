//! Which tasks there are, and which one is current.
//!
//! A loop of ours keeps its pending tasks alive in a list in which each knows its place; `asyncio.all_tasks` is shown
//! them (`pyloop._compat`). Those made while the loop runs are out of the cycle collector's sight (`accel::collector`).
//! When the run ends they *rest*: the collector sees them in the loop's hands, so that a loop that nobody has any more
//! goes away with its tasks. Tasks of other loops are registered with asyncio, as those of any third party.

use std::num::NonZeroU32;

use pyo3::prelude::*;

use super::named::task_of;
use super::object::Task;
use crate::accel::TASK_REGISTER;
use crate::accel::collector::{self, AwaitChain, HiddenAny};
use crate::bridge::RustFuture;
use crate::future::FutureIter;
use crate::py::asyncio::{Asyncio, asyncio};
use crate::py::call;
use crate::py::error;
use crate::sched::LoopState;

/// Among so many tasks the collector's look at what they await begins to count.
const CROWD: usize = 10_000;
/// A list with room for more tasks than this gives it back when it is empty.
const MANY: usize = 4096;

/// Register a new task.
#[inline]
pub(super) fn register(task: &Bound<'_, Task>, ours: Option<&LoopState>) -> PyResult<()> {
    let py = task.py();
    let Some(state) = ours else { return asyncio(py)?.register_task(task.as_any()) };
    if task.get().state.with(py, |state| state.place.is_some()) {
        // `__init__` was called again.
        return Ok(());
    }
    if !TASK_REGISTER.is_on() {
        // First, as it may fail: it is Python code.
        asyncio(py)?
            .register_task(task.as_any())
            .inspect_err(|_| task.get().state.with(py, |state| state.log_destroy_pending = false))?;
    }
    let hidden = state.shared.lifecycle.is_running();
    if hidden {
        let kept = Task::hide(task);
        let place = state.tasks.with(py, |tasks| {
            tasks.hidden.push(kept);
            tasks.hidden.len()
        });
        note_place(task, place, true);
    } else {
        collector::show(task.as_any());
        rest_in(task, state);
    }
    Ok(())
}

/// A task has made its first step. Among many, what its coroutine awaits is hidden too until the next one: Python makes
/// a coroutine and a generator for each `sleep(0)`. Later steps are no reason for the collector to come: they make as
/// many as they end.
#[inline]
pub(super) fn begun(task: &Bound<'_, Task>, coroutine: &Bound<'_, PyAny>, state: &LoopState) {
    let py = task.py();
    if state.tasks.with(py, |tasks| tasks.hidden.len()) < CROWD {
        return;
    }
    if task.get().state.with(py, |state| state.hidden) {
        hide_awaited(task, coroutine);
    }
}

#[cold]
fn hide_awaited(task: &Bound<'_, Task>, coroutine: &Bound<'_, PyAny>) {
    let chain = AwaitChain::hide(coroutine, |awaited| {
        awaited.is_exact_instance_of::<FutureIter>() || awaited.is_exact_instance_of::<RustFuture>()
    });
    task.get().state.with(task.py(), |state| state.awaits = chain);
}

/// The loop keeps alive a task that the collector sees.
fn rest_in(task: &Bound<'_, Task>, state: &LoopState) {
    let place = state.tasks.with(task.py(), |tasks| {
        tasks.resting.push(task.clone().into_any().unbind());
        tasks.resting.len()
    });
    note_place(task, place, false);
}

#[inline]
fn note_place(task: &Bound<'_, Task>, place: usize, hidden: bool) {
    task.get().state.with(task.py(), |state| {
        state.place = numbered(place);
        state.hidden = hidden;
    });
}

/// A number that no other pending task of its loop has, for a task or for what `call_soon` is given of it. It comes
/// from what the program has done, not from addresses. None: this is neither.
pub fn place_of(object: &Bound<'_, PyAny>) -> Option<u64> {
    let task = object.cast::<Task>().ok().cloned().or_else(|| task_of(object))?;
    Some(task.get().state.with(task.py(), |state| {
        let place = state.place.map_or(0, NonZeroU32::get);
        u64::from(place) * 2 + u64::from(state.hidden)
    }))
}

/// Places are counted from 1. A loop cannot have more tasks than a `u32` counts: each takes some hundred bytes.
#[inline]
fn numbered(place: usize) -> Option<NonZeroU32> {
    u32::try_from(place).ok().and_then(NonZeroU32::new)
}

/// A task has ended.
#[inline]
pub(super) fn unregister(task: &Bound<'_, Task>, ours: Option<&LoopState>) -> PyResult<()> {
    let py = task.py();
    let Some(state) = ours else { return asyncio(py)?.unregister_task(task.as_any()) };
    let (place, hidden) = task.get().state.with(py, |state| (state.place.take(), std::mem::take(&mut state.hidden)));
    if hidden {
        Task::show_done(task);
    }
    if let Some(place) = place {
        forget(task, state, place, hidden);
    }
    if TASK_REGISTER.is_on() {
        return Ok(());
    }
    match asyncio(py)?.unregister_task(task.as_any()) {
        Err(raised) if error::ends_the_run(py, &raised) => Err(raised),
        // It is Python code, and may fail (too deep a recursion). The task is done, and so is shown to nobody; the weak
        // reference goes with it.
        _ => Ok(()),
    }
}

/// The loop lets go of a task.
#[inline]
fn forget(task: &Bound<'_, Task>, state: &LoopState, place: NonZeroU32, hidden: bool) {
    let py = task.py();
    let gone = state.tasks.with(py, |tasks| {
        if hidden {
            take_out(py, &mut tasks.hidden, task, place, HiddenAny::get).map(|gone| gone.into_shown(py))
        } else {
            take_out(py, &mut tasks.resting, task, place, |kept| kept)
        }
    });
    if let Some(gone) = gone {
        gone.drop_ref(py);
    }
}

/// The last one of the list takes its place.
#[inline]
fn take_out<T>(
    py: Python<'_>,
    list: &mut Vec<T>,
    task: &Bound<'_, Task>,
    place: NonZeroU32,
    get: impl Fn(&T) -> &Py<PyAny>,
) -> Option<T> {
    let index = place.get() as usize - 1;
    // A loop that was closed has forgotten them all.
    if !list.get(index).is_some_and(|known| get(known).is(task)) {
        return None;
    }
    let gone = list.swap_remove(index);
    if let Some(moved) = list.get(index) {
        // SAFETY: only `register` and `rest` put anything there, always a task.
        let moved = unsafe { call::cast::<Task>(get(moved).bind(py)) };
        moved.get().state.with(py, |state| state.place = Some(place));
    } else if list.is_empty() && list.capacity() > MANY {
        list.shrink_to_fit();
    }
    Some(gone)
}

/// A run has ended: what is pending of the loop's tasks rests.
pub fn rest(event_loop: &Bound<'_, LoopState>) {
    let py = event_loop.py();
    let state = event_loop.get();
    let tasks = state
        .tasks
        .with(py, |tasks| if tasks.hidden.is_empty() { Vec::new() } else { std::mem::take(&mut tasks.hidden) });
    state.tasks.with(py, |known| match known.resting.is_empty() {
        true => known.resting.reserve_exact(tasks.len()),
        false => known.resting.reserve(tasks.len()),
    });
    for task in tasks {
        // SAFETY: only `register` and `rest` put anything there, always a task.
        let task = &unsafe { call::cast_into::<Task>(task.into_shown(py).into_bound(py)) };
        Task::show(task);
        // `Future.cancel(task)` leaves a task that is done and registered.
        if Task::is_done(task) {
            task.get().state.with(py, |state| (state.place, state.hidden) = (None, false));
        } else {
            rest_in(task, state);
        }
    }
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
    match names.set_current_task(event_loop, task) {
        // CPython 3.14 and later: in a child that this loop forked no loop is the running one.
        Err(_) if state.shared.is_inherited() => {}
        other => other?,
    }
    let before = state.task_is_current.with(py, |current| current.replace(task.clone().unbind()));
    if let Some(before) = before {
        before.drop_ref(py);
    }
    Ok(())
}
