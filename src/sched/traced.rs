//! An entry that runs while a trace is taken: its name, when it begins, and its record.

use pyo3::prelude::*;

use super::entry::Entry;
use super::state::LoopState;
use super::subject;
use super::ticks::ticks;
use super::trace::{known, named, push, since};
use crate::core::timeline::{By, Kind, Name, Record};

/// The place of the name of what an entry runs.
#[inline(always)]
pub(super) fn name_of(py: Python<'_>, entry: &Entry) -> u32 {
    let found = subject::key_of(py, entry).and_then(|key| known(py, key));
    found.unwrap_or_else(|| find_name(py, entry))
}

#[inline(never)]
fn find_name(py: Python<'_>, entry: &Entry) -> u32 {
    let code = subject::code_of(py, entry);
    named(py, code.key, code.of.as_ref(), || Name { text: code.name(), source: code.source() })
}

/// When an entry begins to run. That is when the one before has ended, if the loop has done nothing else since but to
/// take it out of its queue.
#[inline(always)]
pub(super) fn start(py: Python<'_>, state: &LoopState) -> u64 {
    let ended = state.traced_until.get(py);
    // One that was recorded for a trace before this one, or none.
    if ended < since() { ticks() } else { ended }
}

/// An entry of a queue has run.
#[inline(always)]
pub(super) fn ran(py: Python<'_>, state: &LoopState, is_step: bool, name: u32, start: u64) {
    let end = ticks();
    state.traced_until.set(py, end);
    if start < since() {
        // It has ended the trace that knows its name, and begun another.
        return;
    }
    let kind = if is_step { Kind::Step } else { Kind::Callback };
    push(py, Record { start, end, what: name, by: By::new(state.shared.id(), kind) });
}
