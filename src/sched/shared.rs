//! `LoopShared`: the part of a loop that any thread may hold and use without the GIL. No `Py<_>` inside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;

use futures::task::AtomicWaker;
use pyo3::prelude::*;

use super::state::LoopState;
use crate::core::inbox::Inbox;
use crate::core::lifecycle::Lifecycle;

/// Something that another thread (or a waker) handed in, carried out by the loop's thread with the GIL held.
pub trait Deliver: Send + Sync {
    /// Carry it out. It runs in the turn, before the batch; it must not raise.
    fn deliver(self: Arc<Self>, py: Python<'_>, state: &LoopState);
}

/// The GIL-free half of a loop.
pub struct LoopShared {
    pub lifecycle: Lifecycle,
    pub inbox: Inbox<Arc<dyn Deliver>>,
    /// Wakes the root future of the run.
    waker: AtomicWaker,
    /// `threading.get_ident()` of the running thread, 0 when not running.
    thread_ident: AtomicU64,
    id: u64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static RUNNING_HERE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

impl Default for LoopShared {
    fn default() -> Self {
        Self {
            lifecycle: Lifecycle::default(),
            inbox: Inbox::default(),
            waker: AtomicWaker::new(),
            thread_ident: AtomicU64::new(0),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl LoopShared {
    /// A number that no other loop of this process has or had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Hand something in, from any thread, with or without the GIL.
    pub fn send(&self, message: Arc<dyn Deliver>) {
        if self.inbox.push(message) {
            self.waker.wake();
        }
    }

    /// Make the loop look at its queues: after a push from another thread, or a stop.
    #[inline]
    pub fn wake(&self) {
        if self.inbox.call() {
            self.waker.wake();
        }
    }

    pub(super) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// The run is over: its waker, which holds on to the runtime, is not needed any more.
    pub(super) fn unregister(&self) {
        drop(self.waker.take());
    }

    pub(super) fn set_running(&self, thread_ident: u64) -> u64 {
        self.thread_ident.store(thread_ident, Ordering::SeqCst);
        RUNNING_HERE.replace(if thread_ident == 0 { 0 } else { self.id })
    }

    pub(super) fn restore_running_here(outer: u64) {
        RUNNING_HERE.set(outer);
    }

    /// `threading.get_ident()` of the thread that runs the loop.
    pub fn thread_ident(&self) -> Option<u64> {
        Some(self.thread_ident.load(Ordering::SeqCst)).filter(|&ident| ident != 0)
    }

    /// Whether this thread is the one that runs this loop.
    #[inline]
    pub fn runs_here(&self) -> bool {
        RUNNING_HERE.get() == self.id
    }

    /// The id of the loop that this thread runs, 0 for none.
    pub fn running_here() -> u64 {
        RUNNING_HERE.get()
    }
}

/// This thread's id as the standard library knows it; for owner checks.
pub fn this_thread() -> ThreadId {
    thread_local! {
        static ID: ThreadId = std::thread::current().id();
    }
    ID.with(|id| *id)
}
