//! Running what is in a batch: one entry after the other, each in the context and under the current task that it has to
//! have. What comes out of one goes to the exception handler, or ends the run (KeyboardInterrupt, SystemExit).
//!
//! Loop thread, GIL held. No cell is borrowed while an entry runs.

use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use tokio::task::coop;

use super::entry::{DoneCallback, Entry};
use super::handle::{Handle, Parts};
use super::hooks::{self, name_step, queue_again, step};
use super::replaced::Name;
use super::state::LoopState;
use super::subject::code_of;
use super::thread_safe_handle::ThreadSafeHandle;
use super::timer_handle::TimerHandle;
use super::{trace, traced};
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::error::Slim;
use crate::py::{context, error, whole};

/// An entry or a message has panicked: as an exception that comes out of a callback, that is for the exception handler.
///
/// # Errors
/// What the exception handler lets out.
#[cold]
pub(super) fn report_panic(event_loop: &Bound<'_, LoopState>, panicked: PyErr) -> PyResult<()> {
    let py = event_loop.py();
    let exception = panicked.into_value(py).into_bound(py).into_any();
    error::call_exception_handler(event_loop.as_any(), "Panic in the event loop", &[("exception", &exception)])
}

/// Send what has been gathered.
///
/// # Errors
/// What ends the run.
#[inline(never)]
pub(super) fn uncork(event_loop: &Bound<'_, LoopState>) -> Slim<()> {
    let mut done = Ok(());
    let py = event_loop.py();
    while let Some(corked) = event_loop.get().after.next_corked(py) {
        done = done.and(hooks::uncork(corked.transport.bind(py), corked.native.bind(py)));
    }
    done
}

/// Run the batch in hand. False: the rest must wait for the next poll (tokio's cooperative budget is used up).
#[inline(always)]
pub(super) fn run_batch(event_loop: &Bound<'_, LoopState>) -> Slim<bool> {
    let py = event_loop.py();
    let state = event_loop.get();
    state.after.begin(py);
    let mut finished = run_entries(event_loop);
    if state.after.take(py).corked {
        finished = finished.and_then(|finished| uncork(event_loop).map(|()| finished));
    }
    state.after.end(py);
    if finished.is_err() {
        state.ready.with(py, |ready| ready.give_batch_up());
    }
    finished
}

