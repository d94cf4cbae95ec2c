//! A waker that has an event loop call something each time it is woken.

use std::sync::Arc;
use std::task::{Wake, Waker};

use pyo3::prelude::*;

use super::foreign_loop::{ForeignLoop, Woken, send};
use super::link::NativeLoop;
use crate::py::call::Object;

/// A waker that has `event_loop` call `callable()` each time it is woken. It does not keep the loop alive. Woken after
/// the loop has gone or was closed, or at the end of the interpreter, it does nothing.
pub fn callback_waker(event_loop: &Bound<'_, PyAny>, callable: Bound<'_, PyAny>) -> Waker {
    let native = NativeLoop::of(event_loop).and_then(|native| native.callback(&callable));
    native.unwrap_or_else(|| {
        let event_loop = ForeignLoop::of(event_loop);
        Waker::from(Arc::new(Call { event_loop, callable: callable.unbind() }))
    })
}

/// The waker of a loop of another kind.
struct Call {
    event_loop: Arc<ForeignLoop>,
    callable: Py<PyAny>,
}

impl Woken for Call {
    fn event_loop(&self) -> &Arc<ForeignLoop> {
        &self.event_loop
    }

    fn run(&self, py: Python<'_>) -> PyResult<()> {
        self.callable.bind(py).try_call(()).map(drop)
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        send(self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        send(Arc::<Self>::clone(self));
    }
}
