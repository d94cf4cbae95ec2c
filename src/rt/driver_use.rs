//! Whether anybody waits for the driver of a loop's runtime: for tokio's timers, for a descriptor in its reactor, or,
//! having given way (`yield_now`), for a look at it.
//!
//! A loop that knows that nobody does sleeps in its own poller (`sched::turn`). The futures of this crate say so by a
//! [`DriverUse`]; who else may use the runtime, nobody knows, and no loop of a program with such code sleeps so
//! (`accel::OWN_SLEEP`).
//!
//! Any thread may drop a `DriverUse`; one is made on the loop's thread, so that none appears while the loop sleeps.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many wait for one runtime's driver.
pub type Uses = Arc<AtomicUsize>;

thread_local! {
    /// Those of the loop that this thread drives.
    static HERE: RefCell<Option<Uses>> = const { RefCell::new(None) };
}

/// This thread drives the loop with these uses while the guard lives.
#[derive(Debug)]
pub struct Counting(Option<Uses>);

impl Counting {
    pub fn begin(uses: &Uses) -> Self {
        Self(HERE.replace(Some(Arc::clone(uses))))
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        HERE.set(self.0.take());
    }
}

/// Somebody waits for the driver of the loop that this thread drives, as long as this lives.
#[derive(Debug)]
#[must_use = "the use is over when it is dropped"]
pub struct DriverUse(Option<Uses>);

impl DriverUse {
    /// Outside of a loop of ours it is a runtime that always sleeps in its driver.
    pub fn begin() -> Self {
        let uses = HERE.with_borrow(Clone::clone);
        if let Some(uses) = &uses {
            uses.fetch_add(1, Ordering::SeqCst);
        }
        Self(uses)
    }
}

impl Drop for DriverUse {
    fn drop(&mut self) {
        if let Some(uses) = &self.0 {
            uses.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_counts_for_the_loop_that_it_was_made_in_until_it_is_dropped() {
        let (outer, inner) = (Uses::default(), Uses::default());
        let count = |uses: &Uses| uses.load(Ordering::SeqCst);
        let of_none = DriverUse::begin();
        let _outer = Counting::begin(&outer);
        let of_outer = DriverUse::begin();
        let of_inner = {
            let _inner = Counting::begin(&inner);
            DriverUse::begin()
        };
        let second = DriverUse::begin();
        assert_eq!((count(&outer), count(&inner)), (2, 1));
        drop(of_outer);
        std::thread::spawn(move || drop((of_inner, second, of_none))).join().expect("drops do not panic");
        assert_eq!((count(&outer), count(&inner)), (0, 0));
    }
}
