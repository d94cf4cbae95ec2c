//! A first-in-first-out queue in segments: it grows without moving what is in it, and gives its room back as it
//! empties.
//!
//! Used by one thread at a time; it holds no lock of its own. A queue that fits into one segment is a `VecDeque`; a
//! million entries are some five hundred of them, of which one is kept for the next when they have been taken out.

use std::collections::VecDeque;

/// Entries of one segment: 64 KiB of the ready queue's.
const SEGMENT: usize = 2048;

/// The queue.
#[derive(Debug)]
pub struct Fifo<T> {
    /// The oldest entries; not empty unless the queue is.
    head: VecDeque<T>,
    /// What came later: whole segments but for the last one.
    rest: VecDeque<VecDeque<T>>,
    /// An empty segment for the next need, so that a queue that is filled as fast as it empties allocates nothing.
    spare: Option<VecDeque<T>>,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self { head: VecDeque::new(), rest: VecDeque::new(), spare: None }
    }
}

impl<T> Fifo<T> {
    #[inline(always)]
    pub fn push(&mut self, entry: T) {
        if self.head.len() < SEGMENT && self.rest.is_empty() {
            self.head.push_back(entry);
        } else {
            self.push_to_rest(entry);
        }
    }

    #[inline]
    fn push_to_rest(&mut self, entry: T) {
        match self.rest.back_mut() {
            Some(last) if last.len() < SEGMENT => last.push_back(entry),
            _ => {
                let mut segment = self.spare.take().unwrap_or_else(|| VecDeque::with_capacity(SEGMENT));
                segment.push_back(entry);
                self.rest.push_back(segment);
            }
        }
    }

    #[inline(always)]
    pub fn pop(&mut self) -> Option<T> {
        let entry = self.head.pop_front();
        if self.head.is_empty() && !self.rest.is_empty() {
            self.next_segment();
        }
        entry
    }

    #[cold]
    fn next_segment(&mut self) {
        if let Some(next) = self.rest.pop_front() {
            self.spare = Some(std::mem::replace(&mut self.head, next));
        }
        if self.rest.is_empty() && self.rest.capacity() > SEGMENT {
            self.rest.shrink_to_fit();
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    #[inline]
    pub fn len(&self) -> usize {
        match self.rest.back() {
            None => self.head.len(),
            Some(last) => self.head.len() + (self.rest.len() - 1) * SEGMENT + last.len(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.head.iter().chain(self.rest.iter().flatten())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_first_in_first_out(rounds in prop::collection::vec((0_usize..3 * SEGMENT, 0_usize..3 * SEGMENT), 0..8)) {
            let (mut fifo, mut model, mut next) = (Fifo::default(), VecDeque::new(), 0_u32);
            for (pushes, pops) in rounds {
                for _ in 0..pushes {
                    fifo.push(next);
                    model.push_back(next);
                    next += 1;
                }
                prop_assert!(fifo.iter().eq(&model));
                for _ in 0..pops {
                    prop_assert_eq!(fifo.pop(), model.pop_front());
                    prop_assert_eq!(fifo.len(), model.len());
                    prop_assert_eq!(fifo.is_empty(), model.is_empty());
                }
            }
        }
    }

    #[test]
    fn after_a_burst_two_segments_are_kept() {
        let mut fifo = Fifo::default();
        for i in 0..100 * SEGMENT {
            fifo.push(i);
        }
        assert_eq!(fifo.rest.len(), 99);
        while fifo.pop().is_some() {}
        assert_eq!((fifo.rest.len(), fifo.head.capacity()), (0, SEGMENT));
        assert_eq!(fifo.spare.map(|spare| spare.capacity()), Some(SEGMENT));
    }

    #[test]
    fn what_is_filled_as_fast_as_it_empties_keeps_its_segments() {
        let mut fifo = Fifo::default();
        for i in 0..3 * SEGMENT {
            fifo.push(i);
        }
        for _ in 0..10 {
            for i in 0..SEGMENT {
                fifo.pop();
                fifo.push(i);
            }
            assert_eq!((fifo.len(), fifo.rest.len()), (3 * SEGMENT, 2));
            // The segment that was emptied is the next to be filled.
            let spare = fifo.spare.as_ref().map(|spare| spare.capacity());
            assert_eq!(spare, Some(SEGMENT));
        }
    }
}
