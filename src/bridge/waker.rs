//! A waker that names a task: clone it, send it anywhere, wake it from any thread without the GIL.
//!
//! During a step the task lends a waker that costs nothing (`cx`); only a future that keeps a clone makes the task's
//! `TaskShared`. A wake puts that into the loop's inbox, once until the loop has taken it out; the loop's thread then
//! finds the task, if it is still there, and queues its step. A waker may outlive its task.

use std::sync::Arc;
use std::task::Wake;

use once_cell::race::OnceBox;
use pyo3::prelude::*;

use super::foreign_loop::{self, ForeignLoop, Woken};
use crate::core::inbox::Sent;
use crate::py::attach::Address;
use crate::py::cell::GilValue;
use crate::py::error;
use crate::sched::hooks::WakeTask;
use crate::sched::{Deliver, LoopShared, LoopState};

/// What a wake asks of its task and does with it.
pub struct WakeSteps {
    /// No wake is for it any more.
    pub has_ended: for<'py> fn(&Bound<'py, PyAny>) -> bool,
    /// Queue its step, if it waits for a Rust future.
    pub wake: WakeTask,
}

/// How a wake reaches the task's loop.
pub enum WakeRoute {
    /// A loop of ours: through its inbox.
    Ours(Arc<LoopShared>),
    /// Any other loop.
    Other(Arc<ForeignLoop>),
    /// No loop: wakes go nowhere.
    Nowhere,
}

/// The part of a task that its wakers share.
pub struct TaskShared {
    route: WakeRoute,
    /// Stays raised when the task has ended: what wakes it then costs nothing.
    queued: Sent,
    /// The task while it lives; not a reference of its own. Cleared by the destructor of the task's slot, which
    /// every deallocator runs before the memory goes: the pooled one, PyO3's, and that of a Python subclass through it.
    task: GilValue<Option<Address>>,
    steps: &'static WakeSteps,
}

impl TaskShared {
    pub fn new(route: WakeRoute, task: Address, steps: &'static WakeSteps) -> Self {
        Self { route, queued: Sent::default(), task: GilValue::new(Some(task)), steps }
    }

    /// A task that had ended is begun once more, by a call of its `__init__`.
    pub fn begin_again(&self) {
        self.queued.lower();
    }

    /// The task is going away.
    pub fn forget_task(&self, py: Python<'_>) {
        self.task.set(py, None);
    }

    fn wake_task(&self, py: Python<'_>) -> PyResult<()> {
        // SAFETY: the task clears this field before its memory goes.
        let task = self.task.get(py).and_then(|task| unsafe { task.upgrade(py) });
        match task {
            Some(task) if !(self.steps.has_ended)(&task) => {
                self.queued.lower();
                (self.steps.wake)(py, &task)
            }
            _ => Ok(()),
        }
    }
}

impl Deliver for TaskShared {
    fn deliver(self: Arc<Self>, py: Python<'_>, _state: &LoopState) {
        if let Err(raised) = self.wake_task(py) {
            error::unraisable(py, raised, None);
        }
    }
}

impl Wake for TaskShared {
    fn wake(self: Arc<Self>) {
        if !self.queued.raise() {
            return;
        }
        match &self.route {
            WakeRoute::Ours(shared) => {
                let shared = Arc::clone(shared);
                shared.send(self);
            }
            WakeRoute::Other(_) => foreign_loop::send(self),
            WakeRoute::Nowhere => {}
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.is_raised() {
            Arc::clone(self).wake();
        }
    }
}

impl Woken for TaskShared {
    fn event_loop(&self) -> &Arc<ForeignLoop> {
        match &self.route {
            WakeRoute::Other(event_loop) => event_loop,
            _ => unreachable!("only a task of another loop is sent there"),
        }
    }

    fn run(&self, py: Python<'_>) -> PyResult<()> {
        self.wake_task(py)
    }
}

/// Where a task keeps its shared part: one word, as few tasks have one. It goes with the task.
#[derive(Default)]
pub struct SharedSlot(OnceBox<Arc<TaskShared>>);

impl SharedSlot {
    pub fn get(&self) -> Option<&Arc<TaskShared>> {
        self.0.get()
    }

    pub fn get_or_init(&self, make: impl FnOnce() -> TaskShared) -> &Arc<TaskShared> {
        self.0.get_or_init(|| Box::new(Arc::new(make())))
    }
}

impl Drop for SharedSlot {
    #[inline]
    fn drop(&mut self) {
        if let Some(shared) = self.get() {
            Python::attach(|py| shared.forget_task(py));
        }
    }
}
