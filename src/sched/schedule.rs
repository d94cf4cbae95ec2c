//! asyncio's scheduling: `call_soon`, `call_soon_threadsafe`, `call_later`, `call_at`.

use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::entry::Entry;
use super::handle::{Handle, Parts, check_callback};
use super::state::LoopState;
use super::thread_safe_handle::ThreadSafeHandle;
use super::timer_handle::TimerHandle;
use crate::accel::collector::Hidden;
use crate::core::ready::Lane;
use crate::py::call::number;
use crate::py::exit::outlast;

/// The loop's clock, in seconds.
#[inline]
pub fn time(state: &Bound<'_, LoopState>) -> f64 {
    state.get().clock.time(state.py())
}

/// A handle's parts from arguments as PyO3 has them.
pub fn parts<'py>(
    callable: Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
    context: Option<Bound<'py, PyAny>>,
) -> Parts<'py> {
    let args = if args.is_empty() { None } else { Some(args) };
    Parts { callable, args, context: context.filter(|context| !context.is_none()) }
}

/// A handle in the ready queue.
#[inline(always)]
fn soon<'py>(state: &Bound<'py, LoopState>, parts: Parts<'py>) -> PyResult<Bound<'py, Handle>> {
    soon_in(state, Lane::Normal, parts)
}

/// `BaseEventLoop._call_soon`, in a lane.
///
/// # Errors
/// MemoryError.
#[inline(always)]
pub fn soon_in<'py>(state: &Bound<'py, LoopState>, lane: Lane, parts: Parts<'py>) -> PyResult<Bound<'py, Handle>> {
    let handle = Handle::new(parts, state)?;
    // Nothing runs between this and the push: no run can end in between.
    Handle::begin_waiting(&handle);
    state.get().push_to(state.py(), lane, Entry::Handle(Hidden::new(handle.clone().unbind())));
    state.get().wake_if_away();
    Ok(handle)
}

#[inline]
pub fn call_soon<'py>(state: &Bound<'py, LoopState>, parts: Parts<'py>) -> PyResult<Bound<'py, Handle>> {
    call_soon_in(state, Lane::Normal, parts)
}

/// `call_soon` in a lane: the step of a task that has a priority.
///
/// # Errors
/// As `call_soon`.
#[inline(always)]
pub fn call_soon_in<'py>(state: &Bound<'py, LoopState>, lane: Lane, parts: Parts<'py>) -> PyResult<Bound<'py, Handle>> {
    state.get().check_closed()?;
    if state.get().debug.get(state.py()) {
        state.get().check_thread()?;
        check_callback(&parts.callable, "call_soon")?;
    }
    soon_in(state, lane, parts)
}

/// Another thread that adds a callback to a queue lets the loop have the GIL first whenever there are so many more in
/// it. To do so for each would cost as much as the call.
const CROWD: usize = 256;

/// How long it is away then: until the loop's thread, if it waits for the GIL, has been woken. A thread that comes back
/// sooner finds the GIL free still, and CPython's 5 ms, after which one who waits asks for it, begin anew for the loop:
/// with two cores a turn took more than a second.
const AWAY: Duration = Duration::from_micros(20);

#[inline]
pub fn call_soon_threadsafe<'py>(state: &Bound<'py, LoopState>, parts: Parts<'py>) -> PyResult<Bound<'py, Handle>> {
    state.get().check_closed()?;
    if state.get().debug.get(state.py()) {
        check_callback(&parts.callable, "call_soon_threadsafe")?;
    }
    let handle = queue_threadsafe(state, parts)?;
    if state.get().ready.with(state.py(), |ready| ready.len()).is_multiple_of(CROWD) {
        give_way(state);
    }
    Ok(handle)
}

/// Threads that do nothing but call `call_soon_threadsafe` would fill the queue several times faster than the loop,
/// which gets its share of the GIL only, can empty it. In asyncio each call writes to a pipe, with the GIL released.
#[cold]
fn give_way(state: &Bound<'_, LoopState>) {
    if !state.get().shared.runs_here() {
        outlast();
        state.py().detach(|| thread::sleep(AWAY));
    }
}

#[inline(always)]
fn queue_threadsafe<'py>(state: &Bound<'py, LoopState>, parts: Parts<'py>) -> PyResult<Bound<'py, Handle>> {
    if !cfg!(Py_3_14) {
        return soon(state, parts);
    }
    let handle = ThreadSafeHandle::new(parts, state)?;
    Handle::begin_waiting(handle.as_super());
    state.get().push(state.py(), Entry::ThreadSafe(Hidden::new(handle.clone().unbind())));
    state.get().wake_if_away();
    Ok(handle.into_super())
}

#[inline]
pub fn call_later<'py>(
    state: &Bound<'py, LoopState>,
    delay: &Bound<'py, PyAny>,
    parts: Parts<'py>,
) -> PyResult<Bound<'py, TimerHandle>> {
    if delay.is_none() {
        return Err(PyTypeError::new_err("delay must not be None"));
    }
    call_at(state, time(state) + number(delay)?, None, parts)
}

/// `given` is what `when` was made of, if that was no float.
#[inline]
pub fn call_at<'py>(
    state: &Bound<'py, LoopState>,
    when: f64,
    given: Option<Bound<'py, PyAny>>,
    parts: Parts<'py>,
) -> PyResult<Bound<'py, TimerHandle>> {
    state.get().check_closed()?;
    if state.get().debug.get(state.py()) {
        state.get().check_thread()?;
        // asyncio's call_later is a call_at, and says so.
        check_callback(&parts.callable, "call_at")?;
    }
    let handle = TimerHandle::schedule(when, given, parts, state)?;
    state.get().wake_if_away();
    Ok(handle)
}
