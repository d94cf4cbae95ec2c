//! What callbacks and steps leave to be done as soon as they have returned. Guarded by the GIL.

use std::collections::VecDeque;

use pyo3::prelude::*;

use super::clock::clock;
use crate::py::cell::{GilCell, GilValue};

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

/// The batch that runs, and who writes in it.
#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    /// Its number, from 1 on.
    number: u64,
    /// It runs; if not, it is the last one that ran.
    runs: bool,
    /// How many connections have written in it.
    writers: usize,
    /// In the last batch in which any wrote they were many.
    many_write: bool,
    /// When the first of what waits was gathered, by the loop's clock.
    since: u64,
}

/// A transport whose writes have been gathered.
#[derive(Debug)]
pub(super) struct Corked {
    pub(super) transport: Py<PyAny>,
    /// Its native part.
    pub(super) native: Py<PyAny>,
}

/// What the entry of the batch that runs now leaves.
#[derive(Debug, Default)]
pub struct After {
    left: GilValue<Left>,
    corked: GilCell<VecDeque<Corked>>,
    batch: GilValue<Batch>,
}

impl After {
    /// tokio's cooperative budget may be used up.
    #[inline(always)]
    pub fn note_polled(&self, py: Python<'_>) {
        self.left.update(py, |left| left.polled_rust = true);
    }

    /// The number of the batch in which a callback or a step runs, from 1 on; None between two of them.
    #[inline]
    pub fn batch(&self, py: Python<'_>) -> Option<u64> {
        let batch = self.batch.get(py);
        batch.runs.then_some(batch.number)
    }

    /// A connection writes in the batch that runs, for the first time in it or not. True: many do, so that what they
    /// write is to be gathered.
    #[inline]
    pub fn many_write(&self, py: Python<'_>, first: bool) -> bool {
        self.batch.update(py, |batch| {
            batch.writers += usize::from(first);
            batch.many_write
        })
    }

    /// Have what the transport, whose native part this is, has gathered sent when the callback that runs has returned,
    /// or, where many connections write, soon: when the batch ends, if it does not take long.
    pub fn uncork_later(&self, transport: &Bound<'_, PyAny>, native: &Bound<'_, PyAny>) {
        let py = transport.py();
        let corked = Corked { transport: transport.clone().unbind(), native: native.clone().unbind() };
        self.corked.with(py, |all| all.push_back(corked));
        if !self.left.update(py, |left| std::mem::replace(&mut left.corked, true)) {
            self.batch.update(py, |batch| {
                if batch.many_write {
                    batch.since = clock();
                }
            });
        }
    }

    /// Whether what has been gathered is to be sent between two entries of a batch.
    #[inline]
    pub(super) fn is_due(&self, py: Python<'_>) -> bool {
        let batch = self.batch.get(py);
        !batch.many_write || clock().saturating_sub(batch.since) >= LONGEST_WAIT
    }

    #[inline(always)]
    pub(super) fn begin(&self, py: Python<'_>) {
        self.batch.update(py, |batch| {
            batch.number += 1;
            batch.runs = true;
        });
    }

    #[inline(always)]
    pub(super) fn end(&self, py: Python<'_>) {
        self.batch.update(py, |batch| {
            batch.runs = false;
            if batch.writers > 0 {
                batch.many_write = batch.writers >= WORTH_IT;
                batch.writers = 0;
            }
        });
    }

    /// What the entry that has run leaves; gathered writes stay until they are sent.
    #[inline(always)]
    pub(super) fn take(&self, py: Python<'_>) -> Left {
        self.left.update(py, |left| {
            let taken = *left;
            left.polled_rust = false;
            taken
        })
    }

    /// The next transport with gathered writes.
    pub(super) fn next_corked(&self, py: Python<'_>) -> Option<Corked> {
        let next = self.corked.with(py, VecDeque::pop_front);
        if next.is_none() {
            self.left.update(py, |left| left.corked = false);
        }
        next
    }
}
