//! A record of what happened last: as many as there is room for, made once; then the oldest go.
//!
//! Guarded by its owner. Room that is never written to costs no memory, where the kernel gives pages at the first
//! touch.

use std::collections::TryReserveError;

/// See the module.
#[derive(Debug)]
pub struct Ring<T> {
    records: Vec<T>,
    limit: usize,
    /// Where the next one goes, once it is full.
    next: usize,
    dropped: u64,
}

impl<T: Copy> Ring<T> {
    /// Room for `limit` records, one at least.
    ///
    /// # Errors
    /// There is not so much memory.
    pub fn new(limit: usize) -> Result<Self, TryReserveError> {
        let limit = limit.max(1);
        let mut records = Vec::new();
        records.try_reserve_exact(limit)?;
        Ok(Self { records, limit, next: 0, dropped: 0 })
    }

    #[inline]
    pub fn push(&mut self, record: T) {
        if self.records.len() < self.limit {
            self.records.push(record);
            return;
        }
        self.records[self.next] = record;
        self.next += 1;
        if self.next == self.limit {
            self.next = 0;
        }
        self.dropped += 1;
    }

    /// How many had to go.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let (newer, older) = self.records.split_at(self.next);
        older.iter().chain(newer)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_ring_drops_the_oldest() {
        let mut ring = Ring::new(3).expect("three fit");
        (0..5).for_each(|number| ring.push(number));
        assert_eq!(ring.iter().copied().collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!((ring.len(), ring.dropped()), (3, 2));
    }

    #[test]
    fn more_than_there_is_memory_for_is_refused() {
        assert!(Ring::<u64>::new(usize::MAX).is_err());
    }

    proptest! {
        #[test]
        fn it_keeps_the_last_ones_in_their_order(limit in 0..20_usize, count in 0..100_usize) {
            let mut ring = Ring::new(limit).expect("few fit");
            (0..count).for_each(|number| ring.push(number));
            let kept = count.min(limit.max(1));
            prop_assert!(ring.iter().copied().eq(count - kept..count));
            prop_assert_eq!((ring.len(), ring.dropped()), (kept, (count - kept) as u64));
        }
    }
}
