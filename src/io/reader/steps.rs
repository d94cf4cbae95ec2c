//! What the methods of asyncio's StreamReader and StreamWriter do between two waits, as CPython's code does it on an
//! object whose classes nobody has changed. What is not plain is the method's own: nothing has been done then.

use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyInt};

use super::known::{self, Streams};
use crate::accel::instance_values::{OfProtocol, OfReader, OfWriter};
use crate::future::Future;
use crate::py::buffer;
use crate::py::call::{self, Object};

/// What a call is to give.
#[derive(Debug)]
pub enum Asked {
    /// `read(n)`, n >= 0.
    Read(usize),
    /// `readexactly(n)`, n >= 0.
    Exactly(usize),
    /// `readuntil(separator)`.
    Until(Py<PyBytes>),
    /// `readline()`.
    Line,
    /// `StreamWriter.drain()`.
    Drain,
}

impl Asked {
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Read(count) => Self::Read(*count),
            Self::Exactly(count) => Self::Exactly(*count),
            Self::Until(separator) => Self::Until(separator.clone_ref(py)),
            Self::Line => Self::Line,
            Self::Drain => Self::Drain,
        }
    }

    /// Let go of it now, also where PyO3 does not count the thread as attached.
    pub fn drop_ref(self, py: Python<'_>) {
        if let Self::Until(separator) = self {
            separator.drop_ref(py);
        }
    }
}

/// What came of a step.
pub enum Came<'py> {
    Value(Bound<'py, PyAny>),
    /// The reader has no more: this is its `_waiter` now.
    Waits(Bound<'py, Future>),
    /// It is for the method itself.
    Otherwise,
}

/// One step of a call, whose reader or writer is `owner`. `searched`: of None, this is the first step; later steps have
/// in it how much of the buffer has no separator.
///
/// # Errors
/// What the method raises.
pub fn step<'py>(owner: &Bound<'py, PyAny>, asked: &Asked, searched: &mut Option<usize>) -> PyResult<Came<'py>> {
    let py = owner.py();
    let Some(streams) = known::plain(py) else { return Ok(Came::Otherwise) };
    if let Asked::Drain = asked {
        return drain(owner, streams);
    }
    let first = searched.is_none();
    if first && !OfReader::Exception.of(owner)?.is_none() {
        return Ok(Came::Otherwise);
    }
    if let Asked::Read(0) | Asked::Exactly(0) = asked {
        return Ok(Came::Value(PyBytes::new(py, b"").into_any()));
    }
    let Ok(buffer) = OfReader::Buffer.of(owner)?.cast_into_exact::<PyByteArray>() else { return Ok(Came::Otherwise) };
    let reader = Reader { object: owner, buffer: &buffer };
    let offset = searched.get_or_insert(0);
    match asked {
        Asked::Read(count) => {
            if first && buffer.len() == 0 && !reader.is_at_end()? {
                return reader.wait();
            }
            reader.take(*count)
        }
        Asked::Exactly(count) if buffer.len() >= *count => reader.take(*count),
        Asked::Exactly(count) => {
            if !reader.is_at_end()? {
                return reader.wait();
            }
            Err(reader.incomplete(Some(*count))?)
        }
        Asked::Until(separator) => {
            let separator = separator.bind(py);
            match reader.find(separator, offset)? {
                Found::At(end) => reader.take(end),
                Found::Nowhere => Err(reader.incomplete(None)?),
                Found::NotYet => reader.wait(),
                Found::TooFar(text, consumed) => Err(overrun(py, text, consumed)?),
                Found::Unknown => Ok(Came::Otherwise),
            }
        }
        Asked::Line => reader.line(offset),
        Asked::Drain => Ok(Came::Otherwise),
    }
}

