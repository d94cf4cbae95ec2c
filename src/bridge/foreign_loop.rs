//! A loop of another kind (asyncio's own, uvloop): how a wake from any thread reaches it.
//!
//! What has been woken waits in a queue of the loop's. The first of a burst tells the loop: by a bell, which is a
//! descriptor that the loop watches as `add_reader` has it watch any other. To ring it takes one system call and no
//! GIL. A loop that has no `add_reader` is told by `call_soon_threadsafe`, on a thread that may wait for the GIL.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::prelude::*;

use crate::py::api::is_attached;
use crate::py::call::{self, Object};
use crate::py::cell::GilValue;
use crate::py::error::PreserveError;
use crate::py::refs::WeakRef;
use crate::py::{error, names};
use crate::rt::background;
use crate::rt::bell::Bell;
use crate::rt::process::generation;

/// What a loop is to call.
pub trait Woken: Send + Sync {
    fn event_loop(&self) -> &Arc<ForeignLoop>;

    /// On the loop's thread.
    ///
    /// # Errors
    /// What the call raises.
    fn run(&self, py: Python<'_>) -> PyResult<()>;
}

/// The part of a loop of another kind that wakes need. It does not keep the loop alive.
pub struct ForeignLoop {
    event_loop: WeakRef,
    waiting: Mutex<Waiting>,
    bell: Bell,
    /// Once in its life the loop is asked to listen.
    asked: GilValue<bool>,
    /// In a forked child nothing of its parent's is touched: its lock may be held by a thread that is not there, and
    /// its bell is heard by the parent.
    generation: u32,
}

#[derive(Default)]
struct Waiting {
    burst: Vec<Arc<dyn Woken>>,
    /// The loop has been told, and has not looked yet.
    told: bool,
}

thread_local! {
    /// Those that this thread has asked for.
    static KNOWN: RefCell<Vec<Weak<ForeignLoop>>> = const { RefCell::new(Vec::new()) };
}

impl ForeignLoop {
    /// The part of this loop. Where this thread runs the loop, it listens to its bell from now on.
    pub fn of(event_loop: &Bound<'_, PyAny>) -> Arc<Self> {
        let py = event_loop.py();
        let this = Self::known(event_loop).unwrap_or_else(|| Self::new(WeakRef::of(event_loop)));
        if !this.asked.get(py)
            && names::running_loop(py).is_ok_and(|running| call::same(&running, event_loop))
            && let Err(raised) = this.listen(event_loop)
            && error::ends_the_run(py, &raised)
        {
            error::raise_soon(py, raised);
        }
        this
    }

    fn known(event_loop: &Bound<'_, PyAny>) -> Option<Arc<Self>> {
        let py = event_loop.py();
        KNOWN.with_borrow(|known| {
            known.iter().filter_map(Weak::upgrade).find(|known| {
                known.generation == generation()
                    && known.event_loop.get(py).is_some_and(|known| call::same(&known, event_loop))
            })
        })
    }

    fn new(event_loop: WeakRef) -> Arc<Self> {
        background::count_forks();
        let this = Arc::new(Self {
            event_loop,
            waiting: Mutex::default(),
            bell: Bell::default(),
            asked: GilValue::default(),
            generation: generation(),
        });
        KNOWN.with_borrow_mut(|known| {
            known.retain(|known| known.strong_count() > 0);
            known.push(Arc::downgrade(&this));
        });
        this
    }

    /// Have the loop watch the bell; on its thread. The error is that it watches none, or that it was interrupted.
    fn listen(self: &Arc<Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        self.asked.set(py, true);
        // A loop that is held would hold itself through its reader.
        if matches!(self.event_loop, WeakRef::Strong(_)) {
            return Ok(());
        }
        let Ok(fd) = self.bell.hang() else { return Ok(()) };
        let watched = self.watch(event_loop, fd);
        if watched.is_err() {
            // It may have been interrupted in the middle.
            let _never_there = event_loop.try_call_method(pyo3::intern!(py, "remove_reader"), (fd,));
            self.bell.take_down();
        }
        watched
    }

