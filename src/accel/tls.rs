//! The TLS connection that an `ssl.SSLObject` has, as OpenSSL knows it: records are taken apart and made without CPython's
//! methods around each.
//!
//! `SSLObject.read` and `write` give the GIL away and take it again for each record, make an exception to say that there is
//! no more, and room for the largest answer: two thirds of what a short message costs. So the functions of the very
//! library that CPython's `_ssl` is linked with are called directly, on the `SSL` that an object of `_ssl` has, which is
//! found by experiment. CPython's methods go on working beside: both see the same connection.
//!
//! What is neither bytes nor "no more for now" is left to them: asked once more, OpenSSL gives the same answer, and CPython
//! makes its exception of it.
//!
//! Plain path: asyncio's `SSLProtocol`, with CPython's methods.

use std::ffi::{CString, c_int, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;

use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use super::{Acceleration, Probed, Why, expect, raised};
use crate::py::call::{self, Object};
use crate::py::memory::{self, word};
use crate::py::new_bytes::NewBytes;

pub static TLS: Acceleration = Acceleration::new("tls");

/// OpenSSL's `SSL`: one connection.
#[repr(C)]
struct Ssl(c_void);

/// OpenSSL's `BIO`: of a `MemoryBIO`, bytes on their way.
#[repr(C)]
struct Bio(c_void);

/// Where an object of `_ssl` has its OpenSSL part, in bytes: a `MemoryBIO` behind the head, a `_SSLSocket` one word further.
const IN_BIO: usize = size_of::<ffi::PyObject>();
const IN_SOCKET: usize = IN_BIO + size_of::<usize>();

/// How many bytes of an `SSL` are searched for its BIOs. It is many times as large.
const SEARCHED: usize = 512;

/// `SSL_ERROR_WANT_READ`.
const WANT_READ: c_int = 2;

/// The most that a record holds.
const RECORD: usize = 16 * 1024;

/// The functions of OpenSSL that are called.
struct Library {
    read: unsafe extern "C" fn(*mut Ssl, *mut c_void, usize, *mut usize) -> c_int,
    write: unsafe extern "C" fn(*mut Ssl, *const c_void, usize, *mut usize) -> c_int,
    get_error: unsafe extern "C" fn(*const Ssl, c_int) -> c_int,
    has_pending: unsafe extern "C" fn(*const Ssl) -> c_int,
    read_bio: unsafe extern "C" fn(*const Ssl) -> *mut Bio,
    write_bio: unsafe extern "C" fn(*const Ssl) -> *mut Bio,
    bio_read: unsafe extern "C" fn(*mut Bio, *mut c_void, c_int) -> c_int,
    bio_write: unsafe extern "C" fn(*mut Bio, *const c_void, c_int) -> c_int,
    bio_pending: unsafe extern "C" fn(*mut Bio) -> usize,
    clear_errors: unsafe extern "C" fn(),
}

impl Library {
    /// The functions that the extension module at `path` is linked with.
    fn linked_with(path: &str) -> Result<Self, Why> {
        let path = CString::new(path).map_err(|_| "a path with a NUL in it")?;
        // SAFETY: `path` ends with NUL. What is loaded already is not loaded again, and is never unloaded: CPython keeps its
        // extension modules.
        let module = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        let module = NonNull::new(module).ok_or("the ssl module is not loaded from a file")?;
        let find = |name: &'static std::ffi::CStr| -> Result<*mut c_void, Why> {
            // SAFETY: the handle is dlopen's, and the name ends with NUL.
            let found = unsafe { libc::dlsym(module.as_ptr(), name.as_ptr()) };
            if found.is_null() {
                Err(format!("the ssl module has no {}", name.to_string_lossy()).into())
            } else {
                Ok(found)
            }
        };
        // SAFETY: these are OpenSSL's functions of these names, whose types its documentation gives.
        unsafe {
            use std::mem::transmute;
            #[expect(clippy::missing_transmute_annotations, reason = "the types stand in the fields above")]
            Ok(Self {
                read: transmute(find(c"SSL_read_ex")?),
                write: transmute(find(c"SSL_write_ex")?),
                get_error: transmute(find(c"SSL_get_error")?),
                has_pending: transmute(find(c"SSL_has_pending")?),
                read_bio: transmute(find(c"SSL_get_rbio")?),
                write_bio: transmute(find(c"SSL_get_wbio")?),
                bio_read: transmute(find(c"BIO_read")?),
                bio_write: transmute(find(c"BIO_write")?),
                bio_pending: transmute(find(c"BIO_ctrl_pending")?),
                clear_errors: transmute(find(c"ERR_clear_error")?),
            })
        }
    }
}

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

