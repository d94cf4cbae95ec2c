//! What a loop counts, always: plain numbers that the GIL guards. `loop.statistics()` shows them.

use pyo3::prelude::*;

use crate::py::cell::GilValue;

/// Since the loop was made.
#[derive(Debug, Default)]
pub struct Counters {
    pub turns: Count,
    /// Entries that were no step.
    pub callbacks: Count,
    pub steps: Count,
    /// Polls of Rust futures in steps of the loop's tasks.
    pub polls: Count,
    pub timers_fired: Count,
    pub messages: Count,
    /// What the kernel has told of descriptors.
    pub events: Count,
    /// What called the loop back to its queue, which had been empty.
    pub wakes: Wakes,
    /// By native transports.
    pub received: Count,
    pub sent: Count,
}

/// What called the loop back, each time one of these.
#[derive(Debug, Default)]
pub struct Wakes {
    pub by_threads: Count,
    pub by_descriptors: Count,
    pub by_timers: Count,
    /// All else: Rust tasks and futures, which tokio woke on the loop's own thread.
    pub by_tokio: Count,
}

/// A count.
#[derive(Debug, Default)]
pub struct Count(GilValue<u64>);

impl Count {
    #[inline(always)]
    pub fn get(&self, py: Python<'_>) -> u64 {
        self.0.get(py)
    }

    #[inline(always)]
    pub fn add(&self, py: Python<'_>, more: usize) {
        self.0.update(py, |count| *count += more as u64);
    }
}

impl Counters {
    /// How many entries have been run, the one that runs included.
    #[inline(always)]
    pub fn entries(&self, py: Python<'_>) -> u64 {
        self.callbacks.get(py) + self.steps.get(py)
    }
}
