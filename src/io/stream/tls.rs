//! TLS over a transport: what `asyncio.sslproto.SSLProtocol` does for each packet, natively.
//!
//! The protocol is `pyloop._tls.SSLProtocol`, asyncio's own class with some of its attributes in slots, which are read
//! and written here in place. The handshake, closing, timeouts, errors and whatever else is rare is asyncio's own
//! Python code. As is everything while the connection is not in the state WRAPPED, and when somebody has replaced a
//! method.
//!
//! `Known`: where the attributes are. `open`, `answer`: what is done with bytes that have arrived
//! (`SSLProtocol._do_read`). `send`, `process_outgoing`: what has become records is sent.

use pyo3::Borrowed;
use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyInt, PyString, PyTuple, PyType};

use super::state::{Transport, stream_of};
use super::{ends, write};
use crate::accel::direct_calls::{self, Finding};
use crate::accel::tls::{Read, Session};
use crate::io::reader::feed;
use crate::py::buffer::View;
use crate::py::call::{self, Object};
use crate::py::cell::GilCell;
use crate::py::error::Slim;
use crate::py::memory;

/// The attributes of the protocol that are read here, in this order in `SLOTS`.
#[derive(Clone, Copy)]
pub enum Slot {
    Session,
    State,
    Transport,
    AppProtocol,
    AppProtocolIsBuffer,
    AppReadingPaused,
    AppWritingPaused,
    SslReadingPaused,
    SslWritingPaused,
    WriteBacklog,
    WriteBufferSize,
    IncomingHigh,
    IncomingLow,
    OutgoingHigh,
    OutgoingLow,
}

const SLOTS: [&str; 15] = [
    "_session",
    "_state",
    "_transport",
    "_app_protocol",
    "_app_protocol_is_buffer",
    "_app_reading_paused",
    "_app_writing_paused",
    "_ssl_reading_paused",
    "_ssl_writing_paused",
    "_write_backlog",
    "_write_buffer_size",
    "_incoming_high_water",
    "_incoming_low_water",
    "_outgoing_high_water",
    "_outgoing_low_water",
];

/// What is known of the classes of `pyloop._tls`: set once.
pub struct Known {
    protocol_class: Py<PyType>,
    /// `pyloop._transports.StreamTransport`.
    stream_transport: Py<PyType>,
    /// `SSLProtocolState.WRAPPED`.
    wrapped: Py<PyAny>,
    /// Whether asyncio's methods are asyncio's own.
    is_whole: Py<PyAny>,
    places: [usize; SLOTS.len()],
    /// Where the transport has its protocol.
    pub in_transport: usize,
}

static KNOWN: PyOnceLock<Known> = PyOnceLock::new();

static IS_WHOLE: Finding<bool> = Finding::new(false);

/// Learn where the attributes are: of a protocol and a transport that nobody else has.
///
/// # Errors
/// RuntimeError: they are in no slots.
#[pyfunction]
pub fn _know_tls(
    protocol: &Bound<'_, PyAny>,
    transport: &Bound<'_, PyAny>,
    stream_transport: Py<PyType>,
    wrapped: Py<PyAny>,
    is_whole: Py<PyAny>,
) -> PyResult<()> {
    let py = protocol.py();
    let mut places = [0; SLOTS.len()];
    for (place, name) in places.iter_mut().zip(SLOTS) {
        *place = memory::place_of(protocol, name)?;
    }
    let in_transport = memory::place_of(transport, "_ssl_protocol")?;
    let protocol_class = protocol.get_type().unbind();
    KNOWN.get_or_init(py, || Known { protocol_class, stream_transport, wrapped, is_whole, places, in_transport });
    Ok(())
}

/// The names of the slots, for the class.
///
/// # Errors
/// MemoryError.
pub fn slots(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
    PyTuple::new(py, SLOTS)
}