#[inline(always)]
fn run_entries(event_loop: &Bound<'_, LoopState>) -> Slim<bool> {
    let py = event_loop.py();
    let state = event_loop.get();
    let timed = state.debug.get(py) || trace::is_on();
    while let Some(entry) = state.ready.with(py, |ready| ready.next_of_batch()) {
        match entry {
            Entry::Step(_) => state.counters.steps.add(py, 1),
            _ => state.counters.callbacks.add(py, 1),
        }
        let mut done = if timed {
            run_entry_timed(event_loop, state, entry)
        } else if state.replaced.is_plain(py) {
            run_entry(event_loop, state, entry)
        } else {
            run_by_name(event_loop, state, entry)
        };
        let left = state.after.take(py);
        if left.corked && (done.is_err() || state.after.is_due(py)) {
            done = done.and(uncork(event_loop));
            state.traced_until.set(py, 0);
        }
        done?;
        if left.polled_rust && !coop::has_budget_remaining() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[inline]
fn run_entry(event_loop: &Bound<'_, LoopState>, state: &LoopState, entry: Entry) -> Slim<()> {
    let py = event_loop.py();
    match &entry {
        Entry::Step(_) => state.snapshots.leave(py),
        // These stay in the context of the last callback, or leave it.
        Entry::Handle(_) | Entry::ThreadSafe(_) | Entry::Timer(_) | Entry::Done(_) => {
            state.leave_task(py, event_loop.as_any())?;
        }
        Entry::Watcher(_) | Entry::Native(_) | Entry::Ready(_) | Entry::Transition(_) | Entry::Foreign(_) => {
            state.snapshots.leave(py);
            state.leave_task(py, event_loop.as_any())?;
        }
    }
    match entry {
        Entry::Step(task) => {
            let task = task.into_bound(py);
            match step(event_loop, &task) {
                Ok(None) => Ok(()),
                Ok(Some(_)) if !state.replaced.is_plain(py) => match queue_again(&task) {
                    Ok(()) => Ok(()),
                    Err(raised) => step_failed(event_loop, &task, Box::new(raised)),
                },
                Ok(Some(lane)) => {
                    state.push_to(py, lane, Entry::Step(task.unbind()));
                    Ok(())
                }
                Err(raised) => step_failed(event_loop, &task, raised),
            }
        }
        Entry::Handle(handle) => run_once(&handle.into_bound(py)),
        Entry::ThreadSafe(handle) => run_thread_safe(&handle.into_bound(py)),
        Entry::Timer(handle) => run_once(handle.into_bound(py).as_super()),
        Entry::Watcher(handle) => Handle::run(handle.bind(py)),
        Entry::Done(done) => state.unbox(py, done).map_or(Ok(()), |done| run_done(event_loop, done)),
        Entry::Native(callable) => run_native(&callable.into_bound(py)),
        Entry::Ready(transport) => hooks::ready(event_loop, &transport.into_bound(py)),
        Entry::Transition(transport) => hooks::transition(event_loop, &transport.into_bound(py)),
        Entry::Foreign(handle) => run_foreign(py, &handle),
    }
}

/// As `run_entry`, if `asyncio.Handle._run` is asyncio's own. If not, it is called, each entry being given a handle.
#[cold]
fn run_by_name(event_loop: &Bound<'_, LoopState>, state: &LoopState, entry: Entry) -> Slim<()> {
    let py = event_loop.py();
    if !state.replaced.has(event_loop.as_any(), Name::Run)? {
        return run_entry(event_loop, state, entry);
    }
    let names = asyncio(py)?;
    let handle = match entry {
        Entry::Step(task) => match name_step(task.bind(py))? {
            Some(parts) => Handle::new(parts, event_loop)?,
            None => return Ok(()),
        },
        Entry::Done(done) => match state.unbox(py, done) {
            Some(done) => Handle::new(named_done(py, done)?, event_loop)?,
            None => return Ok(()),
        },
        Entry::Handle(handle) => handle.into_bound(py),
        Entry::Watcher(handle) => handle.into_bound(py),
        Entry::ThreadSafe(handle) => {
            let handle = handle.into_bound(py);
            leave_all(event_loop, state)?;
            let ran = ThreadSafeHandle::run_with(&handle, || run_named(handle.as_super(), &names.handle_class));
            Handle::end_waiting(handle.as_super());
            return ran;
        }
        Entry::Timer(handle) => {
            let handle = handle.into_bound(py);
            leave_all(event_loop, state)?;
            if TimerHandle::stands_for_another(&handle)? {
                return run_once(handle.as_super());
            }
            let ran = run_named(handle.as_super(), &names.timer_handle_class);
            Handle::end_waiting(handle.as_super());
            return ran;
        }
        // asyncio knows no handle of the one, and the other is its own.
        Entry::Native(_) | Entry::Ready(_) | Entry::Transition(_) | Entry::Foreign(_) => {
            return run_entry(event_loop, state, entry);
        }
    };
    leave_all(event_loop, state)?;
    let ran = run_named(&handle, &names.handle_class);
    Handle::end_waiting(&handle);
    ran
}

fn leave_all(event_loop: &Bound<'_, LoopState>, state: &LoopState) -> PyResult<()> {
    state.snapshots.leave(event_loop.py());
    state.leave_task(event_loop.py(), event_loop.as_any())
}

/// `handle._run()`, as asyncio's class has it. What comes out of it ends the run, as in asyncio.
fn run_named(handle: &Bound<'_, Handle>, class: &Py<PyType>) -> Slim<()> {
    let py = handle.py();
    if handle.get().is_cancelled(py) {
        return Ok(());
    }
    asyncio(py)?.helper(py, "run_handle")?.try_call((class, handle))?;
    Ok(())
}

/// A done callback as a handle has it.
fn named_done(py: Python<'_>, done: DoneCallback) -> PyResult<Parts<'_>> {
    let context = done.context.into_bound(py);
    let context = if done.shared { context::copy(&context)? } else { context };
    let args = PyTuple::new(py, [done.future])?;
    Ok(Parts { callable: done.callback.into_bound(py), args: Some(args), context: Some(context) })
}

/// What a step could not do (the awaited object failed, say; what the coroutine raises is the task's). asyncio's step
/// is a callback, so this is for the exception handler, and the task stays as it is.
#[cold]
fn step_failed(event_loop: &Bound<'_, LoopState>, task: &Bound<'_, PyAny>, raised: Box<PyErr>) -> Slim<()> {
    let py = event_loop.py();
    if error::ends_the_run(py, &raised) {
        return Err(raised);
    }
    let text = task.try_repr().map_or_else(|_| "a task".to_owned(), |text| text.to_string());
    let exception = raised.value(py).as_any().clone();
    let items = [("exception", &exception), ("task", task)];
    Ok(error::call_exception_handler(event_loop.as_any(), &format!("Exception in a step of {text}"), &items)?)
}

/// `call_soon` and timers: run, and out of the loop's hands.
#[inline]
fn run_once(handle: &Bound<'_, Handle>) -> Slim<()> {
    let ran = Handle::run(handle);
    Handle::end_waiting(handle);
    ran
}

/// `call_soon_threadsafe`: as `run_once`.
#[inline]
fn run_thread_safe(handle: &Bound<'_, ThreadSafeHandle>) -> Slim<()> {
    let ran = ThreadSafeHandle::run_by(handle, true);
    Handle::end_waiting(handle.as_super());
    ran
}

/// A done callback of one of our futures: what `call_soon(callback, future, context=context)` would run.
fn run_done(event_loop: &Bound<'_, LoopState>, done: DoneCallback) -> Slim<()> {
    let py = event_loop.py();
    let (callback, future) = (done.callback.into_bound(py), done.future.into_bound(py));
    let mut context = done.context.into_bound(py);
    let mut raised = None;
    let mut call = || match whole::call_one(&callback, &future) {
        Ok(_) => true,
        Err(error) => {
            raised = Some(Box::new(error));
            false
        }
    };
    let snapshots = &event_loop.get().snapshots;
    let entered = if done.shared {
        snapshots.run_in_copy(context.clone(), &mut call, |copy| context = copy.clone())
    } else {
        snapshots.leave(py);
        context::inside(&context).map(|_inside| {
            call();
        })
    };
    match entered.err().map(Box::new).or(raised) {
        None => Ok(()),
        Some(raised) if error::ends_the_run(py, &raised) => Err(raised),
        Some(raised) => {
            let debug = event_loop.get().debug.get(py);
            let text = asyncio(py)?.helper(py, "format_callback_source")?.try_call((&callback, (&future,), debug))?;
            let message = format!("Exception in callback {text}");
            let exception = raised.value(py).as_any().clone();
            // asyncio names the handle here; what is kept of it is its text.
            let handle =
                asyncio(py)?.helper(py, "done_handle")?.try_call((&callback, &future, event_loop, &context))?;
            let items = [("exception", &exception), ("handle", &handle)];
            Ok(error::call_exception_handler(event_loop.as_any(), &message, &items)?)
        }
    }
}

fn run_native(callable: &Bound<'_, PyAny>) -> Slim<()> {
    let py = callable.py();
    match callable.try_call(()) {
        Ok(_) => Ok(()),
        Err(raised) if error::ends_the_run(py, &raised) => Err(Box::new(raised)),
        Err(raised) => {
            error::unraisable(py, raised, Some(callable));
            Ok(())
        }
    }
}

/// asyncio's own handle (an `asyncio.Handle` given to `_add_callback`).
fn run_foreign(py: Python<'_>, handle: &Py<PyAny>) -> Slim<()> {
    let handle = handle.bind(py);
    if handle.try_getattr(pyo3::intern!(py, "_cancelled"))?.try_is_truthy()? {
        return Ok(());
    }
    handle.try_call_method(pyo3::intern!(py, "_run"), ())?;
    Ok(())
}

/// As `run_entry`, in debug mode or for a trace.
#[inline(never)]
fn run_entry_timed(event_loop: &Bound<'_, LoopState>, state: &LoopState, entry: Entry) -> Slim<()> {
    let py = event_loop.py();
    if !trace::is_on() {
        return run_entry_in_debug_mode(event_loop, state, entry);
    }
    let name = traced::name_of(py, &entry);
    let is_step = matches!(entry, Entry::Step(_));
    let start = traced::start(py, state);
    let ran = if state.debug.get(py) {
        run_entry_in_debug_mode(event_loop, state, entry)
    } else if state.replaced.is_plain(py) {
        run_entry(event_loop, state, entry)
    } else {
        run_by_name(event_loop, state, entry)
    };
    traced::ran(py, state, is_step, name, start);
    ran
}

/// Debug mode: as `run_entry`, and report what took longer than `loop.slow_callback_duration`.
fn run_entry_in_debug_mode(event_loop: &Bound<'_, LoopState>, state: &LoopState, entry: Entry) -> Slim<()> {
    let py = event_loop.py();
    let subject = match &entry {
        Entry::Handle(handle) => handle.get().clone_ref(py).into_any(),
        Entry::Watcher(handle) => handle.clone_ref(py).into_any(),
        Entry::ThreadSafe(handle) => handle.get().clone_ref(py).into_any(),
        Entry::Timer(handle) => handle.get().clone_ref(py).into_any(),
        Entry::Done(done) => done.as_ref().as_ref().map_or_else(|| py.None(), |done| done.callback.clone_ref(py)),
        Entry::Step(object)
        | Entry::Native(object)
        | Entry::Ready(object)
        | Entry::Transition(object)
        | Entry::Foreign(object) => object.clone_ref(py),
    };
    let code = code_of(py, &entry);
    let began = Instant::now();
    let ran = run_by_name(event_loop, state, entry);
    let took = began.elapsed().as_secs_f64();
    state.snapshots.leave(py);
    if state.slowest.with(py, |slowest| slowest.as_ref().is_none_or(|known| took > known.1)) {
        drop(state.slowest.replace(py, Some((code.name(), took))));
    }
    let limit = event_loop.try_getattr(pyo3::intern!(py, "slow_callback_duration"))?.try_float()?;
    if took >= limit {
        asyncio(py)?.helper(py, "report_slow")?.try_call((subject, took))?;
    }
    ran
}
