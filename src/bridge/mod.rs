//! Layer 5, the bridge between coroutines and polls.
//!
//! Rust futures in Python, from below: `body` (the Rust future), `holding` (one that the cycle
//! collector sees into), `owner` (the thread of one that is not `Send`), `waiters`
//! (asyncio's callbacks), `awaitable` (its stages, one poll), `foreign` (under tasks of other classes), `foreign_loop`
//! (wakes of other loops), `advance` (one poll further), `protocol` (what Python sees), `pooled` (the same, faster);
//! `local` (`spawn_local`), `into_py`, `stream`, `in_runtime` (the API), `expansion` (what the attribute expands to).
//! Python in Rust: `from_py`, `calls` (functions), `locals`, `run`. Other extension modules: `abi`, `capsule` (the
//! loop's side), `link` (the client's). Stepping coroutines, for the loop: `cx` (the current step), `step` (one step
//! and what its yield means), `waker` (a waker that names a task).

pub(crate) mod abi;
mod advance;
pub(crate) mod awaitable;
pub(crate) mod body;
mod callback;
mod calls;
#[cfg(feature = "loop")]
pub(crate) mod capsule;
#[cfg(feature = "loop")]
pub mod cx;
pub mod expansion;
mod foreign;
pub(crate) mod foreign_loop;
mod from_py;
mod holding;
mod in_runtime;
mod into_py;
mod link;
mod local;
mod locals;
pub(crate) mod owner;
#[cfg(not(Py_LIMITED_API))]
mod pooled;
mod protocol;
mod run;
#[cfg(feature = "loop")]
pub mod step;
mod stream;
mod waiters;
#[cfg(feature = "loop")]
pub mod waker;

pub use awaitable::RustFuture;
pub use calls::Callback;
pub use from_py::{Extracted, PyFuture, into_future, into_future_with_locals};
pub use holding::Traverse;
pub use in_runtime::{InRuntime, in_runtime};
pub use into_py::{
    future_into_py, future_into_py_with_locals, holding_into_py, local_future_into_py_with_locals, named_into_py,
    send_future_into_py, shielded_into_py, spawn_blocking_into_py, spawn_into_py,
};
pub use local::enter_runtime;
#[cfg(feature = "pyo3-async-runtimes")]
pub(crate) use local::{can_spawn_local, spawn_local};
pub use locals::{TaskLocals, get_current_locals, get_current_loop, get_running_loop, scope, scope_local, scoped};
pub use run::{run, run_until_complete};
pub use stream::{
    PyStream, RustBatches, RustStream, into_stream, into_stream_with_locals, local_stream_into_py, stream_into_py,
};

/// `asyncio.CancelledError`, to be asked of a `PyErr` (`is_instance_of`) or made.
pub use cancelled::CancelledError;

mod cancelled {
    #![allow(missing_docs, reason = "the macro writes no docs")]
    pyo3::import_exception!(asyncio, CancelledError);
}