impl Known {
    #[inline]
    pub fn get(py: Python<'_>) -> Option<&'static Self> {
        KNOWN.get(py)
    }

    #[inline]
    pub fn is_tls(&self, protocol: &Bound<'_, PyAny>) -> bool {
        call::has_type(protocol, self.protocol_class.bind(protocol.py()))
    }

    /// Whether asyncio's methods are asyncio's own: asked again when the class has changed.
    #[inline]
    fn is_whole(&self, py: Python<'_>) -> PyResult<bool> {
        IS_WHOLE.get(py).map_or_else(|| self.look_again(py), Ok)
    }

    #[cold]
    fn look_again(&self, py: Python<'_>) -> PyResult<bool> {
        let changes = direct_calls::changes();
        let is_watched = direct_calls::watch(self.protocol_class.bind(py));
        let is_whole = is_watched && self.is_whole.bind(py).try_call(())?.try_is_truthy()?;
        IS_WHOLE.keep(py, changes, is_whole);
        Ok(is_whole)
    }
}

/// An `SSLProtocol` whose connection is made and not being closed.
#[derive(Clone, Copy)]
pub struct Wrapped<'a, 'py> {
    known: &'static Known,
    pub protocol: &'a Bound<'py, PyAny>,
}

impl<'a, 'py> Wrapped<'a, 'py> {
    /// None: asyncio's code is to do it.
    #[inline]
    pub fn of(known: &'static Known, protocol: &'a Bound<'py, PyAny>) -> PyResult<Option<(Self, Bound<'py, Session>)>> {
        let py = protocol.py();
        if !known.is_tls(protocol) || !known.is_whole(py)? {
            return Ok(None);
        }
        let wrapped = Self { known, protocol };
        let session = wrapped.slot(Slot::Session).and_then(|session| session.cast_exact::<Session>().ok());
        match session {
            Some(session) if wrapped.is(Slot::State, known.wrapped.bind(py)) => Ok(Some((wrapped, session.to_owned()))),
            _ => Ok(None),
        }
    }

    #[inline(always)]
    fn slot(&self, slot: Slot) -> Option<Borrowed<'a, 'py, PyAny>> {
        // SAFETY: it is an instance of the class, in one of which the slot was found at this place.
        unsafe { memory::held(self.protocol, self.known.places[slot as usize]) }
    }

    #[inline(always)]
    fn is(&self, slot: Slot, value: &Bound<'py, PyAny>) -> bool {
        self.slot(slot).is_some_and(|held| held.is(value))
    }

    /// Whether the attribute is True. asyncio's code sets True and False.
    #[inline(always)]
    fn is_true(&self, slot: Slot) -> bool {
        self.is(slot, &PyBool::new(self.protocol.py(), true))
    }

    /// None: it is no plain number.
    #[inline]
    fn number(&self, slot: Slot) -> Option<usize> {
        self.slot(slot).and_then(|held| held.cast_exact::<PyInt>().ok()?.extract().ok())
    }

    /// Whether nothing waits to become records.
    #[inline]
    pub fn has_no_backlog(&self) -> bool {
        // It is asyncio's deque, or what a program has put there, whose `__len__` may do anything.
        self.slot(Slot::WriteBacklog).is_some_and(|held| held.to_owned().len().is_ok_and(|length| length == 0))
    }

    /// One of its objects; AttributeError when it has none.
    #[inline]
    fn object(&self, slot: Slot) -> PyResult<Bound<'py, PyAny>> {
        match self.slot(slot) {
            Some(held) => Ok(held.to_owned()),
            None => self.protocol.try_getattr(SLOTS[slot as usize]),
        }
    }

    fn call(&self, name: &Bound<'py, PyString>) -> PyResult<()> {
        self.protocol.try_call_method(name, ()).map(drop)
    }

