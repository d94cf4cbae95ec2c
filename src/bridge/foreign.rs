//! A pending Rust future as a tasks of *other* classes see it: the part of asyncio's future protocol that a stock task
//! uses to be woken (`add_done_callback`), done by one poll with a waker that schedules those callbacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use crate::py::cell::GilCell;
use crate::py::error;
use crate::sched::state::{Entry, ours};
use crate::sched::{Deliver, LoopShared, LoopState};

type Callbacks = Vec<(Py<PyAny>, Py<PyAny>)>;

/// Who a foreign task wants called, and by which loop.
pub struct ForeignWaiters {
    event_loop: Py<PyAny>,
    shared: Option<Arc<LoopShared>>,
    future: GilCell<Option<Py<PyAny>>>,
    callbacks: GilCell<Callbacks>,
    woken: AtomicBool,
}

impl ForeignWaiters {
    pub fn new(event_loop: &Bound<'_, PyAny>, future: &Bound<'_, PyAny>) -> Arc<Self> {
        Arc::new(Self {
            event_loop: event_loop.clone().unbind(),
            shared: ours(event_loop).map(|state| Arc::clone(&state.get().shared)),
            future: GilCell::new(Some(future.clone().unbind())),
            callbacks: GilCell::default(),
            woken: AtomicBool::new(false),
        })
    }

    pub fn event_loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.event_loop.bind(py).clone()
    }

    pub fn add(&self, py: Python<'_>, callable: Py<PyAny>, context: Py<PyAny>) {
        self.callbacks.with(py, |callbacks| callbacks.push((callable, context)));
    }

    /// Remove the callbacks that equal `callable`; how many there were.
    pub fn remove(&self, py: Python<'_>, callable: &Bound<'_, PyAny>) -> PyResult<usize> {
        let mut removed = 0;
        let mut kept = Callbacks::new();
        for (known, context) in self.callbacks.take(py) {
            if known.bind(py).eq(callable)? { removed += 1 } else { kept.push((known, context)) }
        }
        let added = self.callbacks.replace(py, kept);
        self.callbacks.with(py, |callbacks| callbacks.extend(added));
        Ok(removed)
    }

    /// For the one awaitable that owns these waiters.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        if let Some(future) = self.future.peek_in_traverse() {
            visit.call(future)?;
        }
        for (callable, context) in self.callbacks.peek_in_traverse().into_iter().flatten() {
            visit.call(callable)?;
            visit.call(context)?;
        }
        Ok(())
    }

    /// Whether the callbacks have been scheduled.
    pub fn is_over(&self, py: Python<'_>) -> bool {
        self.future.with(py, |future| future.is_none())
    }

    /// Nobody waits any more; a wake that comes all the same finds nobody.
    pub fn clear(&self, py: Python<'_>) {
        drop((self.future.take(py), self.callbacks.take(py)));
    }

    /// Schedule the callbacks; on the loop's thread, with the GIL held.
    pub fn fire(&self, py: Python<'_>) -> PyResult<()> {
        let callbacks = self.callbacks.take(py);
        let Some(future) = self.future.take(py) else { return Ok(()) };
        let event_loop = self.event_loop.bind(py);
        for (callable, context) in callbacks {
            if let Some(ours) = ours(event_loop) {
                ours.get().push(py, Entry::Done { callback: callable, future: future.clone_ref(py), context });
                ours.get().wake_if_away();
            } else {
                let keywords = PyDict::new(py);
                keywords.set_item(pyo3::intern!(py, "context"), context)?;
                let args = (callable, &future);
                event_loop.call_method(pyo3::intern!(py, "call_soon"), args, Some(&keywords))?;
            }
        }
        Ok(())
    }
}

impl Deliver for ForeignWaiters {
    fn deliver(self: Arc<Self>, py: Python<'_>, _state: &LoopState) {
        if let Err(raised) = self.fire(py) {
            error::unraisable(py, raised, None);
        }
    }
}

/// What `call_soon_threadsafe` is given.
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
        if self.woken.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Some(shared) = self.shared.clone() {
            shared.send(self);
            return;
        }
        // At interpreter exit there is nobody to wake.
        let woken = Python::try_attach(|py| -> PyResult<()> {
            let event_loop = self.event_loop.bind(py);
            if event_loop.call_method0(pyo3::intern!(py, "is_closed"))?.is_truthy()? {
                return Ok(());
            }
            let call = Bound::new(py, FireCall(Arc::clone(&self)))?;
            event_loop.call_method1(pyo3::intern!(py, "call_soon_threadsafe"), (call,)).map(drop)
        });
        if let Some(Err(raised)) = woken {
            Python::attach(|py| error::unraisable(py, raised, None));
        }
    }
}
