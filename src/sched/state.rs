//! `LoopState`: the loop's queues and switches, the base class of `pyloop._native.Loop`.
//!
//! Guarded by the GIL (`GilCell`), not by the thread: `call_soon` from a wrong thread is a mistake, not undefined
//! behaviour. What other threads need without the GIL is in `LoopShared`.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::after::After;
use super::clock::{LoopClock, VirtualTime};
use super::counters::Counters;
use super::entry::{DoneCallback, Entry};
use super::handle::Handle;
use super::reactor::Reactor;
use super::replaced::Replaced;
use super::runtime::EngineRef;
use super::shared::LoopShared;
use super::snapshots::Snapshots;
use super::timer_handle::TimerHandle;
use crate::accel::collector::{Hidden, HiddenAny};
use crate::core::lifecycle::Refused;
use crate::core::ready::{Lane, ReadyQueue};
use crate::core::shuffle::Shuffle;
use crate::core::timers::Timers;
use crate::py::asyncio::asyncio;
use crate::py::attach::thread_ident;
use crate::py::cell::{GilCell, GilValue};
use crate::py::error;
use crate::py::exit::outlast;

/// A loop's pending tasks, which it keeps alive; each knows its place.
#[derive(Debug, Default)]
pub struct Tasks {
    /// Made while the loop runs, and out of the cycle collector's sight until the run ends (`accel::collector`).
    pub hidden: Vec<HiddenAny>,
    /// Made before a run, or outlived one.
    pub resting: Vec<Py<PyAny>>,
}

/// What `BaseEventLoop.create_task` does not pass on to the tasks that are made by it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Making {
    pub lane: Lane,
    pub eager: bool,
}

/// The state of one loop.
#[pyclass(frozen, subclass, name = "_LoopState", module = "pyloop._native")]
pub struct LoopState {
    pub shared: Arc<LoopShared>,
    pub ready: GilCell<ReadyQueue<Entry>>,
    pub timers: GilCell<Timers<Hidden<TimerHandle>>>,
    /// How many timers there had been when `track_waiting` last looked through them.
    tracked_timers: GilValue<u64>,
    pub debug: GilValue<bool>,
    /// Whether one of our tasks is registered as the current one; taken back before anything else runs.
    pub task_is_current: GilCell<Option<Py<PyAny>>>,
    pub tasks: GilCell<Tasks>,
    pub after: After,
    pub reactor: GilCell<Option<Arc<dyn Reactor>>>,
    pub snapshots: Snapshots,
    pub replaced: Replaced,
    pub clock: LoopClock,
    pub virtual_time: GilValue<VirtualTime>,
    /// In which order steps are made; None: in the order in which they were queued.
    pub order: GilValue<Option<Shuffle>>,
    /// A task is being made by `BaseEventLoop.create_task`, which somebody has replaced.
    pub making: GilValue<Option<Making>>,
    pub(super) engine: GilCell<Option<EngineRef>>,
    pub counters: Counters,
    /// When the last entry ended that was recorded for a trace; 0: the loop has done something else since.
    pub(super) traced_until: GilValue<u64>,
    /// What took longest in debug mode: its name, and how many seconds.
    pub slowest: GilCell<Option<(String, f64)>>,
    /// The boxes of done callbacks that have run.
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    spare: GilCell<Vec<Box<Option<DoneCallback>>>>,
}

/// How often what destructors have queued is dropped in turn: more than any chain of tasks that wait for each other is
/// long.
const MOST_PASSES: u32 = 100_000;
/// How many such boxes are kept.
const SPARE: usize = 1024;

impl Default for LoopState {
    fn default() -> Self {
        Self {
            shared: Arc::new(LoopShared::default()),
            ready: GilCell::default(),
            timers: GilCell::default(),
            tracked_timers: GilValue::default(),
            debug: GilValue::default(),
            task_is_current: GilCell::default(),
            tasks: GilCell::default(),
            after: After::default(),
            reactor: GilCell::default(),
            snapshots: Snapshots::default(),
            replaced: Replaced::default(),
            clock: LoopClock::default(),
            virtual_time: GilValue::default(),
            order: GilValue::default(),
            making: GilValue::default(),
            engine: GilCell::default(),
            counters: Counters::default(),
            traced_until: GilValue::default(),
            slowest: GilCell::default(),
            spare: GilCell::default(),
        }
    }
}

