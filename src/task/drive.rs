//! One step of a task, and what follows from it. Kept from CPython's `task_step_impl` (Modules/_asynciomodule.c):
//! which exception is thrown in, what ends the task how, and the messages for bad yields.

use std::ptr::NonNull;

use pyo3::exceptions::{PyBaseException, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::named;
use super::object::Task;
use super::registry;
use super::state::Wait;
use crate::accel::collector::Hidden;
use crate::bridge::cx::{self, Lender};
use crate::bridge::foreign_loop::ForeignLoop;
use crate::bridge::step::{Stepped, step};
use crate::bridge::waker::{TaskShared, WakeRoute, WakeSteps};
use crate::core::ready::Lane;
use crate::future::Future;
use crate::future::callbacks::{TaskWakeup, Waiter};
use crate::future::state::Outcome;
use crate::py::asyncio::{Asyncio, asyncio};
use crate::py::attach::Address;
use crate::py::call::Object;
use crate::py::error::Slim;
use crate::py::exit::outlast;
use crate::py::{call, context, depth, error, names, whole};
use crate::sched::entry::Entry;
use crate::sched::handle::Parts;
use crate::sched::replaced::Name;
use crate::sched::state::{LoopState, ours};

/// Queue the next step.
#[inline]
pub(super) fn schedule(task: &Bound<'_, Task>) -> PyResult<()> {
    let (py, this) = (task.py(), task.get());
    match this.home(py) {
        Some(home) => {
            let state = home.get();
            if state.replaced.has(home.as_any(), Name::CallSoon)? {
                return named::schedule(task, home.as_any(), STEPS);
            }
            state.check_thread_in_debug_mode(py)?;
            let lane = this.state.with(py, |state| state.lane);
            state.push_to(py, lane, Entry::Step(task.clone().into_any().unbind()));
            state.wake_if_away();
            Ok(())
        }
        None => named::schedule(task, &task.as_super().get().event_loop(py)?, STEPS),
    }
}

/// What wakers that only this file makes, for tasks, do with theirs.
static FROM_RUST: WakeSteps = WakeSteps { has_ended, wake: wake_from_rust };

const STEPS: named::Steps = named::Steps { step: step_by_name, wake: wake_by_name };

/// A step that is in the queue, as asyncio gives it to `call_soon`.
pub(crate) fn name_step<'py>(task: &Bound<'py, PyAny>) -> PyResult<Parts<'py>> {
    // SAFETY: only `schedule` makes such entries, always with a task.
    named::step_of(unsafe { call::cast::<Task>(task) }, STEPS)
}

/// The turn's `Entry::Step`.
pub(crate) fn run_step(home: &Bound<'_, LoopState>, task: &Bound<'_, PyAny>) -> Slim<Option<Lane>> {
    // SAFETY: only `schedule` makes such entries, always with a task.
    let task = unsafe { call::cast::<Task>(task) };
    let py = task.py();
    let names = asyncio(py)?;
    registry::enter(names, home.get(), home.as_any(), task.as_any())?;
    let context = task.get().context(py)?;
    step_in(task, names, home.as_any(), Some(home.get()), &context)
}

/// The turn's `Entry::Step` has given way.
pub(crate) fn queue_again<'py>(_py: Python<'py>, task: &Bound<'py, PyAny>) -> PyResult<()> {
    // SAFETY: only `schedule` makes such entries, always with a task.
    schedule(unsafe { call::cast::<Task>(task) })
}

/// One of our futures that the task waited for is done.
pub(super) fn wake_from_future(py: Python<'_>, task: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: only `wait_for_future` makes waiters with this function, always with a task.
    let task = unsafe { call::cast::<Task>(task) };
    let waited = task.get().state.with(py, |state| match std::mem::take(&mut state.wait) {
        Wait::Future(future) => {
            state.wait = Wait::Woken(future.into_shown(py));
            true
        }
        other => {
            state.wait = other;
            false
        }
    });
    if waited { schedule(task) } else { Ok(()) }
}

