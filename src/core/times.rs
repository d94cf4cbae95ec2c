//! How a loop spends its time: at work, asleep, or awake and waiting for the GIL.
//!
//! | from \ call | `begin`   | `park`    | `woken`           | `attached` | `end`     |
//! |-------------|-----------|-----------|-------------------|------------|-----------|
//! | not running | busy      | -         | -                 | -          | -         |
//! | busy        | -         | asleep    | -                 | -          | not running |
//! | asleep      | -         | -         | waits for the GIL | -          | -         |
//! | waits       | -         | -         | -                 | busy       | -         |
//!
//! The loop's thread writes, and holds the GIL when it does, but for `woken`: that is one word. So whoever holds the
//! GIL reads a whole picture from any thread. No call reads a clock: the caller gives the time, in nanoseconds.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that the GIL guards.
#[derive(Debug, Default)]
struct Guarded(AtomicU64);

impl Guarded {
    #[inline]
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    #[inline]
    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    fn add(&self, more: u64) {
        self.set(self.get() + more);
    }

    #[inline]
    fn at_least(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }
}

/// See the module. A time of 0: not now.
#[derive(Debug, Default)]
pub struct Times {
    /// When the run began.
    running_since: Guarded,
    /// When the loop fell asleep.
    asleep_since: Guarded,
    /// When it woke, and began to wait for the GIL.
    woken_at: AtomicU64,
    /// Since when it has been at work without a look at tokio's driver.
    busy_since: Guarded,
    /// How long the runs before took.
    ran: Guarded,
    parked: Guarded,
    waited: Guarded,
    parks: Guarded,
    longest_wait: Guarded,
    longest_busy: Guarded,
    /// How long the last sleep took, the wait for the GIL included.
    last_sleep: Guarded,
}

/// How a loop has spent its time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// In runs.
    pub running: u64,
    /// Of that asleep.
    pub parked: u64,
    /// Of that awake, and waiting for the GIL.
    pub waiting: u64,
    /// How often it slept.
    pub parks: u64,
    pub longest_wait: u64,
    /// The longest it was at work without a look at tokio's driver.
    pub longest_busy: u64,
}

impl Spent {
    /// In runs and neither asleep nor waiting.
    pub fn busy(&self) -> u64 {
        self.running.saturating_sub(self.parked).saturating_sub(self.waiting)
    }
}

/// What a sleep came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slept {
    pub since: u64,
    pub woken: u64,
    pub attached: u64,
}

impl Times {
    /// A run begins.
    pub fn begin(&self, now: u64) {
        self.running_since.set(now);
        self.busy_since.set(now);
    }

    /// It is over.
    pub fn end(&self, now: u64) {
        self.looks(now);
        self.ran.add(now.saturating_sub(self.running_since.get()));
        self.running_since.set(0);
    }

    /// The loop falls asleep.
    #[inline]
    pub fn park(&self, now: u64) {
        self.looks(now);
        self.asleep_since.set(now);
    }

    /// It is awake. Without the GIL.
    #[inline]
    pub fn woken(&self, now: u64) {
        self.woken_at.store(now, Ordering::Relaxed);
    }

    /// It has the GIL again.
    #[inline]
    pub fn attached(&self, now: u64) -> Slept {
        let slept =
            Slept { since: self.asleep_since.get(), woken: self.woken_at.load(Ordering::Relaxed), attached: now };
        let waited = now.saturating_sub(slept.woken);
        self.parks.add(1);
        self.parked.add(slept.woken.saturating_sub(slept.since));
        self.waited.add(waited);
        self.longest_wait.at_least(waited);
        self.last_sleep.set(now.saturating_sub(slept.since));
        self.asleep_since.set(0);
        self.woken_at.store(0, Ordering::Relaxed);
        self.busy_since.set(now);
        slept
    }

    /// It has been at work until now, and lets tokio's driver look.
    #[inline]
    pub fn looks(&self, now: u64) {
        self.longest_busy.at_least(now.saturating_sub(self.busy_since.get()));
        self.busy_since.set(now);
    }