    fn watch(self: &Arc<Self>, event_loop: &Bound<'_, PyAny>, fd: RawFd) -> PyResult<()> {
        let py = event_loop.py();
        let add_reader = event_loop.try_getattr(pyo3::intern!(py, "add_reader"))?;
        let reader = Bound::new(py, WakeReader(Arc::clone(self)))?;
        // The loop keeps a copy of the context with the reader: not that of the task that happened to be the first.
        let context = py.import("contextvars")?.try_call_method("Context", ())?;
        context.try_call_method("run", (add_reader, fd, reader)).map(drop)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Into the queue. Whether the loop must be told.
    fn push(&self, woken: Arc<dyn Woken>) -> bool {
        let mut waiting = self.waiting();
        waiting.burst.push(woken);
        !std::mem::replace(&mut waiting.told, true)
    }

    fn take(&self) -> Vec<Arc<dyn Woken>> {
        std::mem::take(&mut *self.waiting()).burst
    }

    /// Have the loop look, by `call_soon_threadsafe`. What waits for a loop that has gone or is closed waits for
    /// nothing.
    fn ask(self: &Arc<Self>, py: Python<'_>) {
        let asked = match self.event_loop.get(py) {
            Some(event_loop) => {
                let look = Bound::new(py, Look(Arc::clone(self))).map(Bound::into_any);
                look.and_then(|look| call_soon_threadsafe(&event_loop, &look))
            }
            None => Ok(false),
        };
        if !matches!(asked, Ok(true)) {
            drop(self.take());
        }
        if let Err(raised) = asked {
            error::unraisable(py, raised, None);
        }
    }

    /// Call what has been woken, in that order; on the loop's thread.
    fn look(self: &Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let mut left = self.take().into_iter();
        while let Some(woken) = left.next() {
            if let Err(raised) = woken.run(py) {
                // The others are called after it, as if each had been scheduled by itself.
                if !left.as_slice().is_empty() {
                    self.waiting().burst.splice(..0, left);
                    self.ask(py);
                }
                return Err(raised);
            }
        }
        Ok(())
    }
}

/// Have the loop of `woken` call it soon; from any thread. One that has the GIL asks the loop at once: what it does
/// next may count on it.
pub(super) fn send(woken: Arc<dyn Woken>) {
    let this = Arc::clone(woken.event_loop());
    if this.generation != generation() {
        background::with_gil(move |py| {
            let own = ForeignLoop::new(this.event_loop.clone_ref(py));
            own.push(woken);
            own.ask(py);
        });
    } else if is_attached() {
        this.push(woken);
        background::with_gil(move |py| this.ask(py));
    } else if this.push(woken) && !this.bell.ring() {
        background::with_gil(move |py| this.ask(py));
    }
}

/// `event_loop.call_soon_threadsafe(callable)`; False for a loop that is closed.
fn call_soon_threadsafe(event_loop: &Bound<'_, PyAny>, callable: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    let is_closed = || event_loop.try_call_method(pyo3::intern!(py, "is_closed"), ())?.try_is_truthy();
    let call = || event_loop.try_call_method(pyo3::intern!(py, "call_soon_threadsafe"), (callable,)).map(|_| true);
    match is_closed().and_then(|closed| if closed { Ok(false) } else { call() }) {
        Ok(called) => Ok(called),
        // A signal's handler raised it, in the middle of the call: neither the wake nor the exception must be lost.
        Err(raised) if error::ends_the_run(py, &raised) => {
            let called = call_soon_threadsafe(event_loop, callable);
            error::raise_soon(py, raised);
            called
        }
        // Closed meanwhile, by its own thread.
        Err(raised) => match is_closed() {
            Ok(true) => Ok(false),
            _ => Err(raised),
        },
    }
}

/// What the loop calls once.
#[pyclass(frozen, module = "pyloop._native")]
struct Look(Arc<ForeignLoop>);

#[pymethods]
impl Look {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.0.look(py)
    }
}

/// What the loop calls when the bell has rung. The loop has the only reference: when it lets go of it, nobody listens.
#[pyclass(frozen, module = "pyloop._native")]
struct WakeReader(Arc<ForeignLoop>);

#[pymethods]
impl WakeReader {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        // In this order: who wakes after the look finds that the loop is to be told again.
        self.0.bell.hush();
        self.0.look(py)
    }
}

impl Drop for WakeReader {
    fn drop(&mut self) {
        if self.0.generation != generation() {
            return;
        }
        self.0.bell.take_down();
        if self.0.waiting().told {
            Python::attach(|py| {
                let _preserved = PreserveError::new(py);
                self.0.ask(py);
            });
        }
    }
}
