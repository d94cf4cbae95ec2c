//! The TLS connection that an `ssl.SSLObject` has, as OpenSSL knows it: records are taken apart and made without
//! CPython's methods around each.
//!
//! `SSLObject.read` and `write` give the GIL away and take it again for each record, make an exception to say that
//! there is no more, and room for the largest answer: two thirds of what a short message costs. So the functions of the
//! very library that CPython's `_ssl` is linked with are called directly, on the `SSL` that an object of `_ssl` has,
//! which is found by experiment. CPython's methods go on working beside: both see the same connection.
//!
//! What is neither bytes nor "no more for now" is left to them: asked once more, OpenSSL gives the same answer, and
//! CPython makes its exception of it.
//!
//! Plain path: asyncio's `SSLProtocol`, with CPython's methods.

use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::OnceLock;

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use super::{Acceleration, Probed, expect, raised};
use crate::py::call::{self, Object};
use crate::py::memory::{self, word};
use crate::py::new_bytes::NewBytes;
use crate::py::openssl::{Library, Ssl};
use crate::py::openssl_bio::Bios;

pub static TLS: Acceleration = Acceleration::new("tls");

/// Where an object of `_ssl` has its OpenSSL part, in bytes: a `MemoryBIO` behind the head, a `_SSLSocket` one word
/// further.
const IN_BIO: usize = size_of::<ffi::PyObject>();
const IN_SOCKET: usize = IN_BIO + size_of::<usize>();

/// How many bytes of an `SSL` are searched for its BIOs. It is many times as large.
const SEARCHED: usize = 512;

/// `SSL_ERROR_WANT_READ`.
const WANT_READ: c_int = 2;

/// The most that a record holds.
const RECORD: usize = 16 * 1024;

/// What is known of the `ssl` module: set when the probe has succeeded.
struct Known {
    library: Library,
    /// `_ssl._SSLSocket`.
    class: Py<PyType>,
}

static KNOWN: OnceLock<Known> = OnceLock::new();

/// What reading a record came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// There is no whole record.
    NoMore,
    /// The end of the stream, or an error: CPython's `read` says what.
    Other,
}

/// The connection of an `ssl.SSLObject`. OpenSSL may call the program back (for the name that a client asks for, say),
/// so nothing of the loop may be borrowed while a record is read or written.
#[pyclass(frozen, name = "_TlsSession", module = "pyloop._native")]
pub struct Session {
    library: &'static Library,
    ssl: NonNull<Ssl>,
    bios: Bios,
    /// The `_ssl._SSLSocket`, which keeps the connection: the last to be dropped.
    _object: Py<PyAny>,
}

// SAFETY: OpenSSL's objects may be used by any thread, one at a time, and every method here takes a token of the GIL.
unsafe impl Send for Session {}
// SAFETY: every method takes a token of the GIL, so no two threads use them at a time.
unsafe impl Sync for Session {}

impl Session {
    /// The connection of a `_ssl._SSLSocket`; None for an object of another class, or one without `MemoryBIO`s of its
    /// own.
    fn of(known: &'static Known, object: &Bound<'_, PyAny>) -> Option<Self> {
        let py = object.py();
        if !call::has_type(object, known.class.bind(py)) {
            return None;
        }
        // SAFETY: the Bound holds the object, an instance of the class whose instances have been seen to have the
        // pointer there.
        let ssl = NonNull::new(unsafe { word(object, IN_SOCKET) } as *mut Ssl)?;
        let library = &known.library;
        // SAFETY: the object has it, and lives.
        let (incoming, outgoing) = unsafe { ((library.read_bio)(ssl.as_ptr()), (library.write_bio)(ssl.as_ptr())) };
        // SAFETY: they are the connection's. The session keeps the object, and so the connection, until it has dropped
        // the BIOs. The GIL is held whenever a function of OpenSSL's begins to run for the connection, which is asked
        // for one thing at a time.
        let bios = unsafe { Bios::open(library, ssl, [NonNull::new(incoming)?, NonNull::new(outgoing)?])? };
        Some(Self { library, ssl, bios, _object: object.clone().unbind() })
    }

