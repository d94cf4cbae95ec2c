//! The ready queue: three first-in-first-out lanes and the rule that says which lane runs next.
//!
//! Used by one thread at a time (the loop's, or whoever holds the GIL); it holds no lock of its own.
//!
//! The rule: a *batch* is what a lane held when the batch began. A HIGH batch goes before the next NORMAL batch. LOW
//! entries run when nothing else is ready; one is run after `LOW_PATIENCE` batches of the other lanes at the latest,
//! so a busy loop delays LOW work by a bounded number of batches and never starves it.

use super::fifo::Fifo;

/// Batches of the other lanes that a waiting LOW entry lets pass at most.
pub const LOW_PATIENCE: u32 = 64;

/// Which lane an entry waits in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Lane {
    High = 0,
    #[default]
    Normal = 1,
    Low = 2,
}

/// The three lanes.
#[derive(Debug)]
pub struct ReadyQueue<T> {
    normal: Fifo<T>,
    high: Fifo<T>,
    low: Fifo<T>,
    /// The lane that the batch in hand is taken from, and how many of its entries are still to run.
    lane: Lane,
    left: usize,
    /// Batches that ran while a LOW entry waited.
    passed_low: u32,
}

impl<T> Default for ReadyQueue<T> {
    fn default() -> Self {
        Self {
            normal: Fifo::default(),
            high: Fifo::default(),
            low: Fifo::default(),
            lane: Lane::Normal,
            left: 0,
            passed_low: 0,
        }
    }
}

impl<T> ReadyQueue<T> {
    #[inline]
    pub fn push(&mut self, entry: T) {
        self.normal.push(entry);
    }

    #[inline]
    pub fn push_to(&mut self, lane: Lane, entry: T) {
        self.lane_mut(lane).push(entry);
    }

    #[inline]
    fn lane_mut(&mut self, lane: Lane) -> &mut Fifo<T> {
        match lane {
            Lane::High => &mut self.high,
            Lane::Normal => &mut self.normal,
            Lane::Low => &mut self.low,
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.normal.is_empty() && self.high.is_empty() && self.low.is_empty()
    }

    pub fn len(&self) -> usize {
        self.normal.len() + self.high.len() + self.low.len()
    }

    /// Choose the next batch, unless one is in hand. False when nothing is ready.
    #[inline(always)]
    pub fn begin_batch(&mut self) -> bool {
        if self.left > 0 {
            return true;
        }
        let after_high = self.lane == Lane::High && !self.normal.is_empty();
        let low_is_due = self.passed_low >= LOW_PATIENCE && !self.low.is_empty();
        if !self.high.is_empty() && !after_high && !low_is_due {
            self.lane = Lane::High;
            self.left = self.high.len();
        } else if low_is_due || (self.normal.is_empty() && !self.low.is_empty()) {
            // One LOW entry a batch: what is more important is looked for after each.
            self.lane = Lane::Low;
            self.left = 1;
            self.passed_low = 0;
            return true;
        } else if !self.normal.is_empty() {
            self.lane = Lane::Normal;
            self.left = self.normal.len();
        } else {
            return false;
        }
        if !self.low.is_empty() {
            self.passed_low += 1;
        }
        true
    }

    /// Whether no batch is in hand.
    #[inline(always)]
    pub fn is_between_batches(&self) -> bool {
        self.left == 0
    }

    /// Take the batch in hand out, which has just begun; it is to be put back before anything is pushed.
    #[must_use = "what is taken out must be put back"]
    pub fn take_batch(&mut self) -> Vec<T> {
        let mut batch = Vec::with_capacity(self.left);
        while let Some(entry) = self.next_of_batch() {
            batch.push(entry);
        }
        batch
    }

    /// Put back what `take_batch` gave, before what is behind it in its lane.
    pub fn put_batch_back(&mut self, batch: impl ExactSizeIterator<Item = T>) {
        self.left = batch.len();
        let lane = self.lane;
        let mut behind = std::mem::take(self.lane_mut(lane));
        batch.chain(std::iter::from_fn(|| behind.pop())).for_each(|entry| self.push_to(lane, entry));
    }

    /// The next entry of the batch in hand, or None when the batch is done.
    #[inline]
    pub fn next_of_batch(&mut self) -> Option<T> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let lane = self.lane;
        self.lane_mut(lane).pop()
    }

