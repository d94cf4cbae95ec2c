//! The task whose step is running on this thread: its waker is what a Rust future awaited in that step is polled with.
//!
//! Set for the length of a step by the task, read by the awaitable (`link`) and by the capsule.

use std::cell::Cell;
use std::ptr;
use std::task::Waker;

/// A step.
#[derive(Debug)]
pub struct Step<'a> {
    pub waker: &'a Waker,
    /// The loop is in debug mode.
    pub debug: bool,
}

thread_local! {
    static CURRENT: Cell<*const Step<'static>> = const { Cell::new(ptr::null()) };
}

/// Run `f`, a step, as the current one.
#[inline]
pub fn with_step<R>(step: &Step<'_>, f: impl FnOnce() -> R) -> R {
    struct Restore(*const Step<'static>);
    impl Drop for Restore {
        #[inline]
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(ptr::from_ref(step).cast()));
    f()
}

/// Whether a step is running on this thread.
#[inline]
pub fn is_set() -> bool {
    !CURRENT.get().is_null()
}

/// Give `f` the current step; None outside of one.
#[inline]
pub fn current<R>(f: impl FnOnce(Option<&Step<'_>>) -> R) -> R {
    let step = CURRENT.get();
    // SAFETY: `with_step` keeps the reference alive for as long as the pointer is set, and puts the outer one back
    // before it ends; `f` runs inside that time, and takes the step for any lifetime of its own.
    f(unsafe { step.as_ref() })
}
