//! What callbacks and steps leave to be done as soon as they have returned. Guarded by the GIL.

use std::collections::VecDeque;

use pyo3::prelude::*;

use super::clock::clock;
use crate::py::cell::GilCell;

/// Which of it there is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Left {
    /// A step polled a Rust future: tokio's cooperative budget may be used up.
    pub(super) polled_rust: bool,
    /// The writes of some connections have been gathered.
    pub(super) corked: bool,
}

/// How many connections that write in a batch make it worth to send for all of them together. A peer that is asleep is
/// woken by what it is sent: woken once, it finds the answers of the whole batch.
const WORTH_IT: usize = 4;

/// How long what is gathered waits for other callbacks, in nanoseconds.
const LONGEST_WAIT: u64 = 1_000_000;

/// Who writes, and how long what is gathered waits.
#[derive(Clone, Copy, Debug, Default)]
struct Writers {
    /// How many connections have written in this batch.
    count: usize,
    /// In the last batch in which any wrote they were many.
    are_many: bool,
    /// When the first of what waits was gathered, by the loop's clock.
    since: u64,
}

/// What the entry of the batch that runs now leaves.
#[derive(Debug, Default)]
pub struct After {
    left: GilCell<Left>,
    /// The transports with gathered writes.
    corked: GilCell<VecDeque<Py<PyAny>>>,
    writers: GilCell<Writers>,
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

    /// Whether many connections write, so that what they write is to be gathered.
    #[inline]
    pub fn many_write(&self, py: Python<'_>) -> bool {
        self.writers.with(py, |writers| writers.are_many)
    }

    /// A connection writes at once in the batch that runs, and has not done so before.
    #[inline]
    pub fn note_writer(&self, py: Python<'_>) {
        self.writers.with(py, |writers| writers.count += 1);
    }

    /// Have what the transport has gathered sent when the callback that runs has returned, or, where many connections
    /// write, soon: when the batch ends, if it does not take long.
    pub fn uncork_later(&self, transport: &Bound<'_, PyAny>) {
        let py = transport.py();
        self.corked.with(py, |corked| corked.push_back(transport.clone().unbind()));
        let first = !self.left.with(py, |left| std::mem::replace(&mut left.corked, true));
        self.writers.with(py, |writers| {
            writers.count += 1;
            if first && writers.are_many {
                writers.since = clock();
            }
        });
    }

    /// Whether what has been gathered is to be sent between two entries of a batch.
    #[inline]
    pub(super) fn is_due(&self, py: Python<'_>) -> bool {
        self.writers.with(py, |writers| !writers.are_many || clock().saturating_sub(writers.since) >= LONGEST_WAIT)
    }

    #[inline(always)]
    pub(super) fn begin(&self, py: Python<'_>, turn: u64) {
        self.turn.set(py, turn);
    }

    #[inline(always)]
    pub(super) fn end(&self, py: Python<'_>) {
        self.turn.set(py, 0);
        self.writers.with(py, |writers| {
            if writers.count > 0 {
                writers.are_many = writers.count >= WORTH_IT;
                writers.count = 0;
            }
        });
    }

    /// What the entry that has run leaves; gathered writes stay until they are sent.
    #[inline(always)]
    pub(super) fn take(&self, py: Python<'_>) -> Left {
        self.left.with(py, |left| {
            let taken = *left;
            left.polled_rust = false;
            taken
        })
    }

    /// The next transport with gathered writes.
    pub(super) fn next_corked<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let next = self.corked.with(py, VecDeque::pop_front);
        if next.is_none() {
            self.left.with(py, |left| left.corked = false);
        }
        next.map(|transport| transport.into_bound(py))
    }
}