    /// How many bytes wait in `_incoming`.
    #[inline]
    pub fn incoming(&self, _py: Python<'_>) -> usize {
        self.bios.incoming()
    }

    /// How many bytes wait in `_outgoing`.
    #[inline]
    pub fn outgoing(&self, _py: Python<'_>) -> usize {
        self.bios.outgoing()
    }

    /// Put received bytes into `_incoming`. False: there is no memory for them. Runs no Python code.
    #[inline]
    pub fn put_incoming(&self, _py: Python<'_>, bytes: &[u8]) -> bool {
        self.bios.put_incoming(bytes)
    }

    /// Put records into `_outgoing`. False: there is no memory for them. Runs no Python code.
    pub fn put_outgoing(&self, _py: Python<'_>, records: &[u8]) -> bool {
        self.bios.put_outgoing(records)
    }

    /// An error of somebody else's must not be taken for one of this connection's.
    #[inline(always)]
    fn clear_errors(&self) {
        // SAFETY: functions for this thread's list of errors. To clear it costs ten times as much as to look.
        unsafe {
            if (self.library.peek_error)() != 0 {
                (self.library.clear_errors)();
            }
        }
    }

    /// Read what one record has, or as much of it as there is room for.
    ///
    /// # Safety
    /// `room` may be written to for `size` bytes, at least one, while the call lasts, though Python code may run.
    #[inline]
    pub unsafe fn read(&self, _py: Python<'_>, room: *mut u8, size: usize) -> Read {
        self.clear_errors();
        let mut count = 0;
        // SAFETY: `_object` keeps the connection; the caller says that `room` is `size` long.
        unsafe {
            let answer = (self.library.read)(self.ssl.as_ptr(), room.cast(), size, &raw mut count);
            match answer {
                1 => Read::Bytes(count),
                _ if (self.library.get_error)(self.ssl.as_ptr(), answer) == WANT_READ => Read::NoMore,
                _ => Read::Other,
            }
        }
    }

    /// Read all that there is in what has been received and in what came before, record by record, into `room`.
    /// Why it ended (never `Read::Bytes`).
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    fn read_into(&self, py: Python<'_>, received: &[u8], room: &mut impl Room) -> PyResult<Read> {
        let (end, is_kept) = self.bios.reading(received, || {
            loop {
                // SAFETY: `_object` keeps the connection.
                if !self.bios.has_more() && unsafe { (self.library.has_pending)(self.ssl.as_ptr()) } == 0 {
                    break Ok(Read::NoMore);
                }
                let (place, size) = room.rest(RECORD)?;
                // SAFETY: the room is `size` bytes long there, and nobody else knows it.
                match unsafe { self.read(py, place, size) } {
                    Read::Bytes(count) => room.fill(count),
                    end => break Ok(end),
                }
            }
        });
        if is_kept { end } else { Err(PyMemoryError::new_err(())) }
    }