fn has_ended(task: &Bound<'_, PyAny>) -> bool {
    // SAFETY: only `FROM_RUST` has this function, whose wakers are made for tasks alone.
    let task = unsafe { call::cast::<Task>(task) };
    let py = task.py();
    // One whose result somebody else has set may wait still.
    task.as_super().get().is_done(py) && !task.get().state.with(py, |state| matches!(state.wait, Wait::Rust(_)))
}

/// A Rust future's waker was woken: late and repeated wakes find the task elsewhere and do nothing.
fn wake_from_rust(py: Python<'_>, task: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: only `FROM_RUST` has this function, whose wakers are made for tasks alone.
    let task = unsafe { call::cast::<Task>(task) };
    let taken = task.get().state.with(py, |state| match std::mem::take(&mut state.wait) {
        Wait::Rust(future) => Some(future),
        other => {
            state.wait = other;
            None
        }
    });
    match taken {
        Some(future) => {
            drop(future);
            schedule(task)
        }
        None => Ok(()),
    }
}

/// A future that is not ours is done: the step itself, as in asyncio. Its loop has entered the task's context.
fn wake_from_foreign(task: &Bound<'_, PyAny>, _future: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: only `wait_for_other` makes callbacks with this function, always with a task.
    let task = unsafe { call::cast::<Task>(task) };
    let py = task.py();
    let waited = task.get().state.with(py, |state| match std::mem::take(&mut state.wait) {
        Wait::Foreign(known) => {
            state.wait = Wait::WokenForeign(known);
            true
        }
        other => {
            state.wait = other;
            false
        }
    });
    if !waited {
        return Ok(());
    }
    match task.get().home(py) {
        Some(home) => step_called(task, &home),
        None => step_elsewhere(task),
    }
}

/// One of our futures is done, and `call_soon` was called for the task that waited for it. Called twice, it does
/// nothing the second time.
fn wake_by_name(task: &Bound<'_, PyAny>, future: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: only `named::step_of` makes callbacks with this function, always with a task.
    let task = unsafe { call::cast::<Task>(task) };
    let py = task.py();
    let waits = |wait: &Wait| matches!(wait, Wait::Woken(known) if known.is(future));
    if !task.get().state.with(py, |state| waits(&state.wait)) {
        return Ok(());
    }
    step_by_name(task)
}

/// A step that a callback makes.
fn step_by_name(task: &Bound<'_, Task>) -> PyResult<()> {
    match task.get().home(task.py()) {
        Some(home) => step_by_call(task, &home),
        None => step_elsewhere(task),
    }
}

/// A step of a task of this loop that a callback makes: the turn has left every task, and the context is the task's.
///
/// # Errors
/// RuntimeError in asyncio's words when the callback is called in a step; what ends the run.
fn step_by_call(task: &Bound<'_, Task>, home: &Bound<'_, LoopState>) -> PyResult<()> {
    let (py, state) = (task.py(), home.get());
    let current = state.task_is_current.with(py, |current| current.as_ref().map(|current| current.clone_ref(py)));
    if let Some(current) = current.map(|current| current.into_bound(py)) {
        let in_step = |task: &Bound<'_, Task>| task.get().state.with(py, |state| matches!(state.wait, Wait::Running));
        if current.cast::<Task>().is_ok_and(in_step) {
            let (task, current) = (task.try_repr()?, current.try_repr()?);
            let text = format!("Cannot enter into task {task} while another task {current} is being executed.");
            return Err(PyRuntimeError::new_err(text));
        }
    }
    // A tool's function around the callback sees no current task.
    let stepped = step_called(task, home);
    stepped.and(state.leave_task(py, home.as_any()))
}

fn step_called(task: &Bound<'_, Task>, home: &Bound<'_, LoopState>) -> PyResult<()> {
    let names = asyncio(task.py())?;
    registry::enter(names, home.get(), home.as_any(), task.as_any())?;
    schedule_next(task, one_step(task, names, home.as_any(), Some(home.get())))
}

/// After a step that the turn did not make itself.
fn schedule_next(task: &Bound<'_, Task>, stepped: Slim<Option<Lane>>) -> PyResult<()> {
    match stepped {
        Ok(Some(_)) => schedule(task),
        Ok(None) => Ok(()),
        Err(raised) => Err(*raised),
    }
}

