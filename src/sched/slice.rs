//! How long one poll of the turn may last.

use super::clock::clock;

/// How long one poll may keep the driver waiting while there is ready work, in nanoseconds. A look at the driver costs
/// about half a microsecond, so this keeps its cost below half a percent and delays I/O by no more than a short
/// callback would.
const SLICE: u64 = 150_000;
/// Entries between two looks at the clock: a look costs as much as a short callback.
const ENTRIES_PER_LOOK: u64 = 64;
/// Batches between two looks at the clock.
const BATCHES_PER_LOOK: u32 = 16;

/// The time that a poll may take.
pub(super) struct Slice {
    /// 0: the clock has not been read.
    began: u64,
    /// How many the loop had run at the last look.
    entries: u64,
    batches: u32,
}

impl Slice {
    /// `entries`: how many the loop has run.
    pub(super) fn new(entries: u64) -> Self {
        Self { began: 0, entries, batches: 0 }
    }

    /// After a batch, the loop having run so many entries: when the driver must be looked at, which is now. None: not
    /// yet. The clock is read now and then only.
    #[inline]
    pub(super) fn is_over(&mut self, entries: u64) -> Option<u64> {
        self.batches += 1;
        if entries - self.entries < ENTRIES_PER_LOOK && self.batches < BATCHES_PER_LOOK {
            return None;
        }
        self.entries = entries;
        self.batches = 0;
        let now = clock();
        if self.began == 0 {
            self.began = now;
        }
        (now - self.began >= SLICE).then_some(now)
    }
}
