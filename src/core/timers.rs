//! Timers: a heap of nanosecond deadlines, first in first out among equal ones.
//!
//! Used by one thread at a time (the loop's, or whoever holds the GIL). A cancelled timer stays in the heap until it
//! is due or until the cancelled ones are the majority, then one pass removes them all: a cancel is O(1) amortised and
//! cancelled timers never outnumber the live ones by more than `SLACK`.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Cancelled timers that are not worth a pass over the heap.
const SLACK: usize = 64;

#[derive(Debug)]
struct Timer<T> {
    when: u64,
    /// Order of arrival, the tie-breaker.
    seq: u64,
    item: T,
}

impl<T> Timer<T> {
    fn key(&self) -> (u64, u64) {
        (self.when, self.seq)
    }
}

impl<T> PartialEq for Timer<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Timer<T> {}

impl<T> PartialOrd for Timer<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Timer<T> {
    // std's heap has its greatest on top; ours is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// Pending timers of one loop.
#[derive(Debug)]
pub struct Timers<T> {
    heap: BinaryHeap<Timer<T>>,
    seq: u64,
    cancelled: usize,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), seq: 0, cancelled: 0 }
    }
}

impl<T> Timers<T> {
    pub fn push(&mut self, when: u64, item: T) {
        self.seq += 1;
        self.heap.push(Timer { when, seq: self.seq, item });
    }

    /// The deadline of the earliest timer, cancelled ones included.
    #[inline]
    pub fn earliest(&self) -> Option<u64> {
        self.heap.peek().map(|timer| timer.when)
    }

    /// The earliest timer and its deadline, cancelled ones included.
    pub fn first(&self) -> Option<(u64, &T)> {
        self.heap.peek().map(|timer| (timer.when, &timer.item))
    }

    /// The earliest timer that is due at `now`.
    #[inline]
    pub fn pop_due(&mut self, now: u64) -> Option<T> {
        if self.earliest()? > now {
            return None;
        }
        self.heap.pop().map(|timer| timer.item)
    }

    /// A timer that came out of `pop_due` was a cancelled one.
    pub fn forget_cancelled(&mut self) {
        self.cancelled = self.cancelled.saturating_sub(1);
    }

    /// One of the pending timers has been cancelled. True: there are many, and `take_cancelled` is to follow.
    #[must_use = "cancelled timers must not pile up"]
    #[inline(always)]
    pub fn note_cancelled(&mut self) -> bool {
        self.cancelled += 1;
        self.cancelled > SLACK && self.cancelled * 2 > self.heap.len()
    }

    /// Take the cancelled ones out.
    #[must_use = "the removed items are the caller's to drop, after it let go of the timers"]
    pub fn take_cancelled(&mut self, is_cancelled: impl Fn(&T) -> bool) -> Vec<T> {
        self.cancelled = 0;
        let (gone, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.heap).into_vec().into_iter().partition(|timer| is_cancelled(&timer.item));
        self.heap = BinaryHeap::from(kept);
        gone.into_iter().map(|timer| timer.item).collect()
    }

    /// How many timers there have been.
    pub fn pushed(&self) -> u64 {
        self.seq
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub fn take_all(&mut self) -> Vec<T> {
        self.cancelled = 0;
        std::mem::take(&mut self.heap).into_vec().into_iter().map(|timer| timer.item).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.heap.iter().map(|timer| &timer.item)
    }
}

/// Seconds of the loop's clock as nanoseconds, rounded up: a timer is late by a nanosecond rather than early. NaN is
/// due at once, what is too far away saturates.
pub fn nanos(seconds: f64) -> u64 {
    // `as` saturates and takes NaN to 0.
    (seconds * 1e9).ceil() as u64
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cancelled_timers_do_not_pile_up() {
        let mut timers = Timers::default();
        for i in 0..10_000_u64 {
            timers.push(i, true);
            if timers.note_cancelled() {
                drop(timers.take_cancelled(|&cancelled| cancelled));
            }
            assert!(timers.len() <= SLACK + 1);
        }
    }

    #[test]
    fn seconds_round_up_and_saturate() {
        assert_eq!(nanos(1e-10), 1);
        assert_eq!(nanos(-5.0), 0);
        assert_eq!(nanos(f64::NAN), 0);
        assert_eq!(nanos(f64::INFINITY), u64::MAX);
        assert_eq!(nanos(1.5), 1_500_000_000);
    }

    proptest! {
        #[test]
        fn timers_come_out_in_deadline_order_then_in_order_of_arrival(whens in prop::collection::vec(0_u64..20, 0..200)) {
            let mut timers = Timers::default();
            let mut expected: Vec<(u64, usize)> = whens.iter().copied().zip(0..).collect();
            for (index, when) in whens.iter().enumerate() {
                timers.push(*when, (*when, index));
            }
            expected.sort_unstable();
            let got: Vec<_> = std::iter::from_fn(|| timers.pop_due(u64::MAX)).collect();
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn nothing_comes_out_early(whens in prop::collection::vec(0_u64..100, 0..50), now in 0_u64..100) {
            let mut timers = Timers::default();
            for when in &whens {
                timers.push(*when, *when);
            }
            while let Some(when) = timers.pop_due(now) {
                prop_assert!(when <= now);
            }
            prop_assert!(timers.earliest().is_none_or(|when| when > now));
        }
    }
}