/// A step on any other loop, which has entered the task's context already: the documented protocol of third-party
/// tasks.
fn step_elsewhere(task: &Bound<'_, Task>) -> PyResult<()> {
    let py = task.py();
    outlast();
    let names = asyncio(py)?;
    let event_loop = task.as_super().get().event_loop(py)?;
    call::call_two(names.enter_task.bind(py), &event_loop, task.as_any())?;
    let stepped = schedule_next(task, one_step(task, names, &event_loop, None));
    let left = call::call_two(names.leave_task.bind(py), &event_loop, task.as_any()).map(drop);
    stepped.and(left)
}

/// The first step of an eager task, inside the step of whoever made it.
pub(super) fn step_eagerly(task: &Bound<'_, Task>) -> PyResult<()> {
    let py = task.py();
    let names = asyncio(py)?;
    let event_loop = task.as_super().get().event_loop(py)?;
    let context = task.get().context(py)?;
    let home = task.get().home(py);
    // What is registered is not what the loop knows: a greenlet may leave this step in the middle.
    let known = home.as_ref().and_then(|home| home.get().task_is_current.take(py));
    let entered = names.swap_current_task(&event_loop, task.as_any());
    let before = match entered {
        Ok(before) => before,
        Err(raised) => {
            if let Some(home) = &home {
                drop(home.get().task_is_current.replace(py, known));
            }
            return Err(raised);
        }
    };
    let stepped = step_in(task, names, &event_loop, home.as_ref().map(|home| home.get()), &context);
    let stepped = schedule_next(task, stepped);
    let back = match names.swap_current_task(&event_loop, &before) {
        // CPython 3.14 and later: in a child that this step forked no loop is the running one.
        Err(_) if home.as_ref().is_some_and(|home| home.get().shared.is_inherited()) => Ok(()),
        other => other.map(drop),
    };
    if let Some(home) = &home {
        drop(home.get().task_is_current.replace(py, known));
    }
    stepped.and(back)
}

#[inline]
fn step_in(
    task: &Bound<'_, Task>,
    names: &Asyncio,
    event_loop: &Bound<'_, PyAny>,
    home: Option<&LoopState>,
    context: &Bound<'_, PyAny>,
) -> Slim<Option<Lane>> {
    let _inside = context::inside(context)?;
    one_step(task, names, event_loop, home)
}

#[inline]
fn one_step(
    task: &Bound<'_, Task>,
    names: &Asyncio,
    event_loop: &Bound<'_, PyAny>,
    home: Option<&LoopState>,
) -> Slim<Option<Lane>> {
    let (py, this) = (task.py(), task.get());
    let future = task.as_super();
    if future.get().is_done(py) {
        return already_done(task);
    }
    let looked_at = home.map_or(0, |home| home.shared.times.busy_since());
    let (plain, coroutine, first, chain) = this.state.with(py, |state| {
        state.step_began = looked_at;
        let plain = matches!(state.wait, Wait::Queued) && !state.must_cancel;
        if plain {
            state.wait.put(Wait::Running);
        }
        let begun = std::mem::replace(&mut state.begun, true);
        let coroutine = state.coroutine.as_ref().map(|known| known.get().clone_ref(py));
        (plain, coroutine, !begun, state.awaits.take())
    });
    if let Some(chain) = chain {
        drop(chain);
    }
    let Some(coroutine) = coroutine else { return Ok(None) };
    let thrown = if plain { None } else { what_to_throw(task) };
    if home.is_none() {
        share_elsewhere(task, event_loop);
    }
    let lender = Lender {
        task: Address::of(task.as_any()),
        slot: NonNull::from(&this.shared),
        home: home.map(NonNull::from),
        wakes: &FROM_RUST,
    };
    let coroutine = &coroutine.into_bound(py);
    let debug = home.is_some_and(|state| state.debug.get(py));
    let stepped = cx::with_step(lender, debug, |running| step(coroutine, thrown, first, running));
    if first && let Some(home) = home {
        registry::begun(task, coroutine, home);
    }
    match stepped {
        Ok(Stepped::Gave) => return Ok(Some(queued(task))),
        Ok(Stepped::Waits(awaited)) => wait_for_future(task, event_loop, awaited),
        Ok(Stepped::GaveWay(awaited)) => {
            drop(awaited);
            note_polled(py, home);
            // As `sleep(0)` does: nobody has to wake the task.
            return Ok(Some(queued(task)));
        }
        Ok(Stepped::Polled(awaited)) => {
            note_polled(py, home);
            wait_for_rust(task, awaited)
        }
        Ok(Stepped::PolledElsewhere(awaited)) => {
            note_polled(py, home);
            if is_blocking(&awaited)? {
                wait_for_other(task, names, event_loop, awaited)
            } else {
                wait_for_rust(task, awaited)
            }
        }
        Ok(Stepped::Other(yielded)) => wait_for_other(task, names, event_loop, yielded),
        Ok(Stepped::Returned(value)) => {
            let cancel = this.state.with(py, |state| std::mem::take(&mut state.must_cancel));
            registry::unregister(task, home)?;
            if cancel {
                // The task was cancelled right before its coroutine returned.
                let message = future.get().state.with(py, |state| state.set_cancel_message(None));
                Future::cancel_with(future, message).map(drop)
            } else {
                Future::finish(future, Outcome::Result(value.unbind()))
            }
        }
        Err(raised) => {
            registry::unregister(task, home)?;
            failed(future, *raised)
        }
    }?;
    Ok(None)
}

