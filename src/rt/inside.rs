//! Which runtime a poll on this thread meets (`Handle::current()`): the loop's own while this thread drives a loop of
//! this crate copy, else the background one.
//!
//! A thread that polls a future outside of any runtime enters the background runtime for good: entering for each poll
//! would cost as much as the poll, and Python code that runs there finds a runtime, too.
//!
//! What a runtime gives to each poll of its own is tokio's cooperative budget: after 128 things that were ready a
//! future has to give way. A thread that has only entered one has no budget, and no public function of tokio's gives it
//! one. But what takes the first unit of a budget holds the whole of it, and gives it back when it is dropped without
//! use (`RestoreOnPending`): so one that was taken within a poll of tokio's is kept, and refills the budget before each
//! of ours.

use std::cell::Cell;
use std::future::poll_fn;
use std::mem::ManuallyDrop;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, Id};
use tokio::task::coop::{self, RestoreOnPending};

use super::background;
use super::process::{Here, generation, here};
use crate::py::error::Slim;

thread_local! {
    /// The background runtime that this thread has entered.
    static ENTERED: Cell<Option<Id>> = const { Cell::new(None) };
    /// The budget of one poll. Not dropped when the thread ends.
    static BUDGET: Cell<Option<ManuallyDrop<RestoreOnPending>>> = const { Cell::new(None) };
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

/// Run a poll with a budget of its own; then the thread has what it had before. One within another has a new one: what
/// polls it may be left in the middle (greenlets), and would leave it nothing.
#[inline]
fn budgeted<R>(f: impl FnOnce() -> R) -> R {
    let Some(full) = BUDGET.take() else { return f() };
    let mut once = Some((f, full));
    let poll = poll_fn(|cx| {
        let Some((f, full)) = once.take() else { unreachable!("it is ready when it is polled") };
        drop(ManuallyDrop::into_inner(full));
        keep_budget(cx);
        Poll::Ready(f())
    });
    let mut cx = Context::from_waker(Waker::noop());
    // After it tokio puts back what was there.
    match pin!(coop::unconstrained(poll)).poll(&mut cx) {
        Poll::Ready(polled) => polled,
        Poll::Pending => unreachable!("it is ready when it is polled"),
    }
}

/// Inside of a poll whose budget is whole: take a unit of it, and keep what that gives back.
fn keep_budget(cx: &mut Context<'_>) {
    if let Poll::Ready(full) = coop::poll_proceed(cx) {
        BUDGET.set(Some(ManuallyDrop::new(full)));
    }
}

/// Run one poll inside a runtime. `at_enter` is called when this thread enters the background runtime (for good, but in
/// a forked child): a higher layer's errand.
///
/// # Errors
/// OSError when the background runtime is needed and cannot be started; RuntimeError when it has stopped.
#[inline]
pub fn poll_inside<R>(here: &Here, at_enter: fn(), f: impl FnOnce() -> R) -> Slim<R> {
    if here.is_driving() {
        return Ok(f());
    }
    if here.is_in_background() {
        return Ok(budgeted(f));
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
            background.block_on(poll_fn(|cx| {
                keep_budget(cx);
                Poll::Ready(())
            }));
            at_enter();
            Ok(budgeted(f))
        }
        // The caller's own runtime.
        Ok(_) if generation() == 1 => Ok(f()),
        // What a forked child finds is its parent's.
        Ok(_) => {
            let _guard = background.enter();
            at_enter();
            Ok(budgeted(f))
        }
    }
}

/// As `poll_inside`, for a drop: without a runtime at hand none is started.
pub fn drop_inside(f: impl FnOnce()) {
    let inside = here(|here| here.is_driving() || here.is_in_background());
    let background = if inside { None } else { background::running() };
    let _guard = background.map(Handle::enter);
    f();
}

/// Whether this thread drives a loop of this crate copy.
#[cfg(feature = "pyo3-async-runtimes")]
pub fn is_driving() -> bool {
    here(Here::is_driving)
}

/// Whether this thread is inside a runtime that somebody runs, so that `block_on` would panic.
pub fn is_inside_runtime() -> bool {
    Handle::try_current().is_ok_and(|current| Some(current.id()) != ENTERED.get())
}
