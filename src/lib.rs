//! pyloop: an asyncio-compatible event loop that is a tokio runtime. A Python coroutine is driven as a Rust future, a
//! Rust future is a Python awaitable, and awaiting one from the other is a function call on one thread.
//!
//! A Rust future for Python, on every event loop:
//!
//! ```no_run
//! use pyo3::prelude::*;
//!
//! #[pyloop::awaitable]
//! #[pyfunction]
//! async fn sleep(seconds: f64) {
//!     tokio::time::sleep(std::time::Duration::from_secs_f64(seconds)).await;
//! }
//! ```
//!
//! A Rust main that awaits a coroutine:
//!
//! ```no_run
//! use pyo3::prelude::*;
//!
//! #[pyloop::main]
//! async fn main() -> PyResult<()> {
//!     let slept = Python::attach(|py| {
//!         let asyncio = py.import("asyncio")?;
//!         pyloop::into_future(asyncio.call_method1("sleep", (0.1, "slept"))?)
//!     })?;
//!     println!("{}", slept.await?);
//!     Ok(())
//! }
//! ```
//!
//! Where to begin:
//!
//! | | |
//! |---|---|
//! | an async function or method for Python | [`macro@awaitable`] |
//! | a Rust future for Python | [`future_into_py`] |
//! | the same, on the threads of a runtime | [`spawn_into_py`]; a function that blocks: [`spawn_blocking_into_py`] |
//! | the same, told of its cancellation and not dropped by it | [`shielded_into_py`] |
//! | a Rust stream for Python | [`stream_into_py`] |
//! | a Python awaitable, iterator or function in Rust | [`into_future`], [`into_stream`], [`Callback`] |
//! | a program whose main is Rust | [`macro@main`]; by hand [`run`] and [`prepare`] |
//! | the names of pyo3_async_runtimes::tokio | [`mod@crate::tokio`]; its traits: the feature `pyo3-async-runtimes` |
//! | channels and locks between Rust and Python | [`prims::sync`] |
//!
//! The guides are `docs/extensions.md` and `docs/rust-main.md`; what is public, and stable, is listed in `docs/api.md`.

// The layers, lowest first: `core` (pure), `py` (CPython's vocabulary), `sched` (the loop), `future`, `bridge`
// (coroutines and polls), `task`, `io` and `prims`, `event_loop`. A `use crate::x` points down only.

#[cfg_attr(not(feature = "loop"), allow(dead_code, reason = "the loop uses all of it, a client some"))]
#[cfg_attr(Py_LIMITED_API, path = "accel/limited.rs")]
mod accel;
mod bridge;
#[cfg(feature = "loop")]
mod core;
#[cfg(feature = "loop")]
mod embed;
#[cfg(feature = "loop")]
mod event_loop;
#[cfg(feature = "loop")]
mod future;
#[cfg(feature = "pyo3-async-runtimes")]
pub mod generic;
#[cfg(feature = "loop")]
mod io;
mod main_entry;
#[cfg(feature = "loop")]
pub mod prims;
#[cfg_attr(not(feature = "loop"), allow(dead_code, reason = "the loop uses all of it, a client some"))]
mod py;
#[cfg_attr(not(feature = "loop"), allow(dead_code, reason = "as for `py`"))]
mod rt;
#[cfg(feature = "loop")]
mod sched;
#[cfg(feature = "loop")]
mod task;
pub mod tokio;

#[doc(hidden)]
pub use bridge::expansion as __expansion;
pub use bridge::{
    Callback, CancelledError, Extracted, InRuntime, PyFuture, PyStream, RustBatches, RustFuture, RustStream,
    TaskLocals, Traverse, enter_runtime, future_into_py, future_into_py_with_locals, get_current_locals,
    get_current_loop, get_running_loop, holding_into_py, in_runtime, into_future, into_future_with_locals, into_stream,
    into_stream_with_locals, local_future_into_py_with_locals, local_stream_into_py, named_into_py, run,
    run_until_complete, scope, scope_local, scoped, send_future_into_py, shielded_into_py, spawn_blocking_into_py,
    spawn_into_py, stream_into_py,
};
#[cfg(feature = "loop")]
pub use embed::prepare;
#[cfg(feature = "pyo3-async-runtimes")]
pub use generic::PyloopRuntime;
pub use main_entry::MainResult;
#[doc(hidden)]
pub use main_entry::run_main;
pub use py::error::io_error;
/// ```no_run
/// # use std::time::Duration;
/// # use pyo3::prelude::*;
/// #[pyclass]
/// struct Counter(u64);
///
/// #[pyloop::awaitable]
/// #[pymethods]
/// impl Counter {
///     /// Python: `await counter.add(2)`.
///     async fn add(&mut self, n: u64) -> std::io::Result<u64> {
///         tokio::time::sleep(Duration::from_millis(1)).await;
///         self.0 += n;
///         Ok(self.0)
///     }
/// }
/// ```
pub use pyloop_macros::awaitable;
pub use pyloop_macros::main;
pub use rt::background::{init, init_with_runtime};
pub use rt::block_on::block_on;
pub use tokio_util::sync::CancellationToken;

#[cfg(feature = "loop")]
use crate::py::call::Object;
#[cfg(feature = "loop")]
use pyo3::prelude::*;

