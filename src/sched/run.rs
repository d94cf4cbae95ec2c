//! One run of a loop: begin, block on the turns, end; and closing.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::clock::clock;
use super::handle::Handle;
use super::hooks;
use super::runtime::{Engine, EngineRef};
use super::state::{LoopState, refused};
use super::thread_safe_handle::ThreadSafeHandle;
use super::timer_handle::TimerHandle;
use super::turn::Turns;
use crate::accel::pool;
use crate::py::attach::{hold_while, thread_ident};
use crate::py::error;

/// The loop's engine, made at the first need.
///
/// # Errors
/// OSError when the runtime cannot be made.
pub fn engine(py: Python<'_>, state: &LoopState) -> PyResult<EngineRef> {
    if let Some(engine) = state.engine.with(py, |slot| slot.clone()) {
        return Ok(engine);
    }
    let made = Engine::new(&state.shared)?;
    Ok(state.engine.with(py, |slot| Arc::clone(slot.get_or_insert(made))))
}

/// Run until `stop()`; asyncio's errors when the loop is closed or running. The caller (Python, `run_forever`) has set
/// the running loop and the generator hooks.
///
/// # Errors
/// RuntimeError as said; KeyboardInterrupt or SystemExit from a callback or a signal handler;
/// PanicException for a mistake of ours in the turn (what others' code panics with is reported or is its task's).
pub fn run(event_loop: &Bound<'_, LoopState>) -> PyResult<()> {
    let py = event_loop.py();
    let state = event_loop.get();
    state.check_process()?;
    state.shared.lifecycle.begin().map_err(refused)?;
    let reactor = state.reactor.with(py, |reactor| reactor.clone());
    let prepared =
        engine(py, state).and_then(|engine| engine.prepare(py, &state.shared, reactor.as_deref()).map(|()| engine));
    let engine = prepared.inspect_err(|_| state.shared.lifecycle.end())?;
    state.replaced.doubt_dictionary(event_loop.as_any()).inspect_err(|_| state.shared.lifecycle.end())?;
    let outer = state.shared.begin_here(thread_ident());
    hooks::run_begins();
    pool::keep_all::<Handle>(py);
    pool::keep_all::<TimerHandle>(py);
    pool::keep_all::<ThreadSafeHandle>(py);
    let root = event_loop.clone().unbind();
    state.shared.times.begin(clock());
    let ended = hold_while(py, || {
        let turns = Turns::new(root, Arc::clone(&engine), reactor);
        error::catch_panic(|| engine.drive(turns))
    });
    state.shared.times.end(clock());
    state.shared.unregister();
    state.shared.end_here(outer);
    state.shared.lifecycle.end();
    pool::keep_few::<Handle>(py);
    pool::keep_few::<TimerHandle>(py);
    pool::keep_few::<ThreadSafeHandle>(py);
    state.snapshots.forget(py);
    state.track_waiting(py);
    hooks::run_ends(event_loop);
    ended?.map_err(|failed| error::os_error(&failed))?
}

/// A forked child: what waits in the loop is its parent's (`LoopState::leave_to_parent`), gathered writes included.
pub fn leave_to_parent(event_loop: &Bound<'_, LoopState>) {
    let py = event_loop.py();
    let state = event_loop.get();
    while let Some(corked) = state.after.next_corked(py) {
        hooks::forget_corked(corked.native.bind(py));
        std::mem::forget(corked);
    }
    state.leave_to_parent(py);
}

/// Close the loop; true when this call did it.
///
/// # Errors
/// RuntimeError when it is running.
pub fn close(event_loop: &Bound<'_, LoopState>) -> PyResult<bool> {
    let py = event_loop.py();
    let state = event_loop.get();
    let first =
        state.shared.lifecycle.close().map_err(|_| PyRuntimeError::new_err("Cannot close a running event loop"))?;
    if first {
        if state.shared.is_inherited() {
            // What there was is forgotten already (`leave_to_parent`); this is what the child itself has queued since.
            drop(state.engine.take(py));
            state.drop_all(py);
            return Ok(true);
        }
        let engine = state.engine.take(py);
        {
            drop(state.shared.inbox.close());
            let _context = engine.as_ref().map(|engine| engine.handle().enter());
            state.drop_all(py);
        }
        if let Some(engine) = engine {
            engine.shut_down(py);
        }
        state.shared.bell.take_down();
    }
    Ok(first)
}
