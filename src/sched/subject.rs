//! What an entry of the queue runs, for who times it: the code of a callback, of a coroutine, or the class of a
//! protocol. Loop thread, GIL held; no Python code runs here but the getters of what is asked.

use pyo3::prelude::*;

use super::entry::Entry;
use super::hooks;
use crate::py::code_of::{Code, key_of_callable};

/// The key of that code, found without a reference to anything: to be compared with keys whose objects are held. None:
/// not so easily.
#[inline(always)]
pub(super) fn key_of(py: Python<'_>, entry: &Entry) -> Option<usize> {
    match entry {
        Entry::Step(task) => hooks::code_key_of(task.bind(py)),
        Entry::Handle(handle) => handle.get().get().callback_key(py),
        Entry::Watcher(handle) => handle.get().callback_key(py),
        Entry::ThreadSafe(handle) => handle.get().bind(py).as_super().get().callback_key(py),
        Entry::Timer(handle) => handle.get().bind(py).as_super().get().callback_key(py),
        Entry::Done(done) => key_of_callable(done.as_ref().as_ref()?.callback.bind(py)),
        Entry::Native(_) | Entry::Ready(_) | Entry::Transition(_) | Entry::Foreign(_) => None,
    }
}

/// The code that the entry runs.
pub(super) fn code_of<'py>(py: Python<'py>, entry: &Entry) -> Code<'py> {
    match entry {
        Entry::Step(task) => {
            let task = task.bind(py);
            hooks::coroutine_of(task).map_or_else(|| Code::of_class(task), |coroutine| Code::of_coroutine(&coroutine))
        }
        Entry::Handle(handle) => of_callback(handle.get().bind(py).as_any(), handle.get().get().callback(py)),
        Entry::Watcher(handle) => of_callback(handle.bind(py).as_any(), handle.get().callback(py)),
        Entry::ThreadSafe(handle) => {
            let handle = handle.get().bind(py);
            of_callback(handle.as_any(), handle.as_super().get().callback(py))
        }
        Entry::Timer(handle) => {
            let handle = handle.get().bind(py);
            of_callback(handle.as_any(), handle.as_super().get().callback(py))
        }
        Entry::Done(done) => match done.as_ref() {
            Some(done) => Code::of_callable(done.callback.bind(py)),
            None => Code::of_class(&py.None().into_bound(py)),
        },
        Entry::Native(callable) => Code::of_callable(callable.bind(py)),
        Entry::Ready(transport) | Entry::Transition(transport) => {
            let transport = transport.bind(py);
            Code::of_class(&hooks::protocol(transport).unwrap_or_else(|| transport.clone()))
        }
        Entry::Foreign(handle) => Code::of_class(handle.bind(py)),
    }
}

/// `callback`: None once the handle is cancelled.
fn of_callback<'py>(handle: &Bound<'py, PyAny>, callback: Option<Bound<'py, PyAny>>) -> Code<'py> {
    callback.map_or_else(|| Code::of_class(handle), |callback| Code::of_callable(&callback))
}
