//! What the `sock_*` calls ask the kernel without the socket's own methods: for sockets of Python's own class whose
//! methods nobody has replaced, and buffers of bytes. Loop thread, GIL held.

use std::io;
use std::os::fd::RawFd;
use std::slice;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};

use super::watch::Watch;
use crate::accel::direct_calls::{self, DIRECT_CALLS, Finding};
use crate::py::builtin::NoArgs;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::{error, whole};

/// The most that goes through the loop's own buffer. Who asks for more gets it from the socket, which takes the memory
/// and may find none.
const BUFFER: usize = 256 * 1024;

/// How many times a call sends before others may run: a peer that reads as fast would keep it for ever.
const SENDS_AT_ONCE: usize = 16;

/// What a try came to.
pub enum Tried {
    Done(Py<PyAny>),
    /// Wait for the descriptor.
    Blocked,
    /// Try again when others have run.
    Busy,
}

/// A socket's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Recv,
    RecvInto,
    RecvFrom,
    RecvFromInto,
    Send,
    SendTo,
    Accept,
    Connect,
}

/// In the order of `Method`. `accept` is Python's own around this one.
const NAMES: [&str; 8] = ["recv", "recv_into", "recvfrom", "recvfrom_into", "send", "sendto", "_accept", "connect"];

/// The methods of Python's own socket class.
#[derive(Debug)]
pub struct Methods {
    /// `socket.socket`, if its instances have no dictionary: no method of theirs can be replaced then.
    class: Option<PlainClass>,
    names: [Py<PyString>; 8],
}

/// A class of Python's that has the methods of the one native class that it is derived from, as long as no other
/// function is put into it.
#[derive(Debug)]
struct PlainClass {
    class: Py<PyType>,
    namespace: Py<PyDict>,
    /// `(_socket.socket,)`, whose methods cannot be replaced.
    bases: Py<PyAny>,
    /// `_socket.socket.fileno`.
    fileno: NoArgs,
    /// A bit for each `Method` that is not the native class's.
    replaced: Finding<u8>,
}

/// The methods, looked up at the first call.
///
/// # Errors
/// What importing `socket` raises.
#[inline]
pub fn methods(py: Python<'_>) -> PyResult<&'static Methods> {
    static METHODS: PyOnceLock<Methods> = PyOnceLock::new();
    METHODS.get_or_try_init(py, || {
        let names = NAMES.map(|name| PyString::intern(py, name).unbind());
        Ok(Methods { class: PlainClass::find(py)?, names })
    })
}

impl Methods {
    pub fn name<'py>(&self, py: Python<'py>, method: Method) -> &Bound<'py, PyString> {
        self.names[method as usize].bind(py)
    }

    /// Whether it is CPython's own method that this socket would be asked by, and its own `fileno`.
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub fn is_plain(&self, sock: &Bound<'_, PyAny>, method: Method) -> PyResult<bool> {
        let py = sock.py();
        match &self.class {
            Some(known) if sock.is_exact_instance(known.class.bind(py)) => {
                let replaced = match known.replaced.get(py) {
                    Some(replaced) => replaced,
                    None => self.look(known, py)?,
                };
                Ok(replaced & (1 << method as u8) == 0)
            }
            _ => Ok(false),
        }
    }

    /// Which methods of the class are not the native class's.
    fn look(&self, known: &PlainClass, py: Python<'_>) -> PyResult<u8> {
        let (class, namespace) = (known.class.bind(py), known.namespace.bind(py));
        let now = direct_calls::changes();
        let is_watched = DIRECT_CALLS.is_on() && direct_calls::watch(class);
        let mut replaced = 0;
        if !whole::bases_of(class).is(&known.bases) || namespace.contains(pyo3::intern!(py, "fileno"))? {
            replaced = u8::MAX;
        }
        for (method, name) in self.names.iter().enumerate() {
            if namespace.contains(name)? {
                replaced |= 1 << method;
            }
        }
        if is_watched {
            known.replaced.keep(py, now, replaced);
        }
        Ok(replaced)
    }

    /// The number of a socket that is plain; -1 when it is closed, which the kernel has its words for.
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub fn fileno(&self, sock: &Bound<'_, PyAny>) -> PyResult<RawFd> {
        match self.class.as_ref().and_then(|known| known.fileno.call(sock)) {
            Some(answer) => answer?.extract(),
            None => fileno(sock),
        }
    }
}

