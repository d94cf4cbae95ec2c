//! `Reactor`: what the loop asks of who watches descriptors, a higher layer.

use std::io;
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::state::LoopState;

/// Readiness of descriptors, brought in by a higher layer.
pub trait Reactor: Send + Sync {
    /// The loop is going to sleep in tokio's driver, inside its runtime. False: it may do so already. True:
    /// `poll_ready` is to be called before.
    ///
    /// # Errors
    /// OSError: the process or the system has not left what it takes to watch descriptors.
    fn watch_by_driver(&self, py: Python<'_>) -> PyResult<bool>;
    /// An event of this descriptor, which is the loop's own and stays open, ends `sleep`.
    ///
    /// # Errors
    /// As `watch_by_driver`.
    fn end_sleep_by(&self, py: Python<'_>, fd: RawFd) -> io::Result<()>;
    /// Sleep without the GIL until a descriptor is ready, or one that ends the sleep, or a signal comes; then enter the
    /// inbox again, and put the callbacks of ready descriptors into the queue. True: as for `poll_ready`.
    ///
    /// # Errors
    /// As `poll_ready`.
    fn sleep(&self, py: Python<'_>, state: &LoopState) -> PyResult<bool>;
    /// Put the callbacks of ready descriptors into the queue and register `cx` for the next readiness. `look`: the
    /// driver need not say that there are any. True: look again in the next turn without waiting for a wake
    /// (level-triggered descriptors may still be ready).
    ///
    /// # Errors
    /// OSError: descriptors cannot be looked at any more. It ends the run, as in asyncio.
    fn poll_ready(
        &self,
        py: Python<'_>,
        state: &LoopState,
        cx: &mut std::task::Context<'_>,
        look: bool,
    ) -> PyResult<bool>;
    /// Whether there are connections, which may be looked at once more before the loop sleeps.
    fn has_connections(&self, py: Python<'_>) -> bool;
    /// Whether any descriptor of the program's is watched.
    fn is_watching(&self, py: Python<'_>) -> bool;
    /// Whether there are descriptors and it is time to look at them between two polls: a turn that began some
    /// microseconds after the last look sees what has arrived since, as each of asyncio's turns does.
    fn is_look_due(&self, py: Python<'_>) -> bool;
    /// As `poll_ready`, without asking the driver. True: look again in the next turn.
    ///
    /// # Errors
    /// As `poll_ready`.
    fn look(&self, py: Python<'_>, state: &LoopState) -> PyResult<bool>;
    /// Whether another look may find something before the loop has gone to sleep and come back.
    fn expects_more(&self, py: Python<'_>) -> bool;
    /// The loop is about to sleep. When `check` wants to be called, by the loop's clock.
    fn before_sleep(&self, py: Python<'_>) -> Option<u64>;
    /// The time that `before_sleep` gave has come.
    fn check(&self, py: Python<'_>, now: u64);
    /// The loop closes.
    fn close(&self, py: Python<'_>);
    /// A forked child: what is watched is its parent's (`LoopState::leave_to_parent`).
    fn leave_to_parent(&self, py: Python<'_>);
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}