#[pymethods]
impl LoopState {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(ready) = self.ready.peek_in_traverse(&visit) {
            for entry in ready.iter() {
                match entry {
                    Entry::Handle(handle) => visit.call(handle.get())?,
                    Entry::Watcher(handle) => visit.call(handle)?,
                    Entry::ThreadSafe(handle) => visit.call(handle.get())?,
                    Entry::Timer(handle) => visit.call(handle.get())?,
                    Entry::Done(done) => {
                        let Some(done) = &**done else { continue };
                        visit.call(&done.callback)?;
                        visit.call(&done.future)?;
                        visit.call(&done.context)?;
                    }
                    Entry::Step(object)
                    | Entry::Native(object)
                    | Entry::Ready(object)
                    | Entry::Transition(object)
                    | Entry::Foreign(object) => visit.call(object)?,
                }
            }
        }
        if let Some(timers) = self.timers.peek_in_traverse(&visit) {
            for handle in timers.iter() {
                visit.call(handle.get())?;
            }
        }
        // Those that are hidden are held by a loop that runs.
        if let Some(tasks) = self.tasks.peek_in_traverse(&visit) {
            for task in &tasks.resting {
                visit.call(task)?;
            }
        }
        if let Some(Some(reactor)) = self.reactor.peek_in_traverse(&visit) {
            reactor.traverse(&visit)?;
        }
        if let Some(task) = self.task_is_current.peek_in_traverse(&visit) {
            visit.call(task)?;
        }
        self.snapshots.traverse(&visit)
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| self.drop_all(py));
    }

    /// The pending tasks, for `asyncio.all_tasks`.
    fn _pending_tasks(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.tasks.with(py, |tasks| {
            tasks.hidden.iter().map(HiddenAny::get).chain(&tasks.resting).map(|task| task.clone_ref(py)).collect()
        })
    }
}

impl LoopState {
    pub fn with_reactor(reactor: Arc<dyn Reactor>) -> Self {
        let state = Self::default();
        Python::attach(|py| drop(state.reactor.replace(py, Some(reactor))));
        state
    }

    /// asyncio's `_check_closed`.
    ///
    /// # Errors
    /// RuntimeError when the loop is closed.
    #[inline]
    pub fn check_closed(&self) -> PyResult<()> {
        if self.shared.lifecycle.is_closed() { Err(refused(Refused::Closed)) } else { Ok(()) }
    }

    /// RuntimeError in a forked child, for a loop that its parent made.
    ///
    /// # Errors
    /// As said.
    pub fn check_process(&self) -> PyResult<()> {
        if self.shared.is_inherited() {
            return Err(PyRuntimeError::new_err(
                "This event loop was made before a fork: make a new one in the child process",
            ));
        }
        Ok(())
    }

    /// asyncio's `_check_thread`.
    ///
    /// # Errors
    /// RuntimeError when another thread runs the loop.
    pub fn check_thread(&self) -> PyResult<()> {
        match self.shared.thread_ident() {
            Some(owner) if owner != thread_ident() => Err(PyRuntimeError::new_err(
                "Non-thread-safe operation invoked on an event loop other than the current one",
            )),
            _ => Ok(()),
        }
    }

    /// The same in debug mode only.
    #[inline]
    pub fn check_thread_in_debug_mode(&self, py: Python<'_>) -> PyResult<()> {
        if self.debug.get(py) { self.check_thread() } else { Ok(()) }
    }

    /// Whether timers are compared with the real clock, and with no other.
    #[inline(always)]
    pub fn keeps_real_time(&self, py: Python<'_>) -> bool {
        self.replaced.is_plain(py) && self.clock.is_real(py)
    }

    /// Queue an entry in the NORMAL lane.
    #[inline]
    pub fn push(&self, py: Python<'_>, entry: Entry) {
        self.ready.with(py, |ready| ready.push(entry));
    }

    /// Queue a done callback in the NORMAL lane.
    #[inline]
    pub fn push_done(&self, py: Python<'_>, done: DoneCallback) {
        let boxed = match self.spare.with(py, Vec::pop) {
            Some(mut empty) => {
                *empty = Some(done);
                empty
            }
            None => Box::new(Some(done)),
        };
        self.push(py, Entry::Done(boxed));
    }

    /// What is in the box, which is kept for the next one.
    #[inline(always)]
    pub(super) fn unbox(&self, py: Python<'_>, mut boxed: Box<Option<DoneCallback>>) -> Option<DoneCallback> {
        let done = boxed.take();
        self.spare.with(py, |spare| {
            if spare.len() < SPARE {
                spare.push(boxed);
            }
        });
        done
    }

