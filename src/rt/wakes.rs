//! Wakes that need the GIL: those of loops that are not ours. They wait in one queue, and one job at a time takes them out:
//! a burst of them takes the GIL once, and one thread that may wait for it.
//!
//! Any thread. Its lock is held for look-ups only, never while Python runs.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use super::process::generation;
use crate::py::refs::WeakRef;

/// What a loop is to be asked to call.
pub trait Woken: Send + Sync {
    fn event_loop(&self) -> &WeakRef;

    /// On the loop's thread.
    ///
    /// # Errors
    /// What the call raises.
    fn run(&self, py: Python<'_>) -> PyResult<()>;
}

pub type Burst = Vec<Arc<dyn Woken>>;

struct Queue {
    waiting: Burst,
    /// A job is under way, which looks again when it has delivered what it took.
    job: bool,
    generation: u32,
}

fn queue() -> MutexGuard<'static, Queue> {
    static QUEUE: Mutex<Queue> = Mutex::new(Queue { waiting: Vec::new(), job: false, generation: 1 });
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static HELD: Cell<Option<MutexGuard<'static, Queue>>> = const { Cell::new(None) };
}

/// A fork is about to happen.
pub(super) fn hold() {
    HELD.set(Some(queue()));
}

/// The fork has happened.
pub(super) fn give_back() {
    drop(HELD.take());
}

/// Put a wake into the queue. The job that takes it out, to be run with the GIL, if none is under way.
pub fn send(woken: Arc<dyn Woken>) -> Option<Job> {
    let begins = {
        let mut queue = queue();
        if queue.generation != generation() {
            // The wakes of a forked child's parent are not touched, and its job is not here.
            std::mem::forget(std::mem::take(&mut queue.waiting));
            queue.job = false;
            queue.generation = generation();
        }
        queue.waiting.push(woken);
        !std::mem::replace(&mut queue.job, true)
    };
    begins.then(|| Job(generation()))
}

/// The one job, on its way or at work. One that is dropped before it has run leaves its place to the next wake's.
#[derive(Debug)]
pub struct Job(u32);

impl Job {
    /// Have `deliver` given whatever waits by then, until nothing does.
    pub fn run(self, py: Python<'_>, deliver: fn(Python<'_>, Burst)) {
        loop {
            let burst = {
                let mut queue = queue();
                if queue.waiting.is_empty() {
                    queue.job = false;
                    break;
                }
                std::mem::take(&mut queue.waiting)
            };
            deliver(py, burst);
        }
        std::mem::forget(self);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut queue = queue();
        if self.0 == queue.generation {
            queue.job = false;
        }
    }
}
