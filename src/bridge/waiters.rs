//! Who waits for a Rust future by asyncio's protocol: the callbacks of a task of another class, which its loop is asked
//! to call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use futures::task::AtomicWaker;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};

use super::callback::callback_waker;
use super::foreign_loop::{ForeignLoop, Woken, send};
use super::link::NativeLoop;
use crate::py::call::{self, Object};
use crate::py::cell::GilCell;

/// The name of the keyword of `call_soon`.
static CONTEXT: PyOnceLock<Py<PyTuple>> = PyOnceLock::new();

type Callbacks = Vec<(Py<PyAny>, Py<PyAny>)>;

struct Waiting {
    event_loop: Py<PyAny>,
    /// With its callbacks only: by itself a pending future is not kept alive.
    future: Option<Py<PyAny>>,
    callbacks: Callbacks,
}

/// Who a foreign task wants called, and by which loop.
pub struct ForeignWaiters {
    /// Has the loop call `fire`; set when the poll was pending.
    target: AtomicWaker,
    woken: AtomicBool,
    /// None before it is armed and after it has fired.
    waiting: GilCell<Option<Waiting>>,
}

impl ForeignWaiters {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { target: AtomicWaker::new(), woken: AtomicBool::new(false), waiting: GilCell::default() })
    }

    pub fn wait(self: &Arc<Self>, py: Python<'_>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let waiting = Waiting { event_loop: event_loop.clone().unbind(), future: None, callbacks: Callbacks::new() };
        drop(self.waiting.replace(py, Some(waiting)));
        let waiters = Arc::clone(self);
        let waker = match NativeLoop::of(event_loop) {
            Some(_) => callback_waker(event_loop, Bound::new(py, FireCall(waiters))?.into_any()),
            // No object is made for a call in Python.
            None => Waker::from(Arc::new(Fire { event_loop: ForeignLoop::of(event_loop), waiters })),
        };
        self.target.register(&waker);
        if self.woken.load(Ordering::SeqCst) {
            self.target.wake();
        }
        Ok(())
    }

    pub fn event_loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let known = self.waiting.with(py, |waiting| waiting.as_ref().map(|waiting| waiting.event_loop.clone_ref(py)));
        known.map_or_else(|| py.None().into_bound(py), |event_loop| event_loop.into_bound(py))
    }

    /// Have `callable(future)` called in `context`. False: it has fired.
    pub fn add(&self, future: &Bound<'_, PyAny>, callable: Py<PyAny>, context: Py<PyAny>) -> bool {
        let py = future.py();
        let refused = self.waiting.with(py, |waiting| match waiting {
            Some(waiting) => {
                waiting.future.get_or_insert_with(|| future.clone().unbind());
                waiting.callbacks.push((callable, context));
                None
            }
            None => Some((callable, context)),
        });
        refused.is_none()
    }

    /// Remove the callbacks that equal `callable`; how many there were.
    pub fn remove(&self, py: Python<'_>, callable: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut removed = 0;
        let mut kept = Callbacks::new();
        let known =
            self.waiting.with(py, |waiting| waiting.as_mut().map(|waiting| std::mem::take(&mut waiting.callbacks)));
        for (known, context) in known.unwrap_or_default() {
            if known.bind(py).try_eq(callable)? { removed += 1 } else { kept.push((known, context)) }
        }
        self.waiting.with(py, |waiting| {
            if let Some(waiting) = waiting {
                kept.append(&mut waiting.callbacks);
                std::mem::swap(&mut waiting.callbacks, &mut kept);
            }
        });
        Ok(removed)
    }

    /// For the one awaitable that owns these waiters.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(Some(waiting)) = self.waiting.peek_in_traverse(visit) else { return Ok(()) };
        visit.call(&waiting.event_loop)?;
        if let Some(future) = &waiting.future {
            visit.call(future)?;
        }
        for (callable, context) in &waiting.callbacks {
            visit.call(callable)?;
            visit.call(context)?;
        }
        Ok(())
    }

    /// Whether the callbacks have been scheduled.
    pub fn is_over(&self, py: Python<'_>) -> bool {
        self.waiting.with(py, |waiting| waiting.is_none())
    }

    /// The poll's waker is not waited for any more.
    pub fn disarm(&self) {
        drop(self.target.take());
    }

    /// Nobody waits any more; a wake that comes all the same finds nobody.
    pub fn clear(&self, py: Python<'_>) {
        drop((self.target.take(), self.waiting.take(py)));
    }

    /// Schedule the callbacks; on the loop's thread, with the GIL held.
    pub fn fire(&self, py: Python<'_>) -> PyResult<()> {
        drop(self.target.take());
        let Some(waiting) = self.waiting.take(py) else { return Ok(()) };
        let (Some(future), event_loop) = (waiting.future, waiting.event_loop.bind(py)) else { return Ok(()) };
        let (name, future) = (pyo3::intern!(py, "call_soon"), future.bind(py));
        let keyword =
            CONTEXT.get_or_try_init(py, || PyTuple::new(py, [pyo3::intern!(py, "context")]).map(Bound::unbind))?;
        for (callable, context) in waiting.callbacks {
            let args = [callable.bind(py), future];
            call::call_method_with_keyword(event_loop, name, args, keyword.bind(py), context.bind(py))?;
        }
        Ok(())
    }
}

/// What has a loop that is not ours call the callbacks.
struct Fire {
    event_loop: Arc<ForeignLoop>,
    waiters: Arc<ForeignWaiters>,
}

impl Woken for Fire {
    fn event_loop(&self) -> &Arc<ForeignLoop> {
        &self.event_loop
    }

    fn run(&self, py: Python<'_>) -> PyResult<()> {
        self.waiters.fire(py)
    }
}

impl Wake for Fire {
    fn wake(self: Arc<Self>) {
        send(self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        send(Arc::<Self>::clone(self));
    }
}

/// What a loop of ours is asked to call.
#[pyclass(frozen, module = "pyloop._native")]
struct FireCall(Arc<ForeignWaiters>);

#[pymethods]
impl FireCall {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.0.fire(py)
    }
}

impl Wake for ForeignWaiters {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.target.wake();
        }
    }
}