    /// Read all that there is: exact `bytes`, or None for nothing, and why it ended (never `Read::Bytes`).
    ///
    /// # Errors
    /// MemoryError.
    pub fn read_bytes<'py>(&self, py: Python<'py>, received: &[u8]) -> PyResult<(Option<Bound<'py, PyBytes>>, Read)> {
        // Records are larger than what is in them; one that was there in part may need more room than what has come
        // now.
        let mut room = NewBytes::new(py, received.len().max(1))?;
        let end = self.read_into(py, received, &mut room)?;
        Ok((room.into_bytes()?, end))
    }

    /// Read all that there is, to the end of `room`: why it ended (never `Read::Bytes`).
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub fn read_all(&self, py: Python<'_>, received: &[u8], room: &mut Vec<u8>) -> PyResult<Read> {
        self.read_into(py, received, room)
    }

    /// Make records of bytes, to the end of `records`: of how many bytes, which is all unless the connection has to
    /// receive first.
    #[inline]
    pub fn write(&self, _py: Python<'_>, bytes: &[u8], records: &mut Vec<u8>) -> usize {
        self.bios.collecting(records, || {
            let mut done = 0;
            while done < bytes.len() {
                let (rest, mut count) = (&bytes[done..], 0);
                self.clear_errors();
                // SAFETY: `_object` keeps the connection, which reads as many bytes as `rest` has.
                let answer = unsafe {
                    (self.library.write)(self.ssl.as_ptr(), rest.as_ptr().cast(), rest.len(), &raw mut count)
                };
                if answer != 1 {
                    break;
                }
                done += count;
            }
            done
        })
    }

    /// Take what waits in `_outgoing`: exact `bytes`, or None for nothing.
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub fn take_outgoing<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let size = self.outgoing(py);
        if size == 0 {
            return Ok(None);
        }
        let mut room = NewBytes::new(py, size)?;
        let (place, size) = room.rest(RECORD)?;
        // SAFETY: the room is `size` bytes long there, and nobody else knows it.
        if !unsafe { self.bios.take_outgoing(place, size) } {
            return Err(PyMemoryError::new_err(()));
        }
        room.fill(size);
        room.into_bytes()
    }
}

/// Where decrypted bytes go.
trait Room {
    /// Where the next bytes go, and how many there is room for: one at least, more by `step` when there is none left.
    ///
    /// # Errors
    /// MemoryError.
    fn rest(&mut self, step: usize) -> PyResult<(*mut u8, usize)>;

    /// The next so many bytes have been written.
    fn fill(&mut self, count: usize);
}

impl Room for NewBytes<'_> {
    #[inline]
    fn rest(&mut self, step: usize) -> PyResult<(*mut u8, usize)> {
        NewBytes::rest(self, step)
    }

    #[inline]
    fn fill(&mut self, count: usize) {
        NewBytes::fill(self, count);
    }
}

impl Room for Vec<u8> {
    #[inline]
    fn rest(&mut self, step: usize) -> PyResult<(*mut u8, usize)> {
        if self.try_reserve(step).is_err() {
            return Err(PyMemoryError::new_err(()));
        }
        let rest = self.spare_capacity_mut();
        Ok((rest.as_mut_ptr().cast(), rest.len()))
    }

    #[inline]
    fn fill(&mut self, count: usize) {
        assert!(count <= self.capacity() - self.len(), "more than there is room for");
        // SAFETY: so many have been written, and there was room for them.
        unsafe { self.set_len(self.len() + count) };
    }
}

/// The connection of an `ssl.SSLObject`, for its protocol; None when it is to be left to CPython's methods.
///
/// # Errors
/// What a property of a subclass raises.
#[pyfunction]
pub fn _tls_session<'py>(py: Python<'py>, ssl_object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, Session>>> {
    let Some(known) = KNOWN.get().filter(|_| TLS.is_on()) else { return Ok(None) };
    let object = ssl_object.try_getattr(pyo3::intern!(py, "_sslobj"))?;
    Session::of(known, &object).map(|session| Bound::new(py, session)).transpose()
}

/// Find out where the objects of `_ssl` have their parts: the `SSLObject` is a new client's, with these two
/// `MemoryBIO`s.
///
/// # Errors
/// RuntimeError: why the objects cannot be relied on.
#[pyfunction]
pub fn _probe_tls(
    path: &str,
    ssl_object: &Bound<'_, PyAny>,
    incoming: &Bound<'_, PyAny>,
    outgoing: &Bound<'_, PyAny>,
) -> PyResult<()> {
    probe(path, ssl_object, incoming, outgoing)
        .map_err(|why| pyo3::exceptions::PyRuntimeError::new_err(why.into_owned()))
}

