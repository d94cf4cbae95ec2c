//! `pyloop.sync`: tokio's channels and locks for Python, usable between loops, threads and Rust code.
//!
//! Each class is a tokio handle; each of its async methods a `RustFuture` that polls tokio's own future. What travels
//! is an `Item` (or a `SharedItem`, where many read it), which any thread may move without the GIL. Rust code gets the
//! tokio halves by `to_tokio`/`take_tokio` and brings its own by `from_tokio`.
//!
//! tokio wakes after it has let its locks go, and a wake may run Python (a foreign loop's `call_soon_threadsafe`). So
//! nothing here is held over a tokio call that may wake: no lock that blocks, no `GilCell`.

mod arguments;
mod broadcast;
mod closing;
mod fault;
mod item;
mod meeting;
mod mpsc;
mod oneshot;
mod semaphore;
mod store;
pub(super) mod testing;
mod watch;

use pyo3::prelude::*;

pub use broadcast::{BroadcastReceiver, BroadcastSender};
pub use fault::{Closed, Empty, Fault, Full, Lagged, NoPermits};
pub use item::{Item, SharedItem};
pub use meeting::{Barrier, Notify};
pub use mpsc::{Receiver, Rx, Sender, Tx};
pub use oneshot::{OneshotReceiver, OneshotSender};
pub use semaphore::{Acquire, Permit, Semaphore};
pub use watch::{WatchReceiver, WatchSender};

/// The module `pyloop._sync`.
///
/// # Errors
/// What making the classes raises.
pub(crate) fn module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    let module = PyModule::new(py, "pyloop._sync")?;
    module.add_function(wrap_pyfunction!(oneshot::oneshot, &module)?)?;
    module.add_function(wrap_pyfunction!(mpsc::mpsc, &module)?)?;
    module.add_function(wrap_pyfunction!(mpsc::unbounded, &module)?)?;
    module.add_function(wrap_pyfunction!(broadcast::broadcast, &module)?)?;
    module.add_function(wrap_pyfunction!(watch::watch, &module)?)?;
    module.add_class::<OneshotSender>()?;
    module.add_class::<OneshotReceiver>()?;
    module.add_class::<Sender>()?;
    module.add_class::<Receiver>()?;
    module.add_class::<BroadcastSender>()?;
    module.add_class::<BroadcastReceiver>()?;
    module.add_class::<WatchSender>()?;
    module.add_class::<WatchReceiver>()?;
    module.add_class::<Semaphore>()?;
    module.add_class::<Acquire>()?;
    module.add_class::<Permit>()?;
    module.add_class::<Notify>()?;
    module.add_class::<Barrier>()?;
    module.add("Closed", py.get_type::<Closed>())?;
    module.add("Full", py.get_type::<Full>())?;
    module.add("Empty", py.get_type::<Empty>())?;
    module.add("NoPermits", py.get_type::<NoPermits>())?;
    module.add_class::<Lagged>()?;
    Ok(module)
}