/// The connection of an `ssl.SSLObject`. OpenSSL may call the program back (for the name that a client asks for, say), so
/// nothing of the loop may be borrowed while a record is read or written.
#[pyclass(frozen, name = "_TlsSession", module = "pyloop._native")]
pub struct Session {
    /// The `_ssl._SSLSocket`, which keeps what the pointers below point to.
    _object: Py<PyAny>,
    library: &'static Library,
    ssl: NonNull<Ssl>,
    incoming: NonNull<Bio>,
    outgoing: NonNull<Bio>,
}

// SAFETY: OpenSSL's objects may be used by any thread, one at a time, and every method here takes a token of the GIL.
unsafe impl Send for Session {}
// SAFETY: every method takes a token of the GIL, so no two threads use them at a time.
unsafe impl Sync for Session {}

impl Session {
    /// The connection of a `_ssl._SSLSocket`; None for an object of another class, or one without BIOs.
    fn of(known: &'static Known, object: &Bound<'_, PyAny>) -> Option<Self> {
        let py = object.py();
        if !call::has_type(object, known.class.bind(py)) {
            return None;
        }
        // SAFETY: the Bound holds the object, an instance of the class whose instances have been seen to have the pointer
        // there.
        let ssl = NonNull::new(unsafe { word(object, IN_SOCKET) } as *mut Ssl)?;
        let library = &known.library;
        // SAFETY: the object has it, and lives.
        let (incoming, outgoing) = unsafe { ((library.read_bio)(ssl.as_ptr()), (library.write_bio)(ssl.as_ptr())) };
        let (incoming, outgoing) = (NonNull::new(incoming)?, NonNull::new(outgoing)?);
        Some(Self { _object: object.clone().unbind(), library, ssl, incoming, outgoing })
    }

    /// How many bytes wait in `_incoming`.
    #[inline]
    pub fn incoming(&self, _py: Python<'_>) -> usize {
        // SAFETY: `_object` keeps the BIO.
        unsafe { (self.library.bio_pending)(self.incoming.as_ptr()) }
    }

    /// How many bytes wait in `_outgoing`.
    #[inline]
    pub fn outgoing(&self, _py: Python<'_>) -> usize {
        // SAFETY: `_object` keeps the BIO.
        unsafe { (self.library.bio_pending)(self.outgoing.as_ptr()) }
    }

    /// Whether there are bytes that have been received and not read.
    #[inline]
    pub fn has_more(&self, py: Python<'_>) -> bool {
        // SAFETY: `_object` keeps the connection.
        self.incoming(py) > 0 || unsafe { (self.library.has_pending)(self.ssl.as_ptr()) } != 0
    }

    /// Put received bytes into `_incoming`. False: there is no memory for them. Runs no Python code.
    #[inline]
    pub fn feed(&self, _py: Python<'_>, bytes: &[u8]) -> bool {
        let Ok(length) = c_int::try_from(bytes.len()) else { return false };
        // SAFETY: `_object` keeps the BIO, which copies as many bytes as there are.
        length == 0
            || unsafe { (self.library.bio_write)(self.incoming.as_ptr(), bytes.as_ptr().cast(), length) } == length
    }