impl PlainClass {
    fn find(py: Python<'_>) -> PyResult<Option<Self>> {
        let native = py.import("_socket")?.try_getattr("socket")?.cast_into::<PyType>()?;
        let class = py.import("socket")?.try_getattr("socket")?.cast_into::<PyType>()?;
        let has_dictionary = class.try_getattr("__dictoffset__")?.try_is_truthy()?;
        let bases = whole::bases_of(&class).to_owned();
        if has_dictionary || !bases.try_eq(PyTuple::new(py, [&native])?.as_any())? {
            return Ok(None);
        }
        let Some(fileno) = NoArgs::find(&class, &native, "fileno")? else { return Ok(None) };
        Ok(Some(Self {
            namespace: whole::namespace_of(&class)?.unbind(),
            class: class.unbind(),
            bases: bases.unbind(),
            fileno,
            replaced: Finding::default(),
        }))
    }
}

/// The number of a socket of Python's own class; -1 when it is closed, which the kernel has its words for.
pub fn fileno(sock: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    sock.try_call_method(pyo3::intern!(sock.py(), "fileno"), ())?.extract()
}

/// The answer of a system call: None when it would block or was interrupted.
fn answered(count: isize) -> PyResult<Option<usize>> {
    if count >= 0 {
        return Ok(Some(count.cast_unsigned()));
    }
    let failed = io::Error::last_os_error();
    match failed.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
        _ => Err(error::os_error(&failed)),
    }
}

/// Bytes that stay where they are while this is held.
pub enum Bytes {
    Own(Py<PyBytes>),
    Buffer(PyBuffer<u8>),
}

impl Bytes {
    /// None for what is no plain buffer of bytes.
    pub fn readable(data: &Bound<'_, PyAny>) -> Option<Self> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            return Some(Self::Own(bytes.clone().unbind()));
        }
        PyBuffer::get(data).ok().filter(|buffer| buffer.is_c_contiguous()).map(Self::Buffer)
    }

    /// None for what is no plain buffer of bytes, or one that cannot be written, or has no room.
    pub fn writable(buffer: &Bound<'_, PyAny>) -> Option<PyBuffer<u8>> {
        let room: PyBuffer<u8> = PyBuffer::get(buffer).ok()?;
        (room.is_c_contiguous() && !room.readonly() && room.len_bytes() > 0).then_some(room)
    }

    /// The bytes, as long as Python code does not run.
    fn with<R>(&self, py: Python<'_>, f: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Own(bytes) => f(bytes.as_bytes(py)),
            // The buffer of nothing may have no address.
            Self::Buffer(buffer) if buffer.len_bytes() == 0 => f(&[]),
            // SAFETY: the PyBuffer keeps the memory where it is, `len_bytes` long; what could write to it is Python
            // code.
            Self::Buffer(buffer) => f(unsafe { slice::from_raw_parts(buffer.buf_ptr().cast(), buffer.len_bytes()) }),
        }
    }
}

/// A buffer that receives share: what arrived is copied out, exactly as long as it is.
#[derive(Debug, Default)]
pub struct ReceiveBuffer(GilCell<Vec<u8>>);

impl ReceiveBuffer {
    /// Whether a receive of this size goes through it. One of nothing asks no kernel.
    pub fn takes(size: usize) -> bool {
        (1..=BUFFER).contains(&size)
    }

