//! Which runtime a poll on this thread meets (`Handle::current()`): the loop's own while this thread drives a loop of
//! this crate copy, else the background one.
//!
//! A thread that polls a future outside of any runtime enters the background runtime for good: entering for each poll
//! would cost as much as the poll, and Python code that runs there finds a runtime, too.

use std::cell::Cell;
use std::sync::OnceLock;

use pyo3::prelude::*;
use tokio::runtime::{Handle, Id};

use super::background;
use super::process::generation;

thread_local! {
    /// The generation in which this thread drives a loop of ours; a forked child finds its parent's.
    static DRIVING: Cell<u32> = const { Cell::new(0) };
    /// The generation in which it entered the background runtime, and that runtime.
    static ENTERED: Cell<(u32, Option<Id>)> = const { Cell::new((0, None)) };
}

static AT_ENTER: OnceLock<fn()> = OnceLock::new();

/// Have `f` called on each thread that enters the background runtime (a higher layer's errand).
#[inline]
pub fn at_enter(f: fn()) {
    AT_ENTER.get_or_init(|| f);
}

/// This thread drives a loop of ours while the guard lives.
#[derive(Debug)]
pub struct Driving(u32);

impl Driving {
    pub fn begin() -> Self {
        Self(DRIVING.replace(generation()))
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        DRIVING.set(self.0);
    }
}

/// Run one poll inside a runtime.
///
/// # Errors
/// OSError when the background runtime is needed and cannot be started.
#[inline]
pub fn in_context<R>(f: impl FnOnce() -> R) -> PyResult<R> {
    let generation = generation();
    if DRIVING.get() == generation || ENTERED.get().0 == generation {
        return Ok(f());
    }
    enter(f)
}

#[cold]
fn enter<R>(f: impl FnOnce() -> R) -> PyResult<R> {
    let background = background::handle()?;
    match Handle::try_current() {
        Err(_) => {
            // Nothing is entered, so no guard below can be dropped after this one.
            std::mem::forget(background.enter());
            ENTERED.set((generation(), Some(background.id())));
            if let Some(errand) = AT_ENTER.get() {
                errand();
            }
            Ok(f())
        }
        // The caller's own runtime.
        Ok(_) if generation() == 1 => Ok(f()),
        // What a forked child finds is its parent's.
        Ok(_) => {
            let _guard = background.enter();
            Ok(f())
        }
    }
}

/// As `in_context`, for a drop: without a runtime at hand none is started.
pub fn drop_in_context(f: impl FnOnce()) {
    let generation = generation();
    let background =
        if DRIVING.get() == generation || ENTERED.get().0 == generation { None } else { background::running() };
    let _guard = background.map(Handle::enter);
    f();
}

/// Whether this thread drives a loop of this crate copy.
#[inline]
pub fn is_driving() -> bool {
    DRIVING.get() == generation()
}

/// Whether this thread is inside a runtime that somebody runs, so that `block_on` would panic.
pub fn is_inside_runtime() -> bool {
    Handle::try_current().is_ok_and(|current| Some(current.id()) != ENTERED.get().1)
}
