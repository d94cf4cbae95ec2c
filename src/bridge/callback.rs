//! A waker that has an event loop call something: without the GIL on a loop of pyloop's, by `call_soon_threadsafe` on
//! any other.

use std::sync::Arc;
use std::task::Waker;

use pyo3::prelude::*;

use super::link::NativeLoop;
use super::threadsafe::Threadsafe;
use crate::py::refs::WeakRef;

/// A waker that has `event_loop` call `callable()` each time it is woken. It does not keep the loop alive. Woken after the
/// loop has gone or was closed, or at the end of the interpreter, it does nothing.
pub fn callback_waker(event_loop: &Bound<'_, PyAny>, callable: Bound<'_, PyAny>) -> Waker {
    let native = NativeLoop::of(event_loop).and_then(|native| native.callback(&callable));
    native.unwrap_or_else(|| {
        let event_loop = WeakRef::of(event_loop);
        Waker::from(Arc::new(Threadsafe { event_loop, callable: callable.unbind() }))
    })
}
