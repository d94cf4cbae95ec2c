//! How long one poll of the turn may last.

use std::time::{Duration, Instant};

/// How long one poll may keep the driver waiting while there is ready work. A look at the driver costs about half a
/// microsecond, so this keeps its cost below half a percent and delays I/O by no more than a short callback would.
const SLICE: Duration = Duration::from_micros(150);
/// Entries between two looks at the clock: a look costs as much as a short callback.
const ENTRIES_PER_LOOK: usize = 64;
/// Batches between two looks at the clock.
const BATCHES_PER_LOOK: u32 = 16;

/// The time that a poll may take.
pub(super) struct Slice {
    began: Option<Instant>,
    pub(super) entries: usize,
    batches: u32,
}

impl Slice {
    pub(super) fn new() -> Self {
        Self { began: None, entries: 0, batches: 0 }
    }

    /// After a batch: whether the driver must be looked at. The clock is read now and then only.
    pub(super) fn is_over(&mut self) -> bool {
        self.batches += 1;
        if self.entries < ENTRIES_PER_LOOK && self.batches < BATCHES_PER_LOOK {
            return false;
        }
        self.entries = 0;
        self.batches = 0;
        match self.began {
            Some(began) => began.elapsed() >= SLICE,
            None => {
                self.began = Some(Instant::now());
                false
            }
        }
    }
}
