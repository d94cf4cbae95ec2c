//! Which loop this thread runs, by its number.

use std::cell::Cell;

thread_local! {
    static RUNNING_HERE: Cell<u64> = const { Cell::new(0) };
}

/// The number of the loop; 0: none.
#[inline]
pub(super) fn running_here() -> u64 {
    RUNNING_HERE.get()
}

/// Another one from now on; the one before.
pub(super) fn run_here(number: u64) -> u64 {
    RUNNING_HERE.replace(number)
}
