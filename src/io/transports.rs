//! What happens to a transport goes to its kind: a stream of bytes, or datagrams.

use pyo3::prelude::*;

use super::datagram::{self, state::is_of_datagrams};
use super::poller::Event;
use super::stream;
use crate::py::error::Slim;
use crate::sched::LoopState;

/// The kernel has told of a transport's descriptor. It runs no Python code.
pub fn on_event(transport: &Bound<'_, PyAny>, event: Event) {
    if is_of_datagrams(transport) { datagram::on_event(transport, event) } else { stream::on_event(transport, event) }
}

/// What a turn does for a transport that is ready.
///
/// # Errors
/// What ends the run.
pub fn run_ready(event_loop: &Bound<'_, LoopState>, transport: &Bound<'_, PyAny>) -> Slim<()> {
    if is_of_datagrams(transport) { datagram::run_ready(transport) } else { stream::run_ready(event_loop, transport) }
}

/// The protocol of a transport, while its connection lives.
pub fn protocol<'py>(transport: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    if is_of_datagrams(transport) { datagram::protocol(transport) } else { stream::protocol(transport) }
}

/// What a turn does for a transport that begins or ends.
///
/// # Errors
/// What ends the run.
pub fn run_transition(event_loop: &Bound<'_, LoopState>, transport: &Bound<'_, PyAny>) -> Slim<()> {
    if is_of_datagrams(transport) {
        datagram::run_transition(transport)
    } else {
        stream::run_transition(event_loop, transport)
    }
}
