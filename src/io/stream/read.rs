//! The way of a received byte: from the kernel to the protocol, once a turn.

use std::io;
use std::os::fd::RawFd;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::state::{State, Transport, Wants};
use super::tls::{self, Known, Wrapped};
use super::{ends, pipe};
use crate::core::timeline::Kind;
use crate::io::protocol_of::Short;
use crate::io::reader::feed;
use crate::io::transport;
use crate::py::asyncio::asyncio;
use crate::py::buffer::View;
use crate::py::call::Object;
use crate::py::error::{self, Slim};
use crate::py::new_bytes::NewBytes;
use crate::sched::clock::clock;
use crate::sched::trace;

/// The most that one turn receives of a connection: asyncio's `max_size`.
const MOST: usize = 256 * 1024;

/// From so many bytes on it costs more to copy them than to make bytes that are too large first.
const WORTH_A_ROOM: usize = 32 * 1024;

/// Bytes of so many are of the C library's heap. What is larger may be a mapping of its own, and the part that was not
/// used would be given back page by page.
const IN_HEAP: usize = 120 * 1024;

/// What a receive came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    pub count: usize,
    /// It ended early, and the kernel may have more all the same: descriptors came with the bytes, say.
    pub ended_early: bool,
}

/// Receive into `room`. None: there is nothing now.
///
/// # Safety
/// `room` may be written to for `size` bytes, and nobody else does until this returns.
unsafe fn receive(py: Python<'_>, fd: RawFd, room: *mut u8, size: usize, short: Short) -> io::Result<Option<Received>> {
    let traced = trace::begins();
    // SAFETY: the caller says the same of the room.
    let received = unsafe { receive_now(fd, room, size, short) };
    if let Some(since) = traced {
        let count = received.as_ref().map_or(0, |received| received.map_or(0, |received| received.count));
        trace::moved(py, Kind::Receive, since, count);
    }
    received
}

/// # Safety
/// As for `receive`.
#[inline]
unsafe fn receive_now(fd: RawFd, room: *mut u8, size: usize, short: Short) -> io::Result<Option<Received>> {
    loop {
        let (count, ended_early) = if short == Short::Pipe {
            // SAFETY: the caller says that `room` may be written to for `size` bytes.
            (unsafe { libc::read(fd, room.cast(), size) }, false)
        } else if short == Short::DrainedUnlessMore {
            let mut place = libc::iovec { iov_base: room.cast(), iov_len: size };
            // SAFETY: an all-zero msghdr is a valid one.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = &raw mut place;
            message.msg_iovlen = 1;
            // SAFETY: the caller says that `room` may be written to for `size` bytes, and the message names that place
            // alone.
            let count = unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) };
            // There was no room for what came beside the bytes.
            (count, message.msg_flags & libc::MSG_CTRUNC != 0)
        } else {
            // SAFETY: the caller says that `room` may be written to for `size` bytes.
            (unsafe { libc::recv(fd, room.cast(), size, libc::MSG_DONTWAIT) }, false)
        };
        if count >= 0 {
            return Ok(Some(Received { count: count.cast_unsigned(), ended_early }));
        }
        let failed = io::Error::last_os_error();
        match failed.kind() {
            io::ErrorKind::WouldBlock => return Ok(None),
            io::ErrorKind::Interrupted => {}
            _ => return Err(failed),
        }
    }
}

/// How often one turn receives of a connection that always fills its room, when nothing else is ready: as much as the
/// kernel keeps for a sender by default. To look after the others between two receives costs little; but where the
/// sender is of this loop too, it would fill the queue up again before that is empty, and all that the kernel copies
/// would have left the processor's caches: half the rate.
const AT_ONCE: usize = 16;

/// How long it does so, in nanoseconds; no longer than until the next timer is due.
const LONGEST: u64 = 1_000_000;

