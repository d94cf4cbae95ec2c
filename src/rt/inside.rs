//! Which runtime a poll on this thread meets (`Handle::current()`): the loop's own while this thread drives a loop of
//! this crate copy, else the background one.
//!
//! A thread that polls a future outside of any runtime enters the background runtime for good: entering for each poll
//! would cost as much as the poll, and Python code that runs there finds a runtime, too.

use std::cell::Cell;

use tokio::runtime::{Handle, Id};

use super::background;
use super::process::{Here, generation, here};
use crate::py::error::Slim;

thread_local! {
    /// The background runtime that this thread has entered.
    static ENTERED: Cell<Option<Id>> = const { Cell::new(None) };
}

/// This thread drives a loop of ours while the guard lives.
#[derive(Debug)]
pub struct Driving(u32);

impl Driving {
    pub fn begin() -> Self {
        Self(here(|here| here.driving.replace(generation())))
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        here(|here| here.driving.set(self.0));
    }
}

/// Run one poll inside a runtime. `at_enter` is called when this thread enters the background runtime (for good, but in
/// a forked child): a higher layer's errand.
///
/// # Errors
/// OSError when the background runtime is needed and cannot be started.
#[inline]
pub fn poll_inside<R>(here: &Here, at_enter: fn(), f: impl FnOnce() -> R) -> Slim<R> {
    if here.has_runtime() {
        return Ok(f());
    }
    enter(here, at_enter, f)
}

#[cold]
fn enter<R>(here: &Here, at_enter: fn(), f: impl FnOnce() -> R) -> Slim<R> {
    let background = background::handle()?;
    match Handle::try_current() {
        Err(_) => {
            // Nothing is entered, so no guard below can be dropped after this one.
            std::mem::forget(background.enter());
            here.entered.set(generation());
            ENTERED.set(Some(background.id()));
            at_enter();
            Ok(f())
        }
        // The caller's own runtime.
        Ok(_) if generation() == 1 => Ok(f()),
        // What a forked child finds is its parent's.
        Ok(_) => {
            let _guard = background.enter();
            at_enter();
            Ok(f())
        }
    }
}

/// As `poll_inside`, for a drop: without a runtime at hand none is started.
pub fn drop_inside(f: impl FnOnce()) {
    let background = if here(Here::has_runtime) { None } else { background::running() };
    let _guard = background.map(Handle::enter);
    f();
}

/// Whether this thread drives a loop of this crate copy.
#[cfg(feature = "pyo3-async-runtimes")]
pub fn is_driving() -> bool {
    here(|here| here.driving.get() == generation())
}

/// Whether this thread is inside a runtime that somebody runs, so that `block_on` would panic.
pub fn is_inside_runtime() -> bool {
    Handle::try_current().is_ok_and(|current| Some(current.id()) != ENTERED.get())
}