    /// The run is left in the middle of the batch: what is left of it belongs to the next one.
    pub fn give_batch_up(&mut self) {
        self.left = 0;
    }

    /// Take every entry out (a closing loop drops them).
    pub fn take_all(&mut self) -> Vec<T> {
        self.left = 0;
        let mut all = Vec::with_capacity(self.len());
        for lane in [&mut self.high, &mut self.normal, &mut self.low] {
            all.extend(std::iter::from_fn(|| lane.pop()));
        }
        all
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.high.iter().chain(self.normal.iter()).chain(self.low.iter())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn batch(queue: &mut ReadyQueue<u32>) -> Vec<u32> {
        assert!(queue.begin_batch());
        std::iter::from_fn(|| queue.next_of_batch()).collect()
    }

    #[test]
    fn a_batch_is_what_was_queued_when_it_began() {
        let mut queue = ReadyQueue::default();
        queue.push(1);
        queue.push(2);
        assert!(queue.begin_batch());
        assert_eq!(queue.next_of_batch(), Some(1));
        queue.push(3);
        assert_eq!(queue.next_of_batch(), Some(2));
        assert_eq!(queue.next_of_batch(), None);
        assert_eq!(batch(&mut queue), [3]);
        assert!(!queue.begin_batch());
    }

    #[test]
    fn a_batch_that_is_put_back_stays_the_batch_in_hand() {
        let mut queue = ReadyQueue::default();
        for entry in 1..=3 {
            queue.push(entry);
        }
        assert!(queue.is_between_batches() && queue.begin_batch() && !queue.is_between_batches());
        let taken = queue.take_batch();
        assert_eq!(taken, [1, 2, 3]);
        queue.put_batch_back(taken.into_iter().rev());
        queue.push(4);
        assert_eq!(batch(&mut queue), [3, 2, 1]);
        assert_eq!(batch(&mut queue), [4]);
        queue.push_to(Lane::Low, 8);
        queue.push_to(Lane::Low, 9);
        assert!(queue.begin_batch());
        let taken = queue.take_batch();
        assert_eq!(taken, [8]);
        queue.put_batch_back(taken.into_iter());
        assert_eq!(batch(&mut queue), [8]);
        assert_eq!(batch(&mut queue), [9]);
    }

    #[test]
    fn high_goes_before_the_next_normal_batch_and_low_last() {
        let mut queue = ReadyQueue::default();
        queue.push_to(Lane::Low, 9);
        queue.push(1);
        queue.push_to(Lane::High, 0);
        assert_eq!(batch(&mut queue), [0]);
        assert_eq!(batch(&mut queue), [1]);
        assert_eq!(batch(&mut queue), [9]);
    }

    #[test]
    fn busy_high_work_lets_normal_batches_through() {
        let mut queue = ReadyQueue::default();
        let mut ran = Vec::new();
        queue.push(1);
        for _ in 0..4 {
            queue.push_to(Lane::High, 0);
            queue.push(1);
            ran.extend(batch(&mut queue));
        }
        assert_eq!(ran, [0, 1, 1, 1, 0, 0, 1, 1]);
    }

    #[test]
    fn busy_high_work_does_not_starve_low() {
        let mut queue = ReadyQueue::default();
        queue.push_to(Lane::Low, 9);
        for _ in 0..=LOW_PATIENCE {
            queue.push_to(Lane::High, 0);
            if batch(&mut queue) == [9] {
                return;
            }
        }
        panic!("the LOW entry waits for ever");
    }

    #[test]
    fn low_waits_a_bounded_number_of_batches() {
        let mut queue = ReadyQueue::default();
        queue.push_to(Lane::Low, 9);
        let mut batches = 0;
        loop {
            queue.push(1);
            if batch(&mut queue) == [9] {
                break;
            }
            batches += 1;
            assert!(batches <= LOW_PATIENCE);
        }
        assert_eq!(batches, LOW_PATIENCE);
    }
}