/// The descriptor is ready: receive, and hand it to the protocol.
///
/// # Errors
/// What ends the run.
pub fn ready(of: Transport<'_, '_>) -> Slim<()> {
    let mut since = 0;
    for number in 1..=AT_ONCE {
        let done = once(of);
        let has_more =
            |state: &mut State| state.readable && !state.closing && !state.paused && state.lost == 0 && !state.lent;
        if !of.with(has_more) {
            return done;
        }
        if number == 1 {
            since = clock();
        }
        if done.is_err() || number == AT_ONCE || !reads_on(of, since + LONGEST) {
            of.queue();
            return done;
        }
    }
    Ok(())
}

/// Whether what is left to receive is received in the same turn, which is to go on `until` then or until a timer is
/// due.
fn reads_on(of: Transport<'_, '_>, until: u64) -> bool {
    let py = of.py();
    of.with(|state| {
        let Some(objects) = &state.objects else { return false };
        let event_loop = objects.event_loop.get();
        let until = event_loop.timers.with(py, |timers| timers.earliest()).map_or(until, |due| due.min(until));
        !state.more_than_data
            && matches!(state.wants, Wants::Data | Wants::Buffer | Wants::Tls)
            && transport::is_alone(event_loop, py)
            && clock() < until
    })
}

/// Receive once.
fn once(of: Transport<'_, '_>) -> Slim<()> {
    let wants = of.with(|state| {
        let is_reading = state.is_readable() && state.lost == 0 && !state.lent;
        is_reading.then_some((state.wants, state.fd, state.short))
    });
    let Some((wants, fd, short)) = wants else { return Ok(()) };
    match wants {
        Wants::Data => to_data_received(of, fd, short),
        Wants::Buffer => to_buffer(of, fd, short),
        Wants::Tls => to_tls(of, fd, short),
        Wants::Pipe => to_pipe(of, fd, short),
        Wants::Nothing => pipe::reader_gone(of),
    }
}

/// How large bytes are to be for a receive that may bring as much as the last one; 0: it is better copied.
fn room_for(last: usize) -> usize {
    match last {
        MOST => MOST,
        WORTH_A_ROOM..IN_HEAP => IN_HEAP,
        _ => 0,
    }
}

/// Note what a receive says of what there is left.
#[inline]
fn note(of: Transport<'_, '_>, received: Option<Received>, size: usize) {
    of.with(|state| {
        let drained = match received {
            None => true,
            Some(Received { count, ended_early }) => {
                count < size && !ended_early && !state.more_than_data && !state.short.says_nothing()
            }
        };
        state.readable = !drained;
        let count = received.map_or(0, |received| received.count);
        state.room = room_for(count);
        state.note_received(of.py(), count);
    });
}

/// Receive into the loop's buffer, and have `take` look at it: it runs no Python code. None: there is nothing now.
fn receive_with<T>(
    of: Transport<'_, '_>,
    fd: RawFd,
    short: Short,
    take: impl FnOnce(&[u8]) -> T,
) -> io::Result<Option<(Received, T)>> {
    of.with(|state| {
        let Some(objects) = &state.objects else { return Ok(None) };
        objects.buffer.fill(of.py(), MOST, |room| {
            // SAFETY: `room` is the buffer's, lent to this closure alone, and `MOST` long.
            let received = unsafe { receive(of.py(), fd, room.as_mut_ptr(), MOST, short)? };
            Ok(received.map(|received| (received, take(&room[..received.count]))))
        })
    })
}

/// Receive into bytes of their own. None: there is nothing now.
fn receive_in<'py>(
    mut room: NewBytes<'py>,
    fd: RawFd,
    short: Short,
) -> io::Result<Option<(Received, Bound<'py, PyBytes>)>> {
    let py = room.py();
    let no_memory = |_: PyErr| io::Error::from_raw_os_error(libc::ENOMEM);
    let (place, size) = room.rest(MOST).map_err(no_memory)?;
    // SAFETY: nobody else knows of the bytes, and there is room for `size` of them.
    let Some(received) = (unsafe { receive(py, fd, place, size, short)? }) else { return Ok(None) };
    room.fill(received.count);
    let bytes = room.into_bytes().map_err(no_memory)?;
    Ok(Some((received, bytes.unwrap_or_else(|| PyBytes::new(py, &[])))))
}