/// On a loop that is not ours a task makes its shared part before the step.
#[cold]
fn share_elsewhere(task: &Bound<'_, Task>, event_loop: &Bound<'_, PyAny>) {
    task.get().shared.get_or_init(|| {
        let route = WakeRoute::Other(ForeignLoop::of(event_loop));
        TaskShared::new(route, Address::of(task.as_any()), &FROM_RUST)
    });
}

/// tokio's cooperative budget may be used up.
#[inline(always)]
fn note_polled(py: Python<'_>, home: Option<&LoopState>) {
    if let Some(home) = home {
        home.after.note_polled(py);
    }
}

/// The Rust future has the task's waker.
#[inline(always)]
fn wait_for_rust(task: &Bound<'_, Task>, awaited: Bound<'_, PyAny>) -> PyResult<()> {
    let cancelled = task.get().state.with(task.py(), |state| {
        state.wait.put(Wait::Rust(awaited.unbind()));
        state.must_cancel
    });
    if cancelled { drop_rust(task) } else { Ok(()) }
}

/// Whether it is to be waited for by asyncio's protocol.
#[cold]
fn is_blocking(awaited: &Bound<'_, PyAny>) -> PyResult<bool> {
    let blocking = awaited.try_getattr_opt(pyo3::intern!(awaited.py(), "_asyncio_future_blocking"))?;
    blocking.map_or(Ok(false), |blocking| blocking.try_is_truthy())
}

/// The task goes on with its next turn, whose lane this is.
#[inline]
fn queued(task: &Bound<'_, Task>) -> Lane {
    task.get().state.with(task.py(), |state| {
        state.wait.put(Wait::Queued);
        state.lane
    })
}

/// The coroutine raised.
#[inline(never)]
fn failed(future: &Bound<'_, Future>, raised: PyErr) -> PyResult<()> {
    let py = future.py();
    if names::is_cancelled_error(py, &raised) {
        // The exception itself has the message; who asks a second time gets one without (as in asyncio).
        let exception = raised.into_value(py);
        drop(future.get().state.with(py, |state| state.rare_mut().cancelled_error.replace(exception)));
        return Future::cancel_with(future, None).map(drop);
    }
    let exception: Bound<'_, PyBaseException> = raised.clone_ref(py).into_value(py).into_bound(py);
    let outcome = Future::failed(&exception);
    Future::finish(future, outcome)?;
    if error::ends_the_run(py, &raised) { Err(raised) } else { Ok(()) }
}

