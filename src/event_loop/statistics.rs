//! `loop.statistics()`: what the loop counts, how it spends its time, and what there is of it now.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::accel::{self, pool::spares};
use crate::bridge::RustFuture;
use crate::future::{Future, FutureIter};
use crate::io::reader::coroutine::StreamCall;
use crate::io::watch::Watch;
use crate::sched::LoopState;
use crate::sched::clock::clock;
use crate::sched::handle::Handle;
use crate::sched::thread_safe_handle::ThreadSafeHandle;
use crate::sched::timer_handle::TimerHandle;
use crate::task::Task;

/// The numbers of a loop. `watch`: None, it is closed.
///
/// # Errors
/// MemoryError.
pub(super) fn of<'py>(py: Python<'py>, state: &LoopState, watch: Option<Arc<Watch>>) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    let counters = &state.counters;
    let counts = [
        ("turns", &counters.turns),
        ("callbacks", &counters.callbacks),
        ("steps", &counters.steps),
        ("polls", &counters.polls),
        ("timers_fired", &counters.timers_fired),
        ("messages", &counters.messages),
        ("events", &counters.events),
        ("wakes_by_threads", &counters.wakes.by_threads),
        ("wakes_by_descriptors", &counters.wakes.by_descriptors),
        ("wakes_by_timers", &counters.wakes.by_timers),
        ("wakes_by_tokio", &counters.wakes.by_tokio),
        ("bytes_received", &counters.received),
        ("bytes_sent", &counters.sent),
    ];
    for (name, count) in counts {
        all.set_item(name, count.get(py))?;
    }
    let spent = state.shared.times.read(clock());
    all.set_item("parks", spent.parks)?;
    all.set_item("seconds_running", seconds(spent.running))?;
    all.set_item("seconds_busy", seconds(spent.busy()))?;
    all.set_item("seconds_parked", seconds(spent.parked))?;
    all.set_item("seconds_waiting_for_gil", seconds(spent.waiting))?;
    all.set_item("longest_busy", seconds(spent.longest_busy))?;
    all.set_item("longest_wait_for_gil", seconds(spent.longest_wait))?;
    all.set_item("slowest_callback", state.slowest.with(py, |slowest| slowest.clone()))?;
    all.set_item("ready", state.ready.with(py, |ready| ready.len()))?;
    all.set_item("timers", state.timers.with(py, |timers| timers.len()))?;
    let (hidden, resting) = state.tasks.with(py, |tasks| (tasks.hidden.len(), tasks.resting.len()));
    all.set_item("tasks", hidden + resting)?;
    all.set_item("hidden_tasks", hidden)?;
    let (descriptors, transports) = watch.map_or((0, 0), |watch| watch.count(py));
    all.set_item("descriptors", descriptors)?;
    all.set_item("transports", transports)?;
    all.set_item("pooled", pooled(py))?;
    let (on, off) = accel::count(py);
    all.set_item("accelerations_on", on)?;
    all.set_item("accelerations_off", off)?;
    Ok(all)
}

/// See `Loop::_entry_that_runs`.
pub(super) fn entry_that_runs(py: Python<'_>, state: &LoopState) -> Option<u64> {
    let runs = state.after.batch(py).is_some() && !state.shared.times.is_asleep();
    runs.then(|| state.counters.entries(py))
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 * 1e-9
}

/// How many spare instances the pools of the process keep.
fn pooled(py: Python<'_>) -> usize {
    spares::<Handle>(py)
        + spares::<TimerHandle>(py)
        + spares::<ThreadSafeHandle>(py)
        + spares::<Future>(py)
        + spares::<FutureIter>(py)
        + spares::<Task>(py)
        + spares::<RustFuture>(py)
        + spares::<StreamCall>(py)
}