    /// asyncio's `_fatal_error`, for what an `except Exception` around the native code catches; everything else comes
    /// back.
    ///
    /// # Errors
    /// What is no Exception.
    #[cold]
    pub fn failed(&self, raised: PyErr) -> PyResult<()> {
        let py = self.protocol.py();
        if !raised.is_instance_of::<PyException>(py) {
            return Err(raised);
        }
        let raised = raised.into_value(py);
        self.protocol
            .try_call_method(pyo3::intern!(py, "_fatal_error"), (raised, "Fatal error on SSL protocol"))
            .map(drop)
    }

    /// The transport below, when it is one of ours.
    fn stream_transport(&self) -> Option<Bound<'py, PyAny>> {
        let transport = self.slot(Slot::Transport)?;
        call::has_type(&transport, self.known.stream_transport.bind(transport.py())).then(|| transport.to_owned())
    }

    /// `_process_outgoing`: what has become records is sent.
    ///
    /// # Errors
    /// What the transport raises; what the protocol raises that is no Exception.
    #[inline]
    pub fn process_outgoing(&self, session: &Session) -> PyResult<()> {
        let py = self.protocol.py();
        if !self.is_true(Slot::SslWritingPaused)
            && let Some(data) = session.take_outgoing(py)?
        {
            if let Some(transport) = self.stream_transport() {
                let stream = stream_of(&transport).map_err(|raised| *raised)?;
                write::write(Transport { object: &transport, stream: &stream }, &data.into_any())?;
            } else {
                self.object(Slot::Transport)?.try_call_method(pyo3::intern!(py, "write"), (data,))?;
            }
        }
        self.control_writing(session)
    }

    /// `_process_outgoing` of records that OpenSSL has just made.
    ///
    /// # Errors
    /// As `process_outgoing`.
    #[inline]
    pub fn send(&self, session: &Session, records: &[u8]) -> PyResult<()> {
        let py = self.protocol.py();
        if !self.is_true(Slot::SslWritingPaused)
            && session.outgoing(py) == 0
            && let Some(transport) = self.stream_transport()
        {
            let stream = stream_of(&transport).map_err(|raised| *raised)?;
            write::write_copied(Transport { object: &transport, stream: &stream }, records)?;
            return self.control_writing(session);
        }
        self.keep(session, records)?;
        self.process_outgoing(session)
    }

    /// Have records sent after those that wait.
    ///
    /// # Errors
    /// MemoryError.
    pub fn keep(&self, session: &Session, records: &[u8]) -> PyResult<()> {
        let is_kept = session.put_outgoing(self.protocol.py(), records);
        if is_kept { Ok(()) } else { Err(PyMemoryError::new_err(())) }
    }

    #[inline]
    fn control_writing(&self, session: &Session) -> PyResult<()> {
        let py = self.protocol.py();
        let size = self.number(Slot::WriteBufferSize).map(|size| size + session.outgoing(py));
        self.control(
            size,
            Slot::OutgoingHigh,
            Slot::OutgoingLow,
            Slot::AppWritingPaused,
            pyo3::intern!(py, "_control_app_writing"),
        )
    }

    /// Have asyncio's method called when the size of a buffer has crossed its limit.
    #[inline]
    fn control(
        &self,
        size: Option<usize>,
        high: Slot,
        low: Slot,
        paused: Slot,
        method: &Bound<'py, PyString>,
    ) -> PyResult<()> {
        let is_paused = self.is_true(paused);
        let limit = self.number(if is_paused { low } else { high });
        match size.zip(limit) {
            Some((size, limit)) if is_paused && size > limit => Ok(()),
            Some((size, limit)) if !is_paused && size < limit => Ok(()),
            _ => self.call(method),
        }
    }

    /// The first half of `_do_read`: take apart what has been received. May run Python code.
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub fn open(&self, session: &Session, received: &[u8]) -> PyResult<Opened<'py>> {
        let py = self.protocol.py();
        let is_paused = self.is_true(Slot::AppReadingPaused);
        if is_paused || self.is_true(Slot::AppProtocolIsBuffer) {
            return match session.put_incoming(py, received) {
                true => Ok(if is_paused { Opened::Paused } else { Opened::ForBuffer }),
                false => Err(PyMemoryError::new_err(())),
            };
        }
        if received.len() > WORTH_BYTES && !self.slot(Slot::AppProtocol).is_some_and(|it| feed::is_of_streams(&it)) {
            let (data, end) = session.read_bytes(py, received)?;
            return Ok(Opened::Read(data.map(Data::Bytes), end));
        }
        let mut room = PLAIN.take(py);
        let end = session.read_all(py, received, &mut room)?;
        Ok(Opened::Read(Some(Data::InRoom(room)), end))
    }

    /// The rest of `_do_read`: what has arrived is given to the protocol, and what it has written meanwhile is sent.
    ///
    /// # Errors
    /// What the protocol's methods raise; `ssl.SSLError`.
    fn read(&self, session: &Session, opened: Opened<'py>) -> PyResult<()> {
        let py = self.protocol.py();
        let is_paused = matches!(opened, Opened::Paused);
        match opened {
            Opened::Paused => {}
            Opened::ForBuffer => self.read_into_buffer(session)?,
            Opened::Read(data, end) => self.read_bytes(data, end)?,
        }
        if !is_paused {
            if self.has_no_backlog() {
                self.process_outgoing(session)?;
            } else {
                self.call(pyo3::intern!(py, "_do_write"))?;
            }
        }
        let size = Some(session.incoming(py));
        let method = pyo3::intern!(py, "_control_ssl_reading");
        self.control(size, Slot::IncomingHigh, Slot::IncomingLow, Slot::SslReadingPaused, method)
    }

    /// CPython's `read` of the `SSLObject`, for what is neither bytes nor "no more": None is the latter, empty bytes
    /// the end.
    #[cold]
    fn read_by_cpython(&self, most: usize) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = self.protocol.py();
        let read = self.protocol.try_getattr("_sslobj")?.try_call_method(pyo3::intern!(py, "read"), (most,));
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(raised) => {
                let again = py.import("asyncio.sslproto")?.try_getattr("SSLAgainErrors")?;
                if raised.matches(py, again)? { Ok(None) } else { Err(raised) }
            }
        }
    }

    #[cold]
    fn at_end(&self) -> PyResult<()> {
        let py = self.protocol.py();
        self.call(pyo3::intern!(py, "_call_eof_received"))?;
        self.call(pyo3::intern!(py, "_start_shutdown"))
    }

    /// `_do_read__copied`.
    #[inline]
    fn read_bytes(&self, data: Option<Data<'py>>, end: Read) -> PyResult<()> {
        let last = if end == Read::Other { self.read_by_cpython(MOST)? } else { None };
        if let Some(data) = data {
            self.give(data)?;
        }
        match last {
            None => Ok(()),
            Some(last) if !last.try_is_truthy()? => self.at_end(),
            Some(last) => match last.cast_into_exact::<PyBytes>() {
                Ok(last) => self.give(Data::Bytes(last)),
                Err(last) => self.data_received(last.into_inner()),
            },
        }
    }

    #[inline]
    fn give(&self, data: Data<'py>) -> PyResult<()> {
        let py = self.protocol.py();
        match data {
            Data::InRoom(room) if room.is_empty() => {
                give_back(&PLAIN, py, room);
                Ok(())
            }
            Data::InRoom(room) => {
                let reader = feed::target(&self.object(Slot::AppProtocol)?);
                let reader = reader.filter(|reader| reader.append(&room));
                let data = if reader.is_none() { Some(PyBytes::new(py, &room)) } else { None };
                give_back(&PLAIN, py, room);
                match (reader, data) {
                    (Some(reader), _) => reader.appended(),
                    (None, Some(data)) => self.data_received(data.into_any()),
                    (None, None) => Ok(()),
                }
            }
            Data::Bytes(bytes) => match feed::target(&self.object(Slot::AppProtocol)?) {
                Some(reader) if reader.append(bytes.as_bytes()) => reader.appended(),
                _ => self.data_received(bytes.into_any()),
            },
        }
    }

    #[inline]
    fn data_received(&self, data: Bound<'py, PyAny>) -> PyResult<()> {
        let py = self.protocol.py();
        let protocol = self.object(Slot::AppProtocol)?;
        protocol.try_call_method(pyo3::intern!(py, "data_received"), (data,)).map(drop)
    }

    /// `_do_read__buffered`.
    fn read_into_buffer(&self, session: &Session) -> PyResult<()> {
        let py = self.protocol.py();
        let get_buffer = self.protocol.try_getattr(pyo3::intern!(py, "_app_protocol_get_buffer"))?;
        let buffer = get_buffer.try_call((session.incoming(py),))?;
        let view = View::new(&buffer, true)?;
        let (size, mut filled, mut is_over) = (view.len(), 0, view.len() == 0);
        while filled < size {
            // SAFETY: the view keeps `size` bytes at this address, which may be written to.
            match unsafe { session.read(py, view.address().add(filled), size - filled) } {
                Read::Bytes(count) => filled += count,
                Read::NoMore => break,
                Read::Other => {
                    is_over = match self.read_by_cpython(size - filled)? {
                        Some(bytes) => bytes.try_len()? == 0,
                        None => false,
                    };
                    break;
                }
            }
        }
        drop(view);
        if filled == size && size > 0 {
            let event_loop = self.protocol.try_getattr(pyo3::intern!(py, "_loop"))?;
            let again = self.protocol.try_getattr(pyo3::intern!(py, "_do_read"))?;
            event_loop.try_call_method(pyo3::intern!(py, "call_soon"), (again,))?;
        }
        if filled > 0 {
            let updated = self.protocol.try_getattr(pyo3::intern!(py, "_app_protocol_buffer_updated"))?;
            updated.try_call((filled,))?;
        }
        if is_over { self.at_end() } else { Ok(()) }
    }
}

