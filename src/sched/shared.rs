//! `LoopShared`: the part of a loop that any thread may hold and use without the GIL. No `Py<_>` inside.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use futures::task::AtomicWaker;
use pyo3::prelude::*;

use super::here::{run_here, running_here};
use super::state::LoopState;
use crate::core::inbox::{Away, Inbox};
use crate::core::lifecycle::Lifecycle;
use crate::core::times::Times;
use crate::rt::bell::Bell;
use crate::rt::process::{ThreadNumber, generation, this_thread};

/// Something that another thread (or a waker) handed in, carried out by the loop's thread with the GIL held.
pub trait Deliver: Send + Sync {
    /// Carry it out. It runs in the turn, before the batch; it must not raise.
    fn deliver(self: Arc<Self>, py: Python<'_>, state: &LoopState);
}

/// The GIL-free half of a loop.
pub struct LoopShared {
    pub lifecycle: Lifecycle,
    pub inbox: Inbox<Arc<dyn Deliver>>,
    /// How the loop spends its time.
    pub times: Times,
    /// How often another thread has called the loop back to its queue.
    pub called: AtomicU64,
    /// Wakes the root future of the run.
    waker: AtomicWaker,
    /// Ends a sleep in the loop's own poller.
    pub(super) bell: Bell,
    /// `threading.get_ident()` of the running thread, 0 when not running.
    thread_ident: AtomicU64,
    /// How much of what is under way takes real time (`virtual_time`).
    held: AtomicUsize,
    id: u64,
    /// The process it was made in (`generation`).
    generation: u32,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// What a thread ran before a run.
pub(super) struct Outer(u64, Option<Arc<LoopShared>>);

type ByThread = HashMap<ThreadNumber, Arc<LoopShared>>;

fn running_by_thread() -> MutexGuard<'static, ByThread> {
    static RUNNING: LazyLock<Mutex<ByThread>> = LazyLock::new(Mutex::default);
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for LoopShared {
    fn default() -> Self {
        Self {
            lifecycle: Lifecycle::default(),
            inbox: Inbox::default(),
            times: Times::default(),
            called: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            bell: Bell::default(),
            thread_ident: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            generation: generation(),
        }
    }
}

impl std::fmt::Debug for LoopShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LoopShared").field(&self.id).finish()
    }
}

impl LoopShared {
    /// Whether this is a forked child, with a copy of a loop that its parent made. The two share an epoll and more:
    /// the copy tells the kernel nothing.
    #[inline]
    pub fn is_inherited(&self) -> bool {
        self.generation != generation()
    }

    /// A forked child: a thread that ran the loop is not here, unless it is the one that forked.
    pub(super) fn leave_to_parent(self: &Arc<Self>) {
        if !self.runs_here() {
            self.thread_ident.store(0, Ordering::SeqCst);
            if self.lifecycle.is_running() {
                self.lifecycle.end();
            }
        }
        // Its messages are never dropped: another thread may have had the inbox's lock when the process forked.
        std::mem::forget(Arc::clone(self));
    }

    /// A number that no other loop of this process has or had.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Hand something in, from any thread, with or without the GIL.
    pub fn send(&self, message: Arc<dyn Deliver>) {
        if self.is_inherited() {
            // Nobody takes it out; the lock may be held by a thread that only the parent has.
            return;
        }
        self.end_sleep(self.inbox.push(message));
    }

    /// Make the loop look at its queues: after a push from another thread, or a stop.
    #[inline]
    pub fn wake(&self) {
        if let away @ Some(_) = self.inbox.call()
            && !self.is_inherited()
        {
            self.end_sleep(away);
        }
    }

    /// The loop is away from its queue, and is called back.
    fn end_sleep(&self, away: Option<Away>) {
        if away.is_some() && !self.runs_here() {
            self.called.fetch_add(1, Ordering::Relaxed);
        }
        match away {
            Some(Away::ForBell) => drop(self.bell.ring()),
            Some(Away::ForWaker) => self.waker.wake(),
            None => {}
        }
    }

    pub(super) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// The run is over: its waker, which holds on to the runtime, is not needed any more.
    pub(super) fn unregister(&self) {
        drop(self.waker.take());
    }

    /// This thread runs the loop from now on; what it ran before (a forked child may be inside a run of its parent's).
    pub(super) fn begin_here(self: &Arc<Self>, thread_ident: u64) -> Outer {
        self.thread_ident.store(thread_ident, Ordering::SeqCst);
        let known = running_by_thread().insert(this_thread(), Arc::clone(self));
        Outer(run_here(self.id), known)
    }

    /// The run is over.
    pub(super) fn end_here(&self, outer: Outer) {
        self.thread_ident.store(0, Ordering::SeqCst);
        run_here(outer.0);
        let mut all = running_by_thread();
        match outer.1 {
            Some(known) => drop(all.insert(this_thread(), known)),
            None => drop(all.remove(&this_thread())),
        }
    }

    /// Something begins that takes real time.
    pub fn hold_time(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
    }

    /// It has ended.
    pub fn release_time(&self) {
        self.held.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether anything does.
    pub fn is_time_held(&self) -> bool {
        self.held.load(Ordering::SeqCst) > 0
    }

    /// The loop that this thread runs.
    pub fn of_this_thread() -> Option<Arc<Self>> {
        running_by_thread().get(&this_thread()).cloned()
    }

    /// The loop that a thread (`threading.get_ident()`) runs.
    pub fn of_thread_ident(thread_ident: u64) -> Option<Arc<Self>> {
        running_by_thread().values().find(|running| running.thread_ident() == Some(thread_ident)).cloned()
    }

    /// `threading.get_ident()` of the thread that runs the loop.
    pub fn thread_ident(&self) -> Option<u64> {
        Some(self.thread_ident.load(Ordering::SeqCst)).filter(|&ident| ident != 0)
    }

    /// Whether this thread is the one that runs this loop.
    #[inline]
    pub fn runs_here(&self) -> bool {
        running_here() == self.id
    }
}