/// What was received, and where it is.
enum Arrived<'py> {
    /// In the reader that the protocol has.
    Appended,
    Bytes(Bound<'py, PyBytes>),
}

/// Receive once, for a reader if there is one. None: there is nothing now.
///
/// # Errors
/// The kernel's.
#[inline]
fn arrived<'py>(
    of: Transport<'_, 'py>,
    target: Option<&feed::Target<'py>>,
    fd: RawFd,
    short: Short,
) -> io::Result<Option<Arrived<'py>>> {
    let size = if target.is_none() { of.with(|state| state.room) } else { 0 };
    if size > 0
        && let Ok(room) = NewBytes::new(of.py(), size)
    {
        let (received, bytes) = receive_in(room, fd, short)?.unzip();
        note(of, received, size);
        return Ok(bytes.map(Arrived::Bytes));
    }
    // To make bytes, or to append them, runs no Python code.
    let tried = receive_with(of, fd, short, |bytes| {
        let is_appended = !bytes.is_empty() && target.is_some_and(|target| target.append(bytes));
        if is_appended { Arrived::Appended } else { Arrived::Bytes(PyBytes::new(of.py(), bytes)) }
    })?;
    let (received, arrived) = tried.unzip();
    note(of, received, MOST);
    Ok(arrived)
}

fn to_data_received(of: Transport<'_, '_>, fd: RawFd, short: Short) -> Slim<()> {
    let py = of.py();
    let Some(protocol) = of.part(|objects| &objects.protocol) else { return Ok(()) };
    let target = feed::target(&protocol);
    let arrived = match arrived(of, target.as_ref(), fd, short) {
        Ok(arrived) => arrived,
        Err(failed) => return read_failed(of, &failed),
    };
    let given = match arrived {
        None => return Ok(()),
        Some(Arrived::Bytes(data)) if data.as_bytes().is_empty() => return at_end(of),
        Some(Arrived::Bytes(data)) => protocol.try_call_method(pyo3::intern!(py, "data_received"), (data,)).map(drop),
        Some(Arrived::Appended) => target.map_or(Ok(()), |target| target.appended()),
    };
    match given {
        Ok(()) => Ok(()),
        Err(raised) => ends::failed(of, raised, "Fatal error: protocol.data_received() call failed."),
    }
}

/// Of a pipe. What its protocol raises is a callback's exception, and the pipe goes on.
fn to_pipe(of: Transport<'_, '_>, fd: RawFd, short: Short) -> Slim<()> {
    let py = of.py();
    let Some(protocol) = of.part(|objects| &objects.protocol) else { return Ok(()) };
    let target = feed::target(&protocol);
    let (given, data) = match arrived(of, target.as_ref(), fd, short) {
        Err(failed) => return ends::failed(of, error::os_error(&failed), "Fatal read error on pipe transport"),
        Ok(None) => return Ok(()),
        Ok(Some(Arrived::Bytes(data))) if data.as_bytes().is_empty() => return pipe::at_end(of),
        Ok(Some(Arrived::Bytes(data))) => {
            (protocol.try_call_method(pyo3::intern!(py, "data_received"), (&data,)).map(drop), data.into_any())
        }
        Ok(Some(Arrived::Appended)) => (target.map_or(Ok(()), |target| target.appended()), py.None().into_bound(py)),
    };
    given.or_else(|raised| transport::report_method(of, "data_received", &data, raised))
}

#[cold]
fn read_failed(of: Transport<'_, '_>, failed: &io::Error) -> Slim<()> {
    ends::failed(of, error::os_error(failed), "Fatal read error on socket transport")
}