/// What has arrived, and been taken apart.
pub enum Opened<'py> {
    /// Nothing has: the protocol has paused reading. The bytes wait in `_incoming`.
    Paused,
    /// Nothing has yet: it goes into the protocol's own buffer. The bytes wait in `_incoming`.
    ForBuffer,
    /// All has, and why it ended (never `Read::Bytes`).
    Read(Option<Data<'py>>, Read),
}

/// Decrypted bytes.
pub enum Data<'py> {
    Bytes(Bound<'py, PyBytes>),
    /// In `PLAIN`, to be given back.
    InRoom(Vec<u8>),
}

/// The most that is read at once: asyncio's `max_size`.
const MOST: usize = 256 * 1024;

/// From so many bytes on it costs more to copy them than to make bytes that are too large first.
const WORTH_BYTES: usize = 16 * 1024;

/// The most room that is kept for the next time.
const MOST_KEPT: usize = 512 * 1024;

/// Room for what has been decrypted, for all connections.
static PLAIN: GilCell<Vec<u8>> = GilCell::new(Vec::new());

/// Room for records, for all connections.
pub static RECORDS: GilCell<Vec<u8>> = GilCell::new(Vec::new());

/// Have room used again, unless it is too large.
#[inline]
pub fn give_back(to: &GilCell<Vec<u8>>, py: Python<'_>, mut room: Vec<u8>) {
    if room.capacity() <= MOST_KEPT {
        room.clear();
        drop(to.replace(py, room));
    }
}

/// Bytes have arrived, and been taken apart: what follows.
///
/// # Errors
/// What ends the run.
pub fn answer<'py>(
    of: Transport<'_, 'py>,
    wrapped: Wrapped<'_, 'py>,
    session: &Session,
    opened: PyResult<Opened<'py>>,
) -> Slim<()> {
    match opened.and_then(|opened| wrapped.read(session, opened)).or_else(|raised| wrapped.failed(raised)) {
        Ok(()) => Ok(()),
        Err(raised) => ends::failed(of, raised, "Fatal error: protocol.buffer_updated() call failed."),
    }
}