    #[inline]
    pub fn push_to(&self, py: Python<'_>, lane: Lane, entry: Entry) {
        self.ready.with(py, |ready| ready.push_to(lane, entry));
    }

    /// After a push: a loop that is not in its turn (another thread pushed, or a Rust task of the loop's own thread)
    /// must be told. In the turn itself this is one thread-local read.
    #[inline]
    pub fn wake_if_away(&self) {
        self.shared.wake();
    }

    /// No task is current any more: before anything that is not a task's step.
    #[inline]
    pub fn leave_task(&self, py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        if let Some(known) = self.task_is_current.take(py) {
            known.drop_ref(py);
            match asyncio(py)?.clear_current_task(event_loop) {
                // CPython 3.14 and later: in a child that this loop forked no loop is the running one.
                Err(_) if self.shared.is_inherited() => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// A run has ended: what waits in the queues is the cycle collector's business again (`accel::collector`).
    pub fn track_waiting(&self, py: Python<'_>) {
        self.ready.with(py, |ready| {
            for entry in ready.iter() {
                match entry {
                    Entry::Handle(handle) => Handle::show(handle.bind(py)),
                    Entry::ThreadSafe(handle) => Handle::show(handle.bind(py).as_super()),
                    Entry::Timer(handle) => Handle::show(handle.bind(py).as_super()),
                    _ => {}
                }
            }
        });
        let pushed = self.timers.with(py, |timers| timers.pushed());
        // Those of the runs before are the collector's already: many short runs must not look through them each time.
        if self.tracked_timers.get(py) != pushed {
            self.tracked_timers.set(py, pushed);
            self.timers.with(py, |timers| timers.iter().for_each(|handle| Handle::show(handle.bind(py).as_super())));
        }
    }

    /// A forked child, which has just begun: whatever waits in the loop is its parent's. It is forgotten, not dropped:
    /// dropping a task would run the `finally` blocks of its coroutine here, too. If the loop is running in this
    /// thread, the callback that forked goes on, and the turn then ends the run (`Turns::end_in_child`).
    pub fn leave_to_parent(&self, py: Python<'_>) {
        std::mem::forget(self.ready.with(py, ReadyQueue::take_all));
        std::mem::forget(self.timers.with(py, Timers::take_all));
        std::mem::forget(self.tasks.take(py));
        // asyncio has no current task here either.
        std::mem::forget(self.task_is_current.take(py));
        if let Some(reactor) = self.reactor.with(py, |reactor| reactor.clone()) {
            reactor.leave_to_parent(py);
        }
        self.shared.leave_to_parent();
    }

    /// Drop everything that waits, with the GIL held; what destructors queue meanwhile goes too.
    pub fn drop_all(&self, py: Python<'_>) {
        let mut passes = 0;
        while self.drop_waiting(py) {
            passes += 1;
            if passes == MOST_PASSES {
                let text = "an event loop that goes away is given new callbacks by each destructor of the old ones";
                error::unraisable(py, PyRuntimeError::new_err(text), None);
                break;
            }
        }
        drop(self.task_is_current.take(py));
        self.snapshots.forget(py);
        if let Some(reactor) = self.reactor.take(py) {
            reactor.close(py);
        }
    }
}

impl LoopState {
    /// Drop what waits now. False: nothing did.
    fn drop_waiting(&self, py: Python<'_>) -> bool {
        let entries = self.ready.with(py, ReadyQueue::take_all);
        let timers = self.timers.with(py, Timers::take_all);
        let tasks = self.tasks.take(py);
        for timer in &timers {
            timer.bind(py).get().forget(py);
        }
        !(entries.is_empty() && timers.is_empty() && tasks.resting.is_empty() && tasks.hidden.is_empty())
    }
}

/// The `LoopState` of an event loop, if it is one of ours.
#[inline]
pub fn ours<'a, 'py>(event_loop: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, LoopState>> {
    event_loop.cast::<LoopState>().ok()
}

impl Drop for LoopState {
    fn drop(&mut self) {
        Python::attach(|py| {
            if let Some(engine) = self.engine.take(py)
                && !self.shared.is_inherited()
            {
                engine.shut_down(py);
            }
        });
    }
}

/// asyncio's words for what a loop in this state does not do.
pub(super) fn refused(reason: Refused) -> PyErr {
    PyRuntimeError::new_err(match reason {
        Refused::Closed => "Event loop is closed",
        Refused::Running => "This event loop is already running",
    })
}
