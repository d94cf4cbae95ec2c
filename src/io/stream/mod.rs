//! Transports of byte streams: TCP and Unix sockets, pipes. The way of a byte is a straight line: `watch` sees the
//! event, the turn calls `run` here, `read` receives and calls the protocol; the protocol calls `write`, which sends.
//!
//! `state`: what a transport knows; `accept`: how a server comes by one; `ends`: how a connection begins and ends;
//! `send`: what is asked of the kernel; `socket`: who has the descriptor; `seen`: what of it Python sees; `class`: what
//! Python asks for; `tls`, `tls_write`: the same way through TLS; `pipe`: what pipes do otherwise.

pub mod accept;
pub mod class;
mod ends;
pub mod pipe;
mod read;
mod seen;
mod send;
pub mod socket;
pub mod state;
pub mod tls;
pub mod tls_write;
mod write;

use pyo3::prelude::*;

use self::state::{Stage, Stream, Transport, stream_of};
use super::poller::Event;
use crate::py::context;
use crate::py::error::Slim;
use crate::sched::LoopState;

/// The kernel has told of a transport's descriptor.
pub fn on_event(transport: &Bound<'_, PyAny>, event: Event) {
    let Ok(stream) = stream_of(transport) else { return };
    let of = Transport { object: transport, stream: &stream };
    let worth = of.with(|state| {
        state.readable |= event.ready.read && !state.eof_received;
        state.more_than_data |= event.more_than_data;
        state.writable |= event.ready.write;
        state.stage == Stage::Connected && (state.is_readable() || (state.writable && !state.outgoing.is_empty()))
    });
    if worth {
        of.queue();
    }
}

/// The protocol of a transport, while its connection lives.
pub fn protocol<'py>(transport: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let stream = stream_of(transport).ok()?;
    let of = Transport { object: transport, stream: &stream };
    of.part(|objects| &objects.protocol)
}

/// What a turn does for a transport that is ready.
///
/// # Errors
/// What ends the run.
pub fn run_ready(_event_loop: &Bound<'_, LoopState>, transport: &Bound<'_, PyAny>) -> Slim<()> {
    let stream = stream_of(transport)?;
    let of = Transport { object: transport, stream: &stream };
    of.with(|state| state.queued = false);
    let Some(context) = of.part(|objects| &objects.context) else { return Ok(()) };
    let _inside = context::inside(&context)?;
    let read = read::ready(of);
    let written = if of.with(|state| state.writable && !state.outgoing.is_empty()) { write::flush(of) } else { Ok(()) };
    read.and(written)
}

/// Send what a transport, whose native part this is, has gathered.
///
/// # Errors
/// What ends the run.
pub fn uncork<'py>(transport: &Bound<'py, PyAny>, native: &Bound<'py, PyAny>) -> Slim<()> {
    let stream = native.cast::<Stream>().map_err(|failed| Box::new(failed.into()))?;
    ends::uncork(Transport { object: transport, stream })
}

/// In a forked child: what a transport with this native part has gathered is its parent's to send.
pub fn forget_corked(native: &Bound<'_, PyAny>) {
    let Ok(stream) = native.cast::<Stream>() else { return };
    let gathered = stream.get().state.with(native.py(), |state| {
        if state.cork.is_in() {
            state.cork.pull();
            Some(state.outgoing.clear())
        } else {
            None
        }
    });
    // The bytes are the child's own copies: nothing of anybody's goes with them.
    drop(gathered);
}

/// What a turn does for a transport whose connection begins or ends.
///
/// # Errors
/// What ends the run.
pub fn run_transition(_event_loop: &Bound<'_, LoopState>, transport: &Bound<'_, PyAny>) -> Slim<()> {
    let stream = stream_of(transport)?;
    let of = Transport { object: transport, stream: &stream };
    let Some(context) = of.part(|objects| &objects.context) else { return Ok(()) };
    let _inside = context::inside(&context)?;
    match of.with(|state| state.stage) {
        Stage::New => ends::connected(of),
        Stage::Connected => pipe::tell_end(of).and_then(|()| ends::lost(of)),
        Stage::Over => Ok(()),
    }
}
