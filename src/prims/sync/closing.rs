//! `Closing`: closing a receiver that a task is waiting on, which has the receiver to itself.
//!
//! Set by any thread; seen by whoever polls the receiver next, and by who waits for it now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;

use futures::task::AtomicWaker;

/// A wish that the receiver be closed.
#[derive(Debug, Default)]
pub struct Closing {
    wished: AtomicBool,
    waiting: AtomicWaker,
}

impl Closing {
    /// Wish it, and wake who is waiting.
    pub fn wish(&self) {
        self.wished.store(true, Ordering::SeqCst);
        self.waiting.wake();
    }

    pub fn is_wished(&self) -> bool {
        self.wished.load(Ordering::SeqCst)
    }

    /// Whether it is wished; if not, the task is woken when it is.
    pub fn poll(&self, cx: &Context<'_>) -> bool {
        self.waiting.register(cx.waker());
        self.is_wished()
    }
}