/// What the benchmarks measure alone (`benches/core.rs`). No part of the API: it changes without notice.
#[cfg(feature = "loop")]
#[doc(hidden)]
pub mod internals {
    pub use crate::core::inbox::{Away, Inbox};
    pub use crate::core::ready::{Lane, ReadyQueue};
    pub use crate::core::timers::Timers;
}

/// Make `part` a module that `import` finds.
#[cfg(feature = "loop")]
fn add_importable(module: &Bound<'_, PyModule>, part: Bound<'_, PyModule>) -> PyResult<()> {
    module.py().import("sys")?.try_getattr("modules")?.set_item(part.name()?, part)
}

/// The native half of `pyloop`: a Python module, which `crates/native` makes a library of.
#[doc(hidden)]
#[cfg(feature = "loop")]
#[pymodule(gil_used = true)]
pub fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    py::exit::outlast();
    py::require_main_interpreter(py)?;
    accel::settle(py)?;
    rt::background::count_forks();
    sched::hooks::at_begin(bridge::owner::receive);
    sched::hooks::at_end(task::rest);
    sched::hooks::step_with(task::run_step, task::coroutine_of, task::code_key_of);
    sched::hooks::name_steps_with(task::name_step, task::queue_again);
    sched::hooks::number_tasks_with(task::place_of);
    sched::hooks::transports_with(sched::hooks::ForTransports {
        ready: io::transports::run_ready,
        transition: io::transports::run_transition,
        protocol: io::transports::protocol,
        uncork: io::stream::uncork,
        forget_corked: io::stream::forget_corked,
    });
    bridge::capsule::install(module)?;
    accel::pool::install::<future::Future>(py);
    accel::pool::install::<task::Task>(py);
    py::finalize::install::<future::Future>(py);
    py::finalize::install::<task::Task>(py);
    accel::slots::install_await::<future::Future>(&py.get_type::<future::Future>());
    accel::slots::install_await::<future::Future>(&py.get_type::<task::Task>());
    accel::pool::install::<sched::handle::Handle>(py);
    accel::pool::install::<sched::timer_handle::TimerHandle>(py);
    accel::pool::install::<future::FutureIter>(py);
    accel::pool::install::<bridge::RustFuture>(py);
    accel::pool::install::<io::reader::coroutine::StreamCall>(py);
    future::install_fast_methods(py)?;
    accel::pool::install::<sched::thread_safe_handle::ThreadSafeHandle>(py);
    task::install_direct_methods(py)?;
    event_loop::direct::install(py)?;
    event_loop::fast::install_native(py)?;
    module.add_class::<event_loop::Loop>()?;
    module.add_class::<sched::LoopState>()?;
    module.add_class::<io::stream::state::Stream>()?;
    module.add_class::<io::datagram::state::Datagrams>()?;
    module.add_class::<io::stream::accept::Listener>()?;
    module.add_class::<sched::handle::Handle>()?;
    module.add_class::<sched::thread_safe_handle::ThreadSafeHandle>()?;
    module.add_class::<sched::timer_handle::TimerHandle>()?;
    module.add_class::<future::Future>()?;
    module.add_class::<task::Task>()?;
    module.add_class::<bridge::RustFuture>()?;
    module.add_function(wrap_pyfunction!(prims::sleep::sleep, module)?)?;
    module.add_function(wrap_pyfunction!(io::dns::getaddrinfo, module)?)?;
    module.add_function(wrap_pyfunction!(event_loop::transports::new_stream, module)?)?;
    module.add_function(wrap_pyfunction!(event_loop::transports::new_datagrams, module)?)?;
    module.add_function(wrap_pyfunction!(event_loop::transports::new_listener, module)?)?;
    module.add_function(wrap_pyfunction!(event_loop::transports::new_pipe, module)?)?;
    event_loop::testing::add(module)?;
    module.add_function(wrap_pyfunction!(event_loop::fast::install_fast_methods, module)?)?;
    module.add_function(wrap_pyfunction!(io::stream::class::install_transport_methods, module)?)?;
    module.add_function(wrap_pyfunction!(io::stream::class::install_pipe_methods, module)?)?;
    module.add_function(wrap_pyfunction!(io::datagram::class::install_datagram_methods, module)?)?;
    module.add_function(wrap_pyfunction!(io::stream::tls_write::install_tls_methods, module)?)?;
    module.add_function(wrap_pyfunction!(accel::instance_values::_know_instance_values, module)?)?;
    module.add_function(wrap_pyfunction!(accel::native_parts::_know_native_parts, module)?)?;
    module.add_function(wrap_pyfunction!(io::stream::tls::_know_tls, module)?)?;
    module.add_function(wrap_pyfunction!(accel::tls::_probe_tls, module)?)?;
    module.add_function(wrap_pyfunction!(accel::tls::_tls_session, module)?)?;
    module.add("_TLS_SLOTS", io::stream::tls::slots(py)?)?;
    module.add_function(wrap_pyfunction!(sched::trace::_trace_begin, module)?)?;
    module.add_function(wrap_pyfunction!(sched::trace::_trace_end, module)?)?;
    module.add_function(wrap_pyfunction!(accel::_accelerations, module)?)?;
    module.add_function(wrap_pyfunction!(accel::_acceleration_is_wanted, module)?)?;
    module.add_function(wrap_pyfunction!(accel::_settle_acceleration, module)?)?;
    module.add_submodule(&prims::testing::module(py)?)?;
    add_importable(module, prims::sync::module(py)?)?;
    add_importable(module, prims::fs::module(py)?)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
