//! `Reactor`: what the loop asks of who watches descriptors, a higher layer.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::state::LoopState;

/// Readiness of descriptors, brought in by a higher layer.
pub trait Reactor: Send + Sync {
    /// A run begins, inside its runtime.
    ///
    /// # Errors
    /// OSError: the process or the system has not left what it takes to watch descriptors.
    fn begin_run(&self, py: Python<'_>) -> PyResult<()>;
    /// Put the callbacks of ready descriptors into the queue and register `cx` for the next readiness. True: look
    /// again in the next turn without waiting for a wake (level-triggered descriptors may still be ready).
    ///
    /// # Errors
    /// OSError: descriptors cannot be looked at any more. It ends the run, as in asyncio.
    fn poll_ready(
        &self,
        py: Python<'_>,
        state: &LoopState,
        cx: &mut std::task::Context<'_>,
        fresh_run: bool,
    ) -> PyResult<bool>;
    /// Whether there are connections, which are looked at between two polls as well.
    fn has_connections(&self, py: Python<'_>) -> bool;
    /// Whether it is time to look at the descriptors between two polls: a turn that began some microseconds after the last
    /// look sees what has arrived since, as each of asyncio's turns does.
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