    /// Have `f` fill the buffer, and take from it what is to be kept. `f` runs no Python code.
    pub fn fill<R>(&self, py: Python<'_>, size: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
        self.0.with(py, |buffer| {
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            f(&mut buffer[..size])
        })
    }

    /// Take the buffer, for what may run Python code: whoever receives meanwhile makes another.
    pub fn take(&self, py: Python<'_>, size: usize) -> Vec<u8> {
        let mut buffer = self.0.take(py);
        if buffer.len() < size {
            buffer.resize(size, 0);
        }
        buffer
    }

    /// Give it back.
    pub fn give_back(&self, py: Python<'_>, buffer: Vec<u8>) {
        drop(self.0.replace(py, buffer));
    }

    pub fn recv(&self, watch: &Watch, sock: &Bound<'_, PyAny>, fd: RawFd, size: usize) -> PyResult<Tried> {
        let py = sock.py();
        if watch.is_drained(sock, fd) {
            return Ok(Tried::Blocked);
        }
        let received: PyResult<_> = self.0.with(py, |buffer| {
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            // SAFETY: the buffer is at least `size` long.
            let count = answered(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), size, libc::MSG_DONTWAIT) })?;
            // Bytes are no business of the cycle collector: nothing runs while they are made.
            Ok(count.map(|count| (count, PyBytes::new(py, &buffer[..count]))))
        });
        Ok(received?.map_or(Tried::Blocked, |(count, data)| done(watch, sock, fd, (count, size), data.into_any())))
    }
}

pub fn recv_into(watch: &Watch, sock: &Bound<'_, PyAny>, fd: RawFd, room: &PyBuffer<u8>) -> PyResult<Tried> {
    let (py, size) = (sock.py(), room.len_bytes());
    if watch.is_drained(sock, fd) {
        return Ok(Tried::Blocked);
    }
    // SAFETY: the PyBuffer keeps the memory where it is, `size` long; the GIL is held, so Python code does not touch
    // it.
    let count = answered(unsafe { libc::recv(fd, room.buf_ptr(), size, libc::MSG_DONTWAIT) })?;
    let Some(count) = count else { return Ok(Tried::Blocked) };
    Ok(done(watch, sock, fd, (count, size), count.into_pyobject(py)?.into_any()))
}

/// `count` of `size` bytes were received.
fn done(
    watch: &Watch,
    sock: &Bound<'_, PyAny>,
    fd: RawFd,
    (count, size): (usize, usize),
    value: Bound<'_, PyAny>,
) -> Tried {
    if 0 < count && count < size {
        watch.drained(sock, fd);
    }
    Tried::Done(value.unbind())
}

/// Send what is left of `bytes`, of which `sent` is where it begins.
pub fn send(py: Python<'_>, fd: RawFd, bytes: &Bytes, sent: &mut usize) -> PyResult<Tried> {
    for _ in 0..SENDS_AT_ONCE {
        let (count, is_all) = bytes.with(py, |bytes| {
            let left = &bytes[*sent..];
            // Nothing is sent, too, once: the socket may have something to say about it.
            // SAFETY: `left` is valid for its length.
            let count = unsafe { libc::send(fd, left.as_ptr().cast(), left.len(), libc::MSG_DONTWAIT) };
            (answered(count), count == left.len().cast_signed())
        });
        match count? {
            Some(_) if is_all => return Ok(Tried::Done(py.None())),
            Some(count) => *sent += count,
            None => return Ok(Tried::Blocked),
        }
    }
    Ok(Tried::Busy)
}

/// Whether a connection that was begun has come about or failed: the kernel says so by calling it writable.
pub fn is_decided(fd: RawFd) -> PyResult<bool> {
    if fd < 0 {
        // It was closed, which the socket has its words for.
        return Ok(true);
    }
    let mut asked = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one entry, valid for the call.
    let count = unsafe { libc::poll(&raw mut asked, 1, 0) };
    Ok(answered(isize::try_from(count).unwrap_or(-1))?.is_some_and(|count| count > 0))
}