fn probe(
    path: &str,
    ssl_object: &Bound<'_, PyAny>,
    incoming: &Bound<'_, PyAny>,
    outgoing: &Bound<'_, PyAny>,
) -> Probed {
    let py = ssl_object.py();
    let library = Library::linked_with(path)?;
    let object = ssl_object.try_getattr("_sslobj").map_err(raised)?;
    let holds = |object: &Bound<'_, PyAny>, at: usize| memory::size(object) >= at + size_of::<usize>();
    expect(holds(&object, IN_SOCKET) && holds(incoming, IN_BIO) && holds(outgoing, IN_BIO), "the objects are small")?;
    // SAFETY: the Bounds hold the objects, which are that large, as has been looked.
    let (ssl, bios) = unsafe { (word(&object, IN_SOCKET), [word(incoming, IN_BIO), word(outgoing, IN_BIO)]) };
    // The address may be anything, and is not followed before it is known to be that of an SSL: one has its BIOs in it.
    let searched = memory::copy::<{ SEARCHED / size_of::<usize>() }>(ssl)?;
    expect(bios[0] != 0 && bios[1] != 0 && bios[0] != bios[1], "the two BIOs are none, or one")?;
    expect(bios.iter().all(|bio| searched.contains(bio)), "the connection's BIOs are not in it")?;
    // SAFETY: it is the SSL of `object`.
    let found = unsafe { [(library.read_bio)(ssl as *mut Ssl), (library.write_bio)(ssl as *mut Ssl)] };
    expect(found.map(|bio| bio as usize) == bios, "the connection has other BIOs")?;
    let known = Known { library, class: object.get_type().unbind() };
    let known = KNOWN.get_or_init(|| known);
    let session = Session::of(known, &object).ok_or("the connection is not found a second time")?;
    try_out(py, &session, incoming, outgoing)
}

/// What goes in comes out, and the first read makes the client greet its server.
fn try_out(py: Python<'_>, session: &Session, incoming: &Bound<'_, PyAny>, outgoing: &Bound<'_, PyAny>) -> Probed {
    let bytes = |read: PyResult<Bound<'_, PyAny>>| read.and_then(|read| read.extract::<Vec<u8>>()).map_err(raised);
    expect(session.put_incoming(py, b"ping") && session.incoming(py) == 4, "a BIO does not keep what is written")?;
    expect(bytes(incoming.try_call_method("read", ()))? == b"ping", "a BIO does not give what was written")?;
    outgoing.try_call_method("write", (PyBytes::new(py, b"pong"),)).map_err(raised)?;
    let taken = session.take_outgoing(py).map_err(raised)?;
    let is_pong = taken.is_some_and(|taken| taken.as_bytes() == b"pong");
    expect(is_pong && session.outgoing(py) == 0, "a BIO does not give what was written")?;
    let (mut room, mut records) = ([0_u8; 16], Vec::new());
    // SAFETY: the connection lives, and has the BIOs; the room is as long as that.
    let ((count, is_kept), collected) = unsafe {
        let (library, ssl) = (session.library, session.ssl.as_ptr());
        let (reader, writer) = ((library.read_bio)(ssl), (library.write_bio)(ssl));
        (
            session.bios.reading(b"pingpong", || (library.bio_read)(reader, room.as_mut_ptr().cast(), 4)),
            session.bios.collecting(&mut records, || (library.bio_write)(writer, b"pong".as_ptr().cast(), 4)),
        )
    };
    let is_ping = count == 4 && room.starts_with(b"ping");
    let rest = bytes(incoming.try_call_method("read", ()))?;
    expect(is_ping && is_kept && rest == b"pong", "what has been received is not read")?;
    expect(collected == 4 && records == b"pong" && session.outgoing(py) == 0, "what is written is not collected")?;
    let greeting = [0x16, 0x03];
    // SAFETY: the room is as long as that.
    let read = unsafe { session.read(py, room.as_mut_ptr(), room.len()) };
    let sent = bytes(outgoing.try_call_method("read", ()))?;
    expect(read == Read::NoMore && sent.starts_with(&greeting), "a client does not greet")
}