#[cold]
fn already_done(task: &Bound<'_, Task>) -> Slim<Option<Lane>> {
    let text = format!("_step(): already done: {} None", task.try_repr()?);
    Err(names::invalid_state(task.py(), text)?.into())
}

/// What the next step throws in: the failure of the future waited for, the answer to a bad yield, a cancellation.
#[inline(always)]
fn what_to_throw(task: &Bound<'_, Task>) -> Option<Box<PyErr>> {
    let (py, this) = (task.py(), task.get());
    let (wait, must_cancel) = this
        .state
        .with(py, |state| (std::mem::replace(&mut state.wait, Wait::Running), std::mem::take(&mut state.must_cancel)));
    match wait {
        // As a rule.
        Wait::Woken(future) if !must_cancel && future.get().has_result(py) => {
            future.drop_ref(py);
            None
        }
        other => failure_of(task, other, must_cancel),
    }
}

#[inline(never)]
fn failure_of(task: &Bound<'_, Task>, wait: Wait, must_cancel: bool) -> Option<Box<PyErr>> {
    let py = task.py();
    let mut thrown = match wait {
        Wait::Woken(future) => future.into_bound(py).get().failure(py).map(Box::new),
        Wait::WokenForeign(future) => {
            future.bind(py).try_call_method(pyo3::intern!(py, "result"), ()).err().map(Box::new)
        }
        Wait::Thrown(raised) => Some(raised),
        _ => None,
    };
    if must_cancel {
        let cancelled = thrown.as_ref().is_some_and(|thrown| names::is_cancelled_error(py, thrown));
        if !cancelled {
            thrown = Some(Box::new(task.as_super().get().cancelled_error(py).unwrap_or_else(|raised| raised)));
        }
    }
    thrown
}

fn wait_for_future(task: &Bound<'_, Task>, event_loop: &Bound<'_, PyAny>, awaited: Bound<'_, Future>) -> PyResult<()> {
    let (py, this) = (task.py(), task.get());
    let (blocking, same_loop) = awaited.get().state.with(py, |state| {
        let blocking = std::mem::take(&mut state.blocking);
        (blocking, state.event_loop.as_ref().is_some_and(|known| known.is(event_loop)))
    });
    if !same_loop {
        return bad_yield(task, &awaited, |task, awaited| {
            format!("Task {task} got Future {awaited} attached to a different loop")
        });
    }
    if call::same(task.as_any(), awaited.as_any()) {
        return bad_yield(task, &awaited, |task, _| format!("Task cannot await on itself: {task}"));
    }
    if !blocking {
        return bad_yield(task, &awaited, |task, awaited| {
            format!("yield was used instead of yield from in task {task} with {awaited}")
        });
    }
    let must_cancel = this.state.with(py, |state| {
        let awaited = Hidden::new(awaited.clone().unbind());
        if state.hidden {
            // As the task itself (`Task::hide`), until it wakes the task.
            awaited.hide(py);
        }
        state.wait.put(Wait::Future(awaited));
        state.must_cancel
    });
    let waiter = Waiter::Task { task: task.clone().into_any().unbind(), wake: wake_from_future };
    if awaited.get().wait(py, waiter).is_err() {
        return wake_from_future(py, task.as_any());
    }
    if must_cancel {
        let message = task.as_super().get().state.with(py, |state| state.cancel_message(py));
        if cancel_any(awaited.as_any(), message)? {
            this.state.with(py, |state| state.must_cancel = false);
        }
    }
    Ok(())
}

/// A task that waits for a Rust future is cancelled: the future is dropped now, the exception comes with the next step.
/// As with a cancelled asyncio future, neither a second request nor `uncancel` changes that exception any more.
pub(super) fn drop_rust(task: &Bound<'_, Task>) -> PyResult<()> {
    let py = task.py();
    if !task.get().state.with(py, |state| matches!(state.wait, Wait::Rust(_))) {
        return Ok(());
    }
    let cancelled = task.as_super().get().cancelled_error(py).unwrap_or_else(|raised| raised);
    let waited = task.get().state.with(py, |state| {
        state.must_cancel = false;
        std::mem::replace(&mut state.wait, Wait::Thrown(Box::new(cancelled)))
    });
    let Wait::Rust(future) = waited else { return Ok(()) };
    let dropped = crate::bridge::step::cancel(future.bind(py));
    schedule(task)?;
    dropped
}

