//! What `pyloop.testing` has a loop do: another clock, and another order of steps. Loop thread, GIL held.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::Loop;
use crate::core::shuffle::Shuffle;
use crate::core::timers::nanos;
use crate::sched::entry::Entry;
use crate::sched::handle::Handle;
use crate::sched::virtual_time;

/// Have the loop's clock stand still, and jump when the loop has had nothing to do for `threshold` seconds. `start`:
/// what it shows, on a loop that has no timers.
///
/// # Errors
/// RuntimeError: it does so already, or there are timers; ValueError for a time that is negative or no number.
#[pyfunction]
#[pyo3(signature = (event_loop, threshold, start = None))]
fn _begin_virtual_time(event_loop: &Bound<'_, Loop>, threshold: Option<f64>, start: Option<f64>) -> PyResult<()> {
    let (py, state) = (event_loop.py(), event_loop.as_super().get());
    for given in [threshold, start].into_iter().flatten() {
        if !(given >= 0.0 && given.is_finite()) {
            return Err(PyValueError::new_err("a time must be a finite number of seconds, not negative"));
        }
    }
    if state.virtual_time.get(py).is_on {
        return Err(PyRuntimeError::new_err("this loop has virtual time already"));
    }
    if start.is_some() && !state.timers.with(py, |timers| timers.is_empty()) {
        return Err(PyRuntimeError::new_err("a loop that has timers cannot be given another time"));
    }
    virtual_time::begin(py, state, threshold.map(nanos));
    if let Some(start) = start {
        state.clock.move_to(py, start);
    }
    Ok(())
}

/// Have the loop's clock go on from where it is.
#[pyfunction]
fn _end_virtual_time(event_loop: &Bound<'_, Loop>) {
    virtual_time::end(event_loop.py(), event_loop.as_super().get());
}

/// How often the loop's clock has jumped, and whether it may still.
#[pyfunction]
fn _virtual_time(event_loop: &Bound<'_, Loop>) -> (u64, bool) {
    let known = event_loop.as_super().get().virtual_time.get(event_loop.py());
    (known.jumps, known.is_on)
}

/// Move a clock that stands still.
///
/// # Errors
/// RuntimeError: it does not; ValueError for a time that is negative or no number.
#[pyfunction]
fn _advance_time(event_loop: &Bound<'_, Loop>, seconds: f64) -> PyResult<()> {
    let (py, state) = (event_loop.py(), event_loop.as_super().get());
    if !(seconds >= 0.0 && seconds.is_finite()) {
        return Err(PyValueError::new_err("a clock moves forward, by a finite number of seconds"));
    }
    if !state.virtual_time.get(py).is_on {
        return Err(PyRuntimeError::new_err("this loop has no virtual time"));
    }
    state.clock.stop(py);
    state.clock.move_to(py, state.clock.time(py) + seconds);
    state.wake_if_away();
    Ok(())
}

/// Something begins that takes real time. False: it does not matter, the loop has no virtual time.
#[pyfunction]
fn _hold_time(event_loop: &Bound<'_, Loop>) -> bool {
    let state = event_loop.as_super().get();
    let is_on = state.virtual_time.get(event_loop.py()).is_on;
    if is_on {
        state.shared.hold_time();
    }
    is_on
}

/// It has ended; to be called once for each `_hold_time` that was true, from any thread.
#[pyfunction]
fn _release_time(event_loop: &Bound<'_, Loop>) {
    event_loop.as_super().get().shared.release_time();
}

/// Have the tasks that are ready together make their steps in an order that follows from `seed`; None: in the order in
/// which they became ready.
#[pyfunction]
fn _shuffle_steps(event_loop: &Bound<'_, Loop>, seed: Option<u64>) {
    event_loop.as_super().get().order.set(event_loop.py(), seed.map(Shuffle::new));
}

/// What is ready and not cancelled, and the timers.
#[pyfunction]
fn _waiting(event_loop: &Bound<'_, Loop>) -> (Vec<Py<PyAny>>, Vec<Py<PyAny>>) {
    let (py, state) = (event_loop.py(), event_loop.as_super().get());
    let live =
        |handle: &Bound<'_, Handle>| (!handle.get().is_cancelled(py)).then(|| handle.clone().into_any().unbind());
    let ready = |entry: &Entry| match entry {
        Entry::Handle(handle) => live(handle.bind(py)),
        Entry::Watcher(handle) => live(handle.bind(py)),
        Entry::ThreadSafe(handle) => live(handle.bind(py).as_super()),
        Entry::Timer(handle) => live(handle.bind(py).as_super()),
        Entry::Done(done) => done.as_ref().as_ref().map(|done| done.callback.clone_ref(py)),
        Entry::Step(object)
        | Entry::Native(object)
        | Entry::Ready(object)
        | Entry::Transition(object)
        | Entry::Foreign(object) => Some(object.clone_ref(py)),
    };
    let ready = state.ready.with(py, |all| all.iter().filter_map(ready).collect());
    let timers = state.timers.with(py, |all| all.iter().filter_map(|timer| live(timer.bind(py).as_super())).collect());
    (ready, timers)
}

/// Add them to the module.
///
/// # Errors
/// MemoryError.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_begin_virtual_time, module)?)?;
    module.add_function(wrap_pyfunction!(_end_virtual_time, module)?)?;
    module.add_function(wrap_pyfunction!(_virtual_time, module)?)?;
    module.add_function(wrap_pyfunction!(_advance_time, module)?)?;
    module.add_function(wrap_pyfunction!(_hold_time, module)?)?;
    module.add_function(wrap_pyfunction!(_release_time, module)?)?;
    module.add_function(wrap_pyfunction!(_shuffle_steps, module)?)?;
    module.add_function(wrap_pyfunction!(_waiting, module)?)
}
