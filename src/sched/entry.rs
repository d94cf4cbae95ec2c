//! What can be in the ready queue.

use pyo3::prelude::*;

use super::handle::Handle;
use super::thread_safe_handle::ThreadSafeHandle;
use super::timer_handle::TimerHandle;
use crate::accel::collector::Hidden;

/// A done callback of one of our futures: `callback(future)` in `context`.
#[derive(Debug)]
pub struct DoneCallback {
    pub callback: Py<PyAny>,
    pub future: Py<PyAny>,
    pub context: Py<PyAny>,
    /// The context is a snapshot (`snapshots`).
    pub shared: bool,
}

/// What can be ready. Two words, as there may be a hundred thousand.
#[derive(Debug)]
pub enum Entry {
    /// `call_soon`.
    Handle(Hidden<Handle>),
    /// `call_soon_threadsafe`, CPython 3.14 and later.
    ThreadSafe(Hidden<ThreadSafeHandle>),
    /// A ready descriptor's callback, which stays for the next time.
    Watcher(Py<Handle>),
    /// A timer that came due.
    Timer(Hidden<TimerHandle>),
    Done(Box<Option<DoneCallback>>),
    /// The next step of a task.
    Step(Py<PyAny>),
    /// What is called as it is, in the loop's own context (a client's callback, reading the wake-up socket).
    Native(Py<PyAny>),
    /// A transport whose descriptor is ready.
    Ready(Py<PyAny>),
    /// A transport whose connection begins or ends.
    Transition(Py<PyAny>),
    /// A handle of asyncio's own class: its `_run` is called.
    Foreign(Py<PyAny>),
}
