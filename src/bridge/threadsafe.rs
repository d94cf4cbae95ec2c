//! Having any event loop call something, from any thread: `call_soon_threadsafe`.

use std::sync::Arc;
use std::task::Wake;

use pyo3::prelude::*;

use crate::py::call::Object;
use crate::py::error;
use crate::py::refs::WeakRef;
use crate::rt::background;

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

impl Wake for Threadsafe {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let this = Arc::clone(self);
        background::with_gil(move |py| {
            if let Some(event_loop) = this.event_loop.get(py)
                && let Err(raised) = call_soon_threadsafe(&event_loop, this.callable.bind(py))
            {
                error::unraisable(py, raised, None);
            }
        });
    }
}
