//! The waker of the task whose step is running on this thread: what a Rust future awaited in that step is polled with.
//!
//! Set for the length of a step by the task, read by the awaitable; nothing else of this crate looks at it.

use std::cell::Cell;
use std::ptr;
use std::task::Waker;

thread_local! {
    static CURRENT: Cell<*const Waker> = const { Cell::new(ptr::null()) };
}

/// Run `f`, a step, with `waker` as the current one.
#[inline]
pub fn with_waker<R>(waker: &Waker, f: impl FnOnce() -> R) -> R {
    struct Restore(*const Waker);
    impl Drop for Restore {
        #[inline]
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(waker));
    f()
}

/// Give `f` the current waker; None outside of a step.
#[inline]
pub fn current<R>(f: impl FnOnce(Option<&Waker>) -> R) -> R {
    let waker = CURRENT.get();
    // SAFETY: `with_waker` keeps the reference alive for as long as the pointer is set, and puts the outer one back
    // before it ends; `f` runs inside that time.
    f(unsafe { waker.as_ref() })
}
