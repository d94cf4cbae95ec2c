//! What transports of pipes do otherwise than those of sockets: `write`, and how a pipe ends. A pipe is
//! what `connect_read_pipe` and `connect_write_pipe` take: a FIFO, a terminal or another character device, a socket.
//! asyncio's `_UnixReadPipeTransport` and `_UnixWritePipeTransport`. Loop thread, GIL held.

use std::io;
use std::os::fd::RawFd;

use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError};
use pyo3::prelude::*;

use super::ends;
use super::state::{Transport, Wants};
use super::write::{Found, Way};
use crate::io::poller::Interest;
use crate::io::syscall::answer;
use crate::io::transport;
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::error::Slim;

/// The way of what is written to a pipe.
pub struct ToPipe;

impl Way for ToPipe {
    fn no_bytes(data: &Bound<'_, PyAny>) -> PyErr {
        match data.try_repr() {
            Ok(text) => PyAssertionError::new_err(text.unbind()),
            Err(raised) => raised,
        }
    }

    fn find(of: Transport<'_, '_>, length: usize) -> PyResult<Option<Found>> {
        if length == 0 {
            return Ok(None);
        }
        let found = of.with(|state| {
            if state.closing || state.objects.is_none() {
                let before = state.refused;
                state.refused = before.saturating_add(1);
                return Err(before);
            }
            Ok(if state.outgoing.is_empty() { Found::Idle(state.fd) } else { Found::Busy })
        });
        match found {
            Ok(found) => Ok(Some(found)),
            Err(writes) => transport::dropped(of.py(), writes, "warn_of_lost_pipe_write").map(|()| None),
        }
    }

    fn send(fd: RawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
        // SAFETY: `bytes` is valid for its length.
        answer(|| unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) })
    }

    fn waits(of: Transport<'_, '_>) -> PyResult<()> {
        let watch =
            of.with(|state| state.objects.as_ref().filter(|_| state.paused).map(|it| (it.watch.clone(), state.fd)));
        match watch {
            Some((watch, fd)) => watch.watch_transport(of.py(), fd, Interest { read: false, write: true }),
            None => Ok(()),
        }
    }
}

/// Everybody who could write has closed the pipe: `eof_received` and `connection_lost` come in the next turn.
///
/// # Errors
/// What ends the run.
pub fn at_end(of: Transport<'_, '_>) -> Slim<()> {
    log_closed(of)?;
    of.with(|state| {
        state.readable = false;
        state.eof_received = true;
        state.closing = true;
        state.lost = 1;
    });
    Ok(of.queue_transition()?)
}

/// Before `connection_lost`: `eof_received`, if the pipe has come to its end.
///
/// # Errors
/// What ends the run: `connection_lost` comes in the next one.
pub fn tell_end(of: Transport<'_, '_>) -> Slim<()> {
    let py = of.py();
    if !of.with(|state| state.wants == Wants::Pipe && std::mem::take(&mut state.eof_received)) {
        return Ok(());
    }
    let Some(protocol) = of.part(|objects| &objects.protocol) else { return Ok(()) };
    let Err(raised) = protocol.try_call_method(pyo3::intern!(py, "eof_received"), ()) else { return Ok(()) };
    let reported = transport::report_method(of, "eof_received", py.None().bind(py), raised);
    if reported.is_err() {
        of.queue_transition()?;
    }
    reported
}

/// Something can be received where only writing is of interest: nobody reads any more.
///
/// # Errors
/// What ends the run.
pub fn reader_gone(of: Transport<'_, '_>) -> Slim<()> {
    log_closed(of)?;
    let py = of.py();
    let has_more = of.with(|state| {
        state.readable = false;
        !state.outgoing.is_empty()
    });
    let reason = has_more.then(|| PyBrokenPipeError::new_err(()).into_value(py).into_bound(py).into_any());
    Ok(ends::force_close(of, reason)?)
}

fn log_closed(of: Transport<'_, '_>) -> PyResult<()> {
    let py = of.py();
    if of.part(|objects| &objects.event_loop).is_some_and(|event_loop| event_loop.get().debug.get(py)) {
        asyncio(py)?.helper(py, "log_info")?.try_call(("%r was closed by peer", of.object))?;
    }
    Ok(())
}