/// `awaited.cancel(msg=message)`, natively for our own.
pub(super) fn cancel_any(awaited: &Bound<'_, PyAny>, message: Option<Py<PyAny>>) -> PyResult<bool> {
    let py = awaited.py();
    if awaited.is_exact_instance_of::<Future>() {
        // SAFETY: its class has just been compared with `Future`'s.
        return Future::cancel_with(unsafe { call::cast::<Future>(awaited) }, message);
    }
    // It may be a task, which cancels what it waits for.
    let _deeper = depth::enter_call(py, c" while cancelling a task")?;
    let keywords = PyDict::new(py);
    keywords.set_item(pyo3::intern!(py, "msg"), message)?;
    awaited.try_call_method_with(pyo3::intern!(py, "cancel"), (), &keywords)?.try_is_truthy()
}

/// An asyncio future, or a bad yield.
#[inline(never)]
fn wait_for_other(
    task: &Bound<'_, Task>,
    names: &Asyncio,
    event_loop: &Bound<'_, PyAny>,
    yielded: Bound<'_, PyAny>,
) -> PyResult<()> {
    let (py, this) = (task.py(), task.get());
    if call::same(task.as_any(), &yielded) {
        return bad_yield(task, &yielded, |task, _| format!("Task cannot await on itself: {task}"));
    }
    let blocking = yielded.try_getattr_opt(pyo3::intern!(py, "_asyncio_future_blocking"))?;
    let Some(blocking) = blocking.filter(|blocking| !blocking.is_none()) else {
        if whole::is_generator(&yielded) {
            return bad_yield(task, &yielded, |task, yielded| {
                format!("yield was used instead of yield from for generator in task {task} with {yielded}")
            });
        }
        return bad_yield(task, &yielded, |_, yielded| format!("Task got bad yield: {yielded}"));
    };
    let other_loop = names.helper(py, "get_future_loop")?.try_call((&yielded,))?;
    if !call::same(&other_loop, event_loop) {
        return bad_yield(task, &yielded, |task, yielded| {
            format!("Task {task} got Future {yielded} attached to a different loop")
        });
    }
    if !blocking.try_is_truthy()? {
        return bad_yield(task, &yielded, |task, yielded| {
            format!("yield was used instead of yield from in task {task} with {yielded}")
        });
    }
    yielded.try_setattr(pyo3::intern!(py, "_asyncio_future_blocking"), false)?;
    let wakeup = Bound::new(py, TaskWakeup::new(task.clone().into_any().unbind(), Some(wake_from_foreign)))?.into_any();
    let must_cancel = this.state.with(py, |state| {
        state.wait = Wait::Foreign(yielded.clone().unbind());
        state.must_cancel
    });
    let context = this.context(py)?;
    let name = pyo3::intern!(py, "add_done_callback");
    call::call_method_with_keyword(&yielded, name, [&wakeup], names.context_keyword.bind(py), &context)?;
    if must_cancel {
        let message = task.as_super().get().state.with(py, |state| state.cancel_message(py));
        if cancel_any(&yielded, message)? {
            this.state.with(py, |state| state.must_cancel = false);
        }
    }
    Ok(())
}

/// The coroutine yielded what no task can wait for: it is told in its next step.
#[cold]
fn bad_yield(
    task: &Bound<'_, Task>,
    yielded: &Bound<'_, PyAny>,
    text: impl FnOnce(String, String) -> String,
) -> PyResult<()> {
    let text = text(task.try_repr()?.to_string(), yielded.try_repr()?.to_string());
    let answer = Box::new(PyRuntimeError::new_err(text));
    task.get().state.with(task.py(), |state| state.wait = Wait::Thrown(answer));
    schedule(task)
}

/// The loop's state behind a task's loop, when it is ours.
pub(super) fn home_of<'py>(event_loop: &Bound<'py, PyAny>) -> Option<Bound<'py, LoopState>> {
    ours(event_loop).cloned()
}
