//! Received bytes for a `StreamReader`: `StreamReaderProtocol.data_received` and `StreamReader.feed_data`, without the
//! calls and without a bytes object in between.
//!
//! Whoever has received bytes asks for the protocol's `Target`, appends the bytes, and says so when nothing is borrowed
//! any more (`Target::appended`). Where there is no target, or it takes no bytes now, `data_received` is called as
//! usual.

use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyInt, PyWeakrefMethods, PyWeakrefReference};

use super::{calls, known};
use crate::accel::instance_values::{OF_PROTOCOL, OF_READER, OfProtocol, OfReader};
use crate::future::Future;
use crate::future::state::Outcome;
use crate::py::call::{self, Object};
use crate::py::whole;

/// A reader that received bytes may be put into.
#[derive(Debug)]
pub struct Target<'py> {
    reader: Bound<'py, PyAny>,
    buffer: Bound<'py, PyByteArray>,
    limit: i64,
}

/// Where the bytes go that this protocol is given. None: `data_received` is to be called, which may have more to do
/// than asyncio's.
#[inline]
pub fn target<'py>(protocol: &Bound<'py, PyAny>) -> Option<Target<'py>> {
    let py = protocol.py();
    let streams = known::plain(py)?;
    if !call::has_type(protocol, streams.protocol.bind(py)) {
        return None;
    }
    calls::install(py, streams);
    // An error, of an instance that lacks something, is for `data_received` to raise.
    find(protocol, streams).unwrap_or(None)
}

/// Whether the protocol is asyncio's of streams, so that there may be a target.
#[inline]
pub fn is_of_streams(protocol: &Bound<'_, PyAny>) -> bool {
    known::plain(protocol.py()).is_some_and(|streams| call::has_type(protocol, streams.protocol.bind(protocol.py())))
}

fn find<'py>(protocol: &Bound<'py, PyAny>, streams: &known::Streams) -> PyResult<Option<Target<'py>>> {
    let py = protocol.py();
    if let Some([reference, ..]) = OF_PROTOCOL.get(py).and_then(|values| values.held(protocol))
        && let Ok(reference) = reference.cast_exact::<PyWeakrefReference>()
        && let Some(reader) = reference.upgrade()
        && let Some([eof, buffer, limit, ..]) = OF_READER.get(py).and_then(|values| values.held(&reader))
        && call::is_bool(&eof, false)
        && let Ok(buffer) = buffer.cast_exact::<PyByteArray>()
        && let Ok(limit) = limit.cast_exact::<PyInt>()
        && let Ok(limit) = limit.extract()
    {
        // They have no methods of their own, and their classes' are asyncio's.
        let buffer = buffer.to_owned();
        return Ok(Some(Target { reader, buffer, limit }));
    }
    let reference = OfProtocol::Reader.of(protocol)?;
    let Ok(reference) = reference.cast_exact::<PyWeakrefReference>() else { return Ok(None) };
    let Some(reader) = reference.upgrade() else { return Ok(None) };
    if !call::has_type(&reader, streams.reader.bind(py)) {
        return Ok(None);
    }
    let is_own = whole::has_method(protocol, pyo3::intern!(py, "data_received"), streams.data_received.bind(py))?
        && whole::has_method(&reader, pyo3::intern!(py, "feed_data"), streams.feed_data.bind(py))?
        && whole::has_method(&reader, pyo3::intern!(py, "_wakeup_waiter"), streams.wakeup_waiter.bind(py))?;
    if !is_own || !call::is_bool(&OfReader::Eof.of(&reader)?, false) {
        return Ok(None);
    }
    let Ok(buffer) = OfReader::Buffer.of(&reader)?.cast_into_exact::<PyByteArray>() else { return Ok(None) };
    let limit = OfReader::Limit.of(&reader)?;
    let limit = limit.cast_exact::<PyInt>().ok().and_then(|limit| limit.extract::<i64>().ok());
    Ok(limit.map(|limit| Target { reader, buffer, limit }))
}

impl Target<'_> {
    /// Put bytes behind those that the reader has; no Python code runs. False: somebody has a view of the reader's
    /// buffer, or there is no memory, and nothing has been done.
    #[must_use = "what is not taken is for data_received"]
    pub fn append(&self, bytes: &[u8]) -> bool {
        let length = self.buffer.len();
        if length.checked_add(bytes.len()).is_none_or(|length| self.buffer.resize(length).is_err()) {
            return false;
        }
        // SAFETY: the GIL is held and no Python code runs here, so that nobody else has the bytes, which are as many as
        // `resize` has said.
        unsafe { self.buffer.as_bytes_mut()[length..].copy_from_slice(bytes) };
        true
    }

    /// Bytes have been appended: who waits for them is woken, and the transport paused when they are too many.
    ///
    /// # Errors
    /// What the methods of a waiter or of a transport raise that are not ours.
    pub fn appended(&self) -> PyResult<()> {
        let py = self.reader.py();
        wake(&self.reader)?;
        let length = self.buffer.len();
        if i64::try_from(length).is_ok_and(|length| length <= self.limit.saturating_mul(2)) {
            return Ok(());
        }
        let transport = OfReader::Transport.of(&self.reader)?;
        if transport.is_none() || OfReader::Paused.of(&self.reader)?.try_is_truthy()? {
            return Ok(());
        }
        match transport.try_call_method(pyo3::intern!(py, "pause_reading"), ()) {
            Ok(_) => self.reader.try_setattr(OfReader::Paused.name(py), true),
            // It cannot be paused: everything is kept, and it is not asked again.
            Err(raised) if raised.is_instance_of::<PyNotImplementedError>(py) => {
                self.reader.try_setattr(OfReader::Transport.name(py), py.None())
            }
            Err(raised) => Err(raised),
        }
    }
}

/// `StreamReader._wakeup_waiter`.
fn wake(reader: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = reader.py();
    let waiter = OfReader::Waiter.of(reader)?;
    if waiter.is_none() {
        return Ok(());
    }
    reader.try_setattr(OfReader::Waiter.name(py), py.None())?;
    if waiter.is_exact_instance_of::<Future>()
        && let Ok(future) = waiter.cast::<Future>()
    {
        return if future.get().is_cancelled(py) { Ok(()) } else { Future::finish(future, Outcome::Result(py.None())) };
    }
    if waiter.try_call_method(pyo3::intern!(py, "cancelled"), ())?.try_is_truthy()? {
        return Ok(());
    }
    waiter.try_call_method(pyo3::intern!(py, "set_result"), (py.None(),)).map(drop)
}
