//! Transports of datagrams: UDP and Unix sockets. The way of a datagram is a straight line: `watch` sees the event, the
//! turn calls `run` here, `read` receives and calls the protocol; the protocol calls `sendto`, which sends (`write`).
//!
//! `state`: what a transport knows; `room`: where datagrams are received; `ends`: how an endpoint begins and ends;
//! `class`: what Python asks for.

pub mod class;
mod ends;
mod read;
pub mod room;
pub mod state;
mod write;

use pyo3::prelude::*;

use self::state::{Transport, datagrams_of};
use super::poller::Event;
use super::transport::Stage;
use crate::py::context;
use crate::py::error::Slim;

/// The kernel has told of a transport's descriptor.
pub fn on_event(transport: &Bound<'_, PyAny>, event: Event) {
    let Ok(datagrams) = datagrams_of(transport) else { return };
    let of = Transport { object: transport, datagrams: &datagrams };
    let is_worth_it = of.with(|state| {
        state.readable |= event.ready.read;
        state.more_than_data |= event.more_than_data;
        state.writable |= event.ready.write;
        state.has_work()
    });
    if is_worth_it {
        of.queue();
    }
}

/// The protocol of a transport, while its connection lives.
pub fn protocol<'py>(transport: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let datagrams = datagrams_of(transport).ok()?;
    let of = Transport { object: transport, datagrams: &datagrams };
    of.part(|objects| &objects.protocol)
}

/// What a turn does for a transport that is ready.
///
/// # Errors
/// What ends the run.
pub fn run_ready(transport: &Bound<'_, PyAny>) -> Slim<()> {
    let datagrams = datagrams_of(transport)?;
    let of = Transport { object: transport, datagrams: &datagrams };
    of.with(|state| state.queued = false);
    let Some(context) = of.part(|objects| &objects.context) else { return Ok(()) };
    let _inside = context::inside(&context)?;
    let mut done = read::ready(of);
    if of.with(|state| state.writable && !state.waiting.is_empty()) {
        done = done.and(write::flush(of));
    }
    if of.with(|state| state.has_work()) {
        of.queue();
    }
    done
}

/// What a turn does for a transport that begins or ends.
///
/// # Errors
/// What ends the run.
pub fn run_transition(transport: &Bound<'_, PyAny>) -> Slim<()> {
    let datagrams = datagrams_of(transport)?;
    let of = Transport { object: transport, datagrams: &datagrams };
    let Some(context) = of.part(|objects| &objects.context) else { return Ok(()) };
    let _inside = context::inside(&context)?;
    match of.with(|state| state.stage) {
        Stage::New => ends::connected(of),
        Stage::Connected => ends::lost(of),
        Stage::Over => Ok(()),
    }
}