    /// Since when it has been at work without a look at tokio's driver.
    #[inline]
    pub fn busy_since(&self) -> u64 {
        self.busy_since.get()
    }

    /// How long the last sleep took, the wait for the GIL included.
    #[inline]
    pub fn last_sleep(&self) -> u64 {
        self.last_sleep.get()
    }

    /// Whether it sleeps, or has woken and waits for the GIL.
    pub fn is_asleep(&self) -> bool {
        self.asleep_since.get() != 0
    }

    /// What there is until now, whatever the loop does at the moment.
    pub fn read(&self, now: u64) -> Spent {
        let since = |began: u64| if began == 0 { 0 } else { now.saturating_sub(began) };
        let mut spent = Spent {
            running: self.ran.get() + since(self.running_since.get()),
            parked: self.parked.get(),
            waiting: self.waited.get(),
            parks: self.parks.get(),
            longest_wait: self.longest_wait.get(),
            longest_busy: self.longest_busy.get(),
        };
        let asleep_since = self.asleep_since.get();
        if asleep_since == 0 {
            if self.running_since.get() != 0 {
                spent.longest_busy = spent.longest_busy.max(since(self.busy_since.get()));
            }
            return spent;
        }
        match self.woken_at.load(Ordering::Relaxed) {
            0 => spent.parked += since(asleep_since),
            woken => {
                spent.parked += woken.saturating_sub(asleep_since);
                spent.waiting += since(woken);
            }
        }
        spent
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sleep_is_told_from_the_wait_after_it() {
        let times = Times::default();
        times.begin(100);
        times.park(110);
        times.woken(150);
        assert_eq!(times.attached(157), Slept { since: 110, woken: 150, attached: 157 });
        times.end(160);
        let spent = times.read(1000);
        assert_eq!((spent.running, spent.parked, spent.waiting, spent.busy()), (60, 40, 7, 13));
        assert_eq!((spent.parks, spent.longest_wait, spent.longest_busy), (1, 7, 10));
    }

    #[test]
    fn what_goes_on_counts_until_now() {
        let times = Times::default();
        times.begin(100);
        assert_eq!(times.read(103).busy(), 3);
        assert_eq!(times.read(103).longest_busy, 3);
        times.park(110);
        assert!(times.is_asleep());
        assert_eq!(times.read(130).parked, 20);
        times.woken(140);
        let spent = times.read(145);
        assert_eq!((spent.parked, spent.waiting, spent.busy(), spent.parks), (30, 5, 10, 0));
        times.attached(145);
        assert!(!times.is_asleep());
    }

    #[test]
    fn a_look_at_the_driver_ends_a_time_at_work() {
        let times = Times::default();
        times.begin(100);
        times.looks(150);
        times.looks(170);
        times.park(260);
        times.woken(300);
        times.attached(300);
        assert_eq!(times.read(310).longest_busy, 90);
    }

    proptest! {
        #[test]
        fn the_parts_are_the_whole(steps in prop::collection::vec((1..1000_u64, 1..1000_u64, 0..1000_u64), 0..50)) {
            let times = Times::default();
            let mut now = 1;
            let (mut busy, mut parked, mut waiting) = (0, 0, 0);
            times.begin(now);
            for &(worked, slept, waited) in &steps {
                now += worked;
                times.park(now);
                now += slept;
                times.woken(now);
                now += waited;
                times.attached(now);
                busy += worked;
                parked += slept;
                waiting += waited;
                let spent = times.read(now);
                prop_assert_eq!((spent.busy(), spent.parked, spent.waiting), (busy, parked, waiting));
            }
            times.end(now);
            let spent = times.read(now + 5);
            prop_assert_eq!((spent.running, spent.parks), (now - 1, steps.len() as u64));
            let longest = |part: fn(&(u64, u64, u64)) -> u64| steps.iter().map(part).max().unwrap_or(0);
            prop_assert_eq!(spent.longest_wait, longest(|step| step.2));
            prop_assert_eq!(spent.longest_busy, longest(|step| step.0));
        }
    }
}
