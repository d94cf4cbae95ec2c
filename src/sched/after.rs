//! What callbacks and steps leave to be done as soon as they have returned. Guarded by the GIL.

use std::collections::VecDeque;

use pyo3::prelude::*;

use crate::py::cell::GilCell;

/// Which of it there is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Left {
    /// A step polled a Rust future: tokio's cooperative budget may be used up.
    pub(super) polled_rust: bool,
    /// The writes of some connections have been gathered.
    pub(super) corked: bool,
}

/// What the entry of the batch that runs now leaves.
#[derive(Debug, Default)]
pub struct After {
    left: GilCell<Left>,
    /// The transports with gathered writes.
    corked: GilCell<VecDeque<Py<PyAny>>>,
    /// The number of the turn whose batch runs, from 1 on; 0 when none does.
    turn: GilCell<u64>,
}

impl After {
    /// tokio's cooperative budget may be used up.
    #[inline(always)]
    pub fn note_polled(&self, py: Python<'_>) {
        self.left.with(py, |left| left.polled_rust = true);
    }

    /// In which turn a callback or a step runs, from 1 on; None between two of them.
    #[inline]
    pub fn turn(&self, py: Python<'_>) -> Option<u64> {
        Some(self.turn.get(py)).filter(|&turn| turn != 0)
    }

    /// Have what the transport has gathered sent when the callback that runs has returned.
    pub fn uncork_later(&self, transport: &Bound<'_, PyAny>) {
        let py = transport.py();
        self.corked.with(py, |corked| corked.push_back(transport.clone().unbind()));
        self.left.with(py, |left| left.corked = true);
    }

    #[inline(always)]
    pub(super) fn begin(&self, py: Python<'_>, turn: u64) {
        self.turn.set(py, turn);
    }

    #[inline(always)]
    pub(super) fn end(&self, py: Python<'_>) {
        self.turn.set(py, 0);
    }

    #[inline(always)]
    pub(super) fn take(&self, py: Python<'_>) -> Left {
        self.left.take(py)
    }

    /// The next transport with gathered writes.
    pub(super) fn next_corked<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.corked.with(py, VecDeque::pop_front).map(|transport| transport.into_bound(py))
    }
}
