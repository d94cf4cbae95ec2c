//! Having any event loop call something, from any thread: `call_soon_threadsafe`.

use std::sync::Arc;
use std::task::Wake;
use std::vec::IntoIter;

use pyo3::prelude::*;

use crate::py::api::is_attached;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::refs::WeakRef;
use crate::py::{call, error};
use crate::rt::background;
use crate::rt::wakes::{self, Burst, Woken};

/// A waker that has any event loop call something each time it is woken.
pub(super) struct Threadsafe {
    pub event_loop: WeakRef,
    pub callable: Py<PyAny>,
}

/// `event_loop.call_soon_threadsafe(callable)`; nothing on a loop that is closed.
pub(super) fn call_soon_threadsafe(event_loop: &Bound<'_, PyAny>, callable: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    let is_closed = || event_loop.try_call_method(pyo3::intern!(py, "is_closed"), ())?.try_is_truthy();
    let call = || event_loop.try_call_method(pyo3::intern!(py, "call_soon_threadsafe"), (callable,)).map(drop);
    match is_closed().and_then(|closed| if closed { Ok(()) } else { call() }) {
        Ok(()) => Ok(()),
        // A signal's handler raised it, in the middle of the call: neither the wake nor the exception must be lost.
        Err(raised) if error::ends_the_run(py, &raised) => {
            let called = call_soon_threadsafe(event_loop, callable);
            error::raise_soon(py, raised);
            called
        }
        // Closed meanwhile, by its own thread.
        Err(raised) => match is_closed() {
            Ok(true) => Ok(()),
            _ => Err(raised),
        },
    }
}

/// Have the loop of `woken` call it soon; from any thread. One that has the GIL asks the loop at once: what it does next may
/// count on it. Any other puts the wake into the queue.
pub(super) fn send(woken: Arc<dyn Woken>) {
    if is_attached() {
        background::with_gil(|py| deliver(py, vec![woken]));
    } else if let Some(job) = wakes::send(woken) {
        background::with_gil(move |py| job.run(py, deliver));
    }
}

/// One `call_soon_threadsafe` for each loop.
fn deliver(py: Python<'_>, burst: Burst) {
    let mut loops: Vec<(Bound<'_, PyAny>, Burst)> = Vec::new();
    for woken in burst {
        let Some(event_loop) = woken.event_loop().get(py) else { continue };
        match loops.iter_mut().find(|(known, _)| call::same(known, &event_loop)) {
            Some((_, theirs)) => theirs.push(woken),
            None => loops.push((event_loop, vec![woken])),
        }
    }
    for (event_loop, theirs) in loops {
        let woken = BurstCall::object(py, theirs.into_iter()).and_then(|call| call_soon_threadsafe(&event_loop, &call));
        if let Err(raised) = woken {
            error::unraisable(py, raised, None);
        }
    }
}

/// Calls what has been woken, in that order.
#[pyclass(frozen, module = "pyloop._native")]
struct BurstCall(GilCell<Option<IntoIter<Arc<dyn Woken>>>>);

impl BurstCall {
    fn object(py: Python<'_>, woken: IntoIter<Arc<dyn Woken>>) -> PyResult<Bound<'_, PyAny>> {
        Bound::new(py, Self(GilCell::new(Some(woken)))).map(Bound::into_any)
    }
}

#[pymethods]
impl BurstCall {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let Some(mut left) = self.0.take(py) else { return Ok(()) };
        while let Some(woken) = left.next() {
            if let Err(raised) = woken.run(py) {
                // The others are called after it, as if each had been scheduled by itself.
                if let (false, Some(event_loop)) = (left.as_slice().is_empty(), woken.event_loop().get(py)) {
                    call_soon_threadsafe(&event_loop, &Self::object(py, left)?)?;
                }
                return Err(raised);
            }
        }
        Ok(())
    }
}

impl Woken for Threadsafe {
    fn event_loop(&self) -> &WeakRef {
        &self.event_loop
    }

    fn run(&self, py: Python<'_>) -> PyResult<()> {
        self.callable.bind(py).try_call(()).map(drop)
    }
}

impl Wake for Threadsafe {
    fn wake(self: Arc<Self>) {
        send(self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        send(Arc::<Self>::clone(self));
    }
}