    /// Read what one record has, or as much of it as there is room for.
    ///
    /// # Safety
    /// `room` may be written to for `size` bytes, at least one, while the call lasts, though Python code may run.
    #[inline]
    pub unsafe fn read(&self, _py: Python<'_>, room: *mut u8, size: usize) -> Read {
        let mut count = 0;
        // SAFETY: `_object` keeps the connection; the caller says that `room` is `size` long. An error of somebody else's
        // must not be taken for one of this connection's.
        unsafe {
            (self.library.clear_errors)();
            let answer = (self.library.read)(self.ssl.as_ptr(), room.cast(), size, &raw mut count);
            match answer {
                1 => Read::Bytes(count),
                _ if (self.library.get_error)(self.ssl.as_ptr(), answer) == WANT_READ => Read::NoMore,
                _ => Read::Other,
            }
        }
    }

    /// Read all that there is: exact `bytes`, or None for nothing, and why it ended (never `Read::Bytes`).
    ///
    /// # Errors
    /// MemoryError.
    pub fn read_all<'py>(&self, py: Python<'py>) -> PyResult<(Option<Bound<'py, PyBytes>>, Read)> {
        // Records are larger than what is in them; one that was there in part may need more room than what has come now.
        let mut room = NewBytes::new(py, self.incoming(py).max(1))?;
        let end = loop {
            if !self.has_more(py) {
                break Read::NoMore;
            }
            let (place, size) = room.rest(RECORD)?;
            // SAFETY: the room is `size` bytes long there, and nobody else knows it.
            match unsafe { self.read(py, place, size) } {
                Read::Bytes(count) => room.fill(count),
                end => break end,
            }
        };
        Ok((room.into_bytes()?, end))
    }

    /// Make records of bytes: how many of them, which is all unless the connection has to receive first.
    #[inline]
    pub fn write(&self, _py: Python<'_>, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let (rest, mut count) = (&bytes[done..], 0);
            // SAFETY: `_object` keeps the connection, which reads as many bytes as `rest` has. An error of somebody else's
            // must not be taken for one of this connection's.
            let answer = unsafe {
                (self.library.clear_errors)();
                (self.library.write)(self.ssl.as_ptr(), rest.as_ptr().cast(), rest.len(), &raw mut count)
            };
            if answer != 1 {
                break;
            }
            done += count;
        }
        done
    }

    /// Take what waits in `_outgoing`: exact `bytes`, or None for nothing.
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub fn take_outgoing<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let size = self.outgoing(py).min(c_int::MAX as usize);
        if size == 0 {
            return Ok(None);
        }
        let mut room = NewBytes::new(py, size)?;
        let (place, _) = room.rest(RECORD)?;
        // SAFETY: `_object` keeps the BIO, which fills the room as far as it has bytes; nobody else knows the room.
        let count = unsafe { (self.library.bio_read)(self.outgoing.as_ptr(), place.cast(), size as c_int) };
        if usize::try_from(count) != Ok(size) {
            return Err(PyMemoryError::new_err(()));
        }
        room.fill(size);
        room.into_bytes()
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

/// Find out where the objects of `_ssl` have their parts: the `SSLObject` is a new client's, with these two `MemoryBIO`s.
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
    expect(session.feed(py, b"ping") && session.incoming(py) == 4, "a BIO does not keep what is written")?;
    expect(bytes(incoming.try_call_method("read", ()))? == b"ping", "a BIO does not give what was written")?;
    outgoing.try_call_method("write", (PyBytes::new(py, b"pong"),)).map_err(raised)?;
    let taken = session.take_outgoing(py).map_err(raised)?;
    let is_pong = taken.is_some_and(|taken| taken.as_bytes() == b"pong");
    expect(is_pong && session.outgoing(py) == 0, "a BIO does not give what was written")?;
    let (mut room, greeting) = ([0_u8; 16], [0x16, 0x03]);
    // SAFETY: the room is as long as that.
    let read = unsafe { session.read(py, room.as_mut_ptr(), room.len()) };
    let sent = bytes(outgoing.try_call_method("read", ()))?;
    expect(read == Read::NoMore && sent.starts_with(&greeting), "a client does not greet")
}