fn to_buffer(of: Transport<'_, '_>, fd: RawFd, short: Short) -> Slim<()> {
    let py = of.py();
    let Some(protocol) = of.part(|objects| &objects.protocol) else { return Ok(()) };
    let room = protocol.try_call_method(pyo3::intern!(py, "get_buffer"), (-1,)).and_then(|buffer| {
        if buffer.try_len()? == 0 {
            return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
        }
        Ok(buffer)
    });
    let room = match room {
        Ok(room) => room,
        Err(raised) => return ends::failed(of, raised, "Fatal error: protocol.get_buffer() call failed."),
    };
    let view = match View::new(&room, true) {
        Ok(view) => view,
        Err(raised) => return ends::failed(of, raised, "Fatal read error on socket transport"),
    };
    // `get_buffer` may have closed the connection.
    if of.with(|state| state.lost > 0 || state.objects.is_none()) {
        return Ok(());
    }
    let size = view.len();
    // SAFETY: the view keeps `size` bytes at this address, which may be written to; the GIL is held, so no Python code
    // touches them.
    let tried = unsafe { receive(py, fd, view.address(), size, short) };
    drop(view);
    let received = match tried {
        Ok(received) => received,
        Err(failed) => return read_failed(of, &failed),
    };
    note(of, received, size);
    match received {
        None => Ok(()),
        Some(Received { count: 0, .. }) => at_end(of),
        Some(Received { count, .. }) => match protocol.try_call_method(pyo3::intern!(py, "buffer_updated"), (count,)) {
            Ok(_) => Ok(()),
            Err(raised) => ends::failed(of, raised, "Fatal error: protocol.buffer_updated() call failed."),
        },
    }
}

/// Ciphertext: it is taken apart where it has been received, and given to the protocol when the loop has its buffer
/// again.
fn to_tls(of: Transport<'_, '_>, fd: RawFd, short: Short) -> Slim<()> {
    let py = of.py();
    let Some(protocol) = of.part(|objects| &objects.protocol) else { return Ok(()) };
    let Some(known) = Known::get(py) else { return to_buffer(of, fd, short) };
    let (wrapped, session) = match Wrapped::of(known, &protocol) {
        Ok(Some(found)) => found,
        Ok(None) => return to_buffer(of, fd, short),
        Err(raised) => return ends::failed(of, raised, "Fatal read error on socket transport"),
    };
    let session = session.get();
    let taken = of.with(|state| state.objects.as_ref().map(|objects| objects.buffer.take(py, MOST)));
    let Some(mut room) = taken else { return Ok(()) };
    // SAFETY: the room is ours, and `MOST` long at least.
    let tried = unsafe { receive(py, fd, room.as_mut_ptr(), MOST, short) };
    let count = tried.as_ref().map_or(0, |received| received.map_or(0, |received| received.count));
    if let Ok(received) = tried {
        note(of, received, MOST);
    }
    // OpenSSL may call the program back, about a key for example.
    let opened = (count > 0).then(|| wrapped.open(session, &room[..count]));
    of.with(|state| {
        if let Some(objects) = &state.objects {
            objects.buffer.give_back(py, room);
        }
    });
    match (tried, opened) {
        (Err(failed), _) => read_failed(of, &failed),
        (Ok(None), _) => Ok(()),
        (Ok(Some(_)), None) => at_end(of),
        (Ok(Some(_)), Some(opened)) => tls::answer(of, wrapped, session, opened),
    }
}

/// The peer sends no more.
fn at_end(of: Transport<'_, '_>) -> Slim<()> {
    let py = of.py();
    of.with(|state| {
        state.readable = false;
        state.eof_received = true;
    });
    let debug = of.part(|objects| &objects.event_loop).is_some_and(|event_loop| event_loop.get().debug.get(py));
    if debug {
        asyncio(py)?.helper(py, "log_debug")?.try_call(("%r received EOF", of.object))?;
    }
    let Some(protocol) = of.part(|objects| &objects.protocol) else { return Ok(()) };
    let kept = protocol
        .try_call_method(pyo3::intern!(py, "eof_received"), ())
        .and_then(|keeps_open| keeps_open.try_is_truthy());
    match kept {
        Ok(true) => Ok(()),
        Ok(false) => Ok(ends::close(of)?),
        Err(raised) if error::ends_the_run(py, &raised) => {
            // It has not heard of it: the next run tells it.
            of.with(|state| {
                state.readable = true;
                state.eof_received = false;
            });
            Err(Box::new(raised))
        }
        Err(raised) => ends::failed(of, raised, "Fatal error: protocol.eof_received() call failed."),
    }
}
