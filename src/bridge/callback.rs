//! A waker that has an event loop call something: without the GIL on a loop of pyloop's, by `call_soon_threadsafe` on
//! any other.

use std::sync::Arc;
use std::task::{Wake, Waker};

use pyo3::prelude::*;

use super::link::NativeLoop;
use crate::py::error;

/// A waker that has `event_loop` call `callable()` each time it is woken. Woken after the loop has closed, or at the
/// end of the interpreter, it does nothing.
pub fn callback_waker(event_loop: &Bound<'_, PyAny>, callable: Bound<'_, PyAny>) -> Waker {
    let native = NativeLoop::of(event_loop).and_then(|native| native.callback(&callable));
    native.unwrap_or_else(|| {
        let event_loop = event_loop.clone().unbind();
        Waker::from(Arc::new(Threadsafe { event_loop, callable: callable.unbind() }))
    })
}

struct Threadsafe {
    event_loop: Py<PyAny>,
    callable: Py<PyAny>,
}

impl Threadsafe {
    fn call_soon(&self, py: Python<'_>) -> PyResult<()> {
        let event_loop = self.event_loop.bind(py);
        if event_loop.call_method0(pyo3::intern!(py, "is_closed"))?.is_truthy()? {
            return Ok(());
        }
        let called = event_loop.call_method1(pyo3::intern!(py, "call_soon_threadsafe"), (&self.callable,));
        match called {
            Ok(_) => Ok(()),
            // Closed meanwhile, by its own thread.
            Err(_) if event_loop.call_method0(pyo3::intern!(py, "is_closed"))?.is_truthy()? => Ok(()),
            Err(raised) => Err(raised),
        }
    }
}

impl Wake for Threadsafe {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // At interpreter exit there is nobody to wake.
        Python::try_attach(|py| {
            if let Err(raised) = self.call_soon(py) {
                error::unraisable(py, raised, None);
            }
        });
    }
}
