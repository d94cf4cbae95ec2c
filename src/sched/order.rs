//! The order in which tasks make the steps that became ready together, where a test has asked for another one
//! (`pyloop.testing`). Whatever is no task's step stays where it is in its batch, and no step passes it.
//!
//! Loop thread, GIL held. Nothing here runs Python code.

use pyo3::prelude::*;

use super::entry::Entry;
use super::hooks;
use super::state::LoopState;

/// Rearrange the batch in hand, which has just begun.
#[cold]
pub(super) fn rearrange(py: Python<'_>, state: &LoopState) {
    let Some(mut order) = state.order.get(py) else { return };
    let batch = state.ready.with(py, |ready| ready.take_batch());
    let key = |entry: &Entry| match entry {
        Entry::Step(task) => hooks::place_of(task.bind(py)),
        // A step may come by `call_soon` (`replaced`).
        Entry::Handle(handle) => {
            handle.get().get()._callback(py).and_then(|callback| hooks::place_of(callback.bind(py)))
        }
        _ => None,
    };
    let mut batch: Vec<_> = batch.into_iter().map(|entry| (key(&entry), entry)).collect();
    order.rearrange(&mut batch);
    state.order.set(py, Some(order));
    state.ready.with(py, |ready| ready.put_batch_back(batch.into_iter().map(|(_, entry)| entry)));
}