/// Where a separator is.
enum Found {
    /// It ends there.
    At(usize),
    /// Nowhere, and no more will come.
    Nowhere,
    NotYet,
    /// Behind the limit: the message, and what is `consumed`.
    TooFar(&'static str, usize),
    /// The limit is no plain number.
    Unknown,
}

struct Reader<'a, 'py> {
    object: &'a Bound<'py, PyAny>,
    buffer: &'a Bound<'py, PyByteArray>,
}

impl<'py> Reader<'_, 'py> {
    fn py(&self) -> Python<'py> {
        self.object.py()
    }

    fn is_at_end(&self) -> PyResult<bool> {
        is_true(&OfReader::Eof.of(self.object)?)
    }

    fn is_paused(&self) -> PyResult<bool> {
        is_true(&OfReader::Paused.of(self.object)?)
    }

    /// `_wait_for_data`, up to its wait.
    fn wait(&self) -> PyResult<Came<'py>> {
        let py = self.py();
        if !OfReader::Waiter.of(self.object)?.is_none() {
            return Ok(Came::Otherwise);
        }
        if self.is_paused()? {
            self.object.try_setattr(OfReader::Paused.name(py), false)?;
            let transport = OfReader::Transport.of(self.object)?;
            transport.try_call_method(pyo3::intern!(py, "resume_reading"), ())?;
        }
        let event_loop = OfReader::Loop.of(self.object)?;
        let waiter = event_loop.try_call_method(pyo3::intern!(py, "create_future"), ())?;
        let Ok(waiter) = waiter.cast_into_exact::<Future>() else { return Ok(Came::Otherwise) };
        self.object.try_setattr(OfReader::Waiter.name(py), &waiter)?;
        Ok(Came::Waits(waiter))
    }

    /// The first `count` bytes of the buffer.
    fn take(&self, count: usize) -> PyResult<Came<'py>> {
        let taken = buffer::take(self.buffer, count)?;
        self.resume()?;
        Ok(Came::Value(taken.into_any()))
    }

    /// `_maybe_resume_transport`.
    fn resume(&self) -> PyResult<()> {
        let py = self.py();
        if !self.is_paused()? && known::plain(py).is_some() {
            return Ok(());
        }
        self.object.try_call_method(pyo3::intern!(py, "_maybe_resume_transport"), ()).map(drop)
    }

    /// IncompleteReadError, with everything that is in the buffer.
    fn incomplete(&self, expected: Option<usize>) -> PyResult<PyErr> {
        let partial = buffer::take(self.buffer, self.buffer.len())?;
        let class = asyncio_class(self.py(), "IncompleteReadError")?;
        Ok(PyErr::from_value(class.try_call((partial, expected))?))
    }

    /// A step of `readuntil`.
    fn find(&self, separator: &Bound<'py, PyBytes>, offset: &mut usize) -> PyResult<Found> {
        let py = self.py();
        let limit = OfReader::Limit.of(self.object)?;
        let Some(limit) = limit.cast_exact::<PyInt>().ok().and_then(|limit| limit.extract::<i64>().ok()) else {
            return Ok(Found::Unknown);
        };
        let is_beyond = |count: usize| i64::try_from(count).is_ok_and(|count| count > limit);
        let (length, size) = (self.buffer.len(), separator.as_bytes().len());
        if length >= size.saturating_add(*offset) {
            let found = self.buffer.try_call_method(pyo3::intern!(py, "find"), (separator, *offset))?;
            if let Ok(start) = usize::try_from(found.extract::<isize>()?) {
                if is_beyond(start) {
                    return Ok(Found::TooFar("Separator is found, but chunk is longer than limit", start));
                }
                return Ok(Found::At(start + size));
            }
            *offset = length + 1 - size;
            if is_beyond(*offset) {
                return Ok(Found::TooFar("Separator is not found, and chunk exceed the limit", *offset));
            }
        }
        Ok(if self.is_at_end()? { Found::Nowhere } else { Found::NotYet })
    }

    /// A step of `readline`.
    fn line(&self, offset: &mut usize) -> PyResult<Came<'py>> {
        let py = self.py();
        match self.find(&PyBytes::new(py, b"\n"), offset)? {
            Found::At(end) => self.take(end),
            Found::Nowhere => Ok(Came::Value(buffer::take(self.buffer, self.buffer.len())?.into_any())),
            Found::NotYet => self.wait(),
            Found::Unknown => Ok(Came::Otherwise),
            Found::TooFar(text, consumed) => {
                let overrun = overrun(py, text, consumed)?;
                // SAFETY: the GIL is held and no Python code runs meanwhile.
                let ends_there = unsafe { self.buffer.as_bytes() }.get(consumed) == Some(&b'\n');
                let gone = if ends_there { consumed + 1 } else { self.buffer.len() };
                buffer::take(self.buffer, gone)?;
                self.resume()?;
                let raised = pyo3::exceptions::PyValueError::new_err(text);
                raised.value(py).as_any().try_setattr(pyo3::intern!(py, "__context__"), overrun.into_value(py))?;
                Err(raised)
            }
        }
    }
}

/// One of asyncio's errors.
#[cold]
fn asyncio_class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("asyncio")?.try_getattr(name)
}

fn overrun(py: Python<'_>, text: &str, consumed: usize) -> PyResult<PyErr> {
    let class = asyncio_class(py, "LimitOverrunError")?;
    Ok(PyErr::from_value(class.try_call((text, consumed))?))
}

/// `drain`, of a connection that is open and takes more.
fn drain<'py>(writer: &Bound<'py, PyAny>, streams: &Streams) -> PyResult<Came<'py>> {
    let py = writer.py();
    let reader = OfWriter::Reader.of(writer)?;
    let is_plain = reader.is_none()
        || (call::has_type(&reader, streams.reader.bind(py)) && OfReader::Exception.of(&reader)?.is_none());
    if !is_plain {
        return Ok(Came::Otherwise);
    }
    let protocol = OfWriter::Protocol.of(writer)?;
    let is_plain = call::has_type(&protocol, streams.protocol.bind(py))
        && call::is_bool(&OfProtocol::ConnectionLost.of(&protocol)?, false)
        && call::is_bool(&OfProtocol::Paused.of(&protocol)?, false);
    if !is_plain {
        return Ok(Came::Otherwise);
    }
    let closing = OfWriter::Transport.of(writer)?.try_call_method(pyo3::intern!(py, "is_closing"), ())?;
    Ok(if call::is_bool(&closing, false) { Came::Value(py.None().into_bound(py)) } else { Came::Otherwise })
}

/// `bool(object)`, which as a rule is one.
fn is_true(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    if call::is_bool(object, false) { Ok(false) } else { object.try_is_truthy() }
}
