//! Addresses of sockets: as the kernel has them, and as Python's `socket` module gives and takes them. Loop thread, GIL
//! held.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

use crate::py::call::Object;

// The C library's, which the crate libc does not name.
unsafe extern "C" {
    fn inet_ntop(family: c_int, source: *const c_void, text: *mut c_char, size: libc::socklen_t) -> *const c_char;
    fn inet_pton(family: c_int, text: *const c_char, place: *mut c_void) -> c_int;
}

/// Room for the text of an address, and the NUL after it.
const TEXT: usize = 46;

/// Where the path begins in an address of a Unix socket, and how long it may be.
const PATH: usize = offset_of!(libc::sockaddr_un, sun_path);
const LONGEST_PATH: usize = size_of::<libc::sockaddr_un>() - PATH;

/// The largest flow label that Python takes.
const LARGEST_FLOW: u32 = 0xf_ffff;

/// An address that is kept: as many bytes as it has.
pub struct Kept(Box<[u8]>);

impl Kept {
    pub fn get(&self) -> Address {
        let mut address = Address::none();
        // SAFETY: these are the bytes of an address (`Address::keep`), for which a storage has room.
        unsafe { self.0.as_ptr().copy_to_nonoverlapping((&raw mut address.storage).cast(), self.0.len()) };
        address.size = self.0.len() as libc::socklen_t;
        address
    }
}

/// An address as the kernel has it.
#[derive(Clone, Copy)]
pub struct Address {
    storage: libc::sockaddr_storage,
    size: libc::socklen_t,
}

impl Address {
    /// None, which a datagram of an unnamed Unix socket comes from.
    pub fn none() -> Self {
        // SAFETY: an all-zero sockaddr_storage is a valid one.
        Self { storage: unsafe { std::mem::zeroed() }, size: 0 }
    }

    /// What the kernel has written, as long as it says.
    pub fn new(storage: &libc::sockaddr_storage, size: libc::socklen_t) -> Self {
        Self { storage: *storage, size: size.min(size_of::<libc::sockaddr_storage>() as libc::socklen_t) }
    }

    /// Have `call` (of `accept4`, `getsockname`) write an address, and take its answer.
    ///
    /// # Errors
    /// Those of `call`.
    pub fn asked<R>(
        call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> io::Result<R>,
    ) -> io::Result<(R, Self)> {
        let mut address = Self::none();
        let mut size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let answer = call((&raw mut address.storage).cast(), &raw mut size)?;
        address.size = size.min(size_of::<libc::sockaddr_storage>() as libc::socklen_t);
        Ok((answer, address))
    }

    /// Where the socket is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of(fd: RawFd) -> io::Result<Self> {
        let ask = |place, size| {
            // SAFETY: `asked` gives places that may be written to for the call.
            let answer = unsafe { libc::getsockname(fd, place, size) };
            if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        Self::asked(ask).map(|((), address)| address)
    }

    pub fn keep(&self) -> Kept {
        Kept(self.bytes().into())
    }

    fn family(&self) -> c_int {
        c_int::from(self.storage.ss_family)
    }

    /// Its bytes, as far as the kernel has written them.
    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: a storage is plain bytes, all of them written (`none`, `new`), and at least `size` long.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), self.size as usize) }
    }

    /// Whether the kernel has written this very address.
    #[inline]
    pub fn is(&self, storage: &libc::sockaddr_storage, size: libc::socklen_t) -> bool {
        // SAFETY: a storage is plain bytes, all of them written (the callers' begin as zeros), and no address of ours,
        // whose size this one has, is longer than one.
        let other = || unsafe { std::slice::from_raw_parts((&raw const *storage).cast::<u8>(), size as usize) };
        self.size == size && self.bytes() == other()
    }

    /// The address for a system call, which reads it.
    #[inline]
    pub fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.size)
    }

    fn inet(&self) -> Option<&libc::sockaddr_in> {
        let known = self.family() == libc::AF_INET && self.size as usize >= size_of::<libc::sockaddr_in>();
        // SAFETY: the family says that it is one, and a storage has room for, and the alignment of, each kind.
        known.then(|| unsafe { &*(&raw const self.storage).cast() })
    }

    fn inet6(&self) -> Option<&libc::sockaddr_in6> {
        let known = self.family() == libc::AF_INET6 && self.size as usize >= size_of::<libc::sockaddr_in6>();
        // SAFETY: the family says that it is one, and a storage has room for, and the alignment of, each kind.
        known.then(|| unsafe { &*(&raw const self.storage).cast() })
    }

    /// As `socket.recvfrom`, `getsockname` and `getpeername` give it; None for one of another family.
    ///
    /// # Errors
    /// MemoryError.
    pub fn in_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(known) = self.inet() {
            let host = text_of(py, libc::AF_INET, (&raw const known.sin_addr).cast());
            return (host, u16::from_be(known.sin_port)).into_bound_py_any(py);
        }
        if let Some(known) = self.inet6() {
            let host = text_of(py, libc::AF_INET6, (&raw const known.sin6_addr).cast());
            let (port, flow) = (u16::from_be(known.sin6_port), u32::from_be(known.sin6_flowinfo));
            return (host, port, flow, known.sin6_scope_id).into_bound_py_any(py);
        }
        if self.family() != libc::AF_UNIX || self.size == 0 {
            return Ok(py.None().into_bound(py));
        }
        let path = self.bytes().get(PATH..).unwrap_or_default();
        // Linux's abstract names.
        if cfg!(target_os = "linux") && path.first() == Some(&0) {
            return Ok(PyBytes::new(py, path).into_any());
        }
        let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
        py.import("os")?.try_getattr("fsdecode")?.try_call((PyBytes::new(py, &path[..end]),))
    }

    /// What Python's `socket` takes for an address of this family, if it is written plainly: with numbers, as exact
    /// tuples, strings and integers, and a path of ASCII. None: the socket's own methods know what to do, or to say.
    pub fn parse(family: c_int, address: &Bound<'_, PyAny>) -> Option<Self> {
        match family {
            libc::AF_INET => Self::parse_inet(address.cast_exact::<PyTuple>().ok()?),
            libc::AF_INET6 => Self::parse_inet6(address.cast_exact::<PyTuple>().ok()?),
            libc::AF_UNIX => Self::parse_unix(address),
            _ => None,
        }
    }

    fn parse_inet(address: &Bound<'_, PyTuple>) -> Option<Self> {
        if address.len() != 2 {
            return None;
        }
        let ip: [u8; 4] = numeric(libc::AF_INET, address)?;
        let mut parsed = Self::none();
        // SAFETY: a storage has room for, and the alignment of, each kind; an all-zero one is a valid sockaddr_in.
        let known = unsafe { &mut *(&raw mut parsed.storage).cast::<libc::sockaddr_in>() };
        known.sin_family = libc::AF_INET as libc::sa_family_t;
        known.sin_port = number::<u16>(address, 1)?.to_be();
        known.sin_addr.s_addr = u32::from(Ipv4Addr::from(ip)).to_be();
        #[cfg(any(target_os = "macos", target_os = "freebsd", target_os = "netbsd", target_os = "openbsd"))]
        {
            known.sin_len = size_of::<libc::sockaddr_in>() as u8;
        }
        parsed.size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        Some(parsed)
    }

    fn parse_inet6(address: &Bound<'_, PyTuple>) -> Option<Self> {
        let count = address.len();
        if !(2..=4).contains(&count) {
            return None;
        }
        let ip: [u8; 16] = numeric(libc::AF_INET6, address)?;
        let flow = if count > 2 { number::<u32>(address, 2)? } else { 0 };
        if flow > LARGEST_FLOW {
            return None;
        }
        let mut parsed = Self::none();
        // SAFETY: a storage has room for, and the alignment of, each kind; an all-zero one is a valid sockaddr_in6.
        let known = unsafe { &mut *(&raw mut parsed.storage).cast::<libc::sockaddr_in6>() };
        known.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        known.sin6_port = number::<u16>(address, 1)?.to_be();
        known.sin6_flowinfo = flow.to_be();
        known.sin6_scope_id = if count > 3 { number::<u32>(address, 3)? } else { 0 };
        known.sin6_addr.s6_addr = Ipv6Addr::from(ip).octets();
        #[cfg(any(target_os = "macos", target_os = "freebsd", target_os = "netbsd", target_os = "openbsd"))]
        {
            known.sin6_len = size_of::<libc::sockaddr_in6>() as u8;
        }
        parsed.size = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        Some(parsed)
    }

    fn parse_unix(address: &Bound<'_, PyAny>) -> Option<Self> {
        let path = match address.cast_exact::<PyBytes>() {
            Ok(path) => path.as_bytes(),
            // In every encoding of file names these are the same bytes.
            Err(_) => address.cast_exact::<PyString>().ok()?.to_str().ok().filter(|path| path.is_ascii())?.as_bytes(),
        };
        // Python gives the kernel the NUL after the path, but not after an abstract name.
        let is_abstract = *path.first()? == 0;
        let length = path.len() + usize::from(!is_abstract);
        if length > LONGEST_PATH || (is_abstract && !cfg!(target_os = "linux")) {
            return None;
        }
        let mut parsed = Self::none();
        // SAFETY: a storage has room for, and the alignment of, each kind; an all-zero one is a valid sockaddr_un.
        let known = unsafe { &mut *(&raw mut parsed.storage).cast::<libc::sockaddr_un>() };
        known.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (place, &byte) in known.sun_path.iter_mut().zip(path) {
            *place = byte as c_char;
        }
        parsed.size = (PATH + length) as libc::socklen_t;
        Some(parsed)
    }
}

/// An IP address in the C library's words, which are Python's. `source`: the bytes of one of this family.
fn text_of(py: Python<'_>, family: c_int, source: *const c_void) -> Bound<'_, PyString> {
    let mut room = [MaybeUninit::<c_char>::uninit(); TEXT];
    // SAFETY: `source` is an address of this family (the callers'), and there is room for the longest text of one. The
    // text ends with NUL, and is ASCII.
    unsafe {
        let text = inet_ntop(family, source, room.as_mut_ptr().cast(), TEXT as libc::socklen_t);
        if text.is_null() {
            return PyString::new(py, "");
        }
        PyString::new(py, CStr::from_ptr(text).to_str().unwrap_or_default())
    }
}

/// As `inet_ntop(AF_INET6, ...)`.
pub fn text_of_v6(py: Python<'_>, ip: Ipv6Addr) -> Bound<'_, PyString> {
    let octets = ip.octets();
    text_of(py, libc::AF_INET6, octets.as_ptr().cast())
}

/// The numeric IP address that `address[0]` is, if it is one.
fn numeric<const SIZE: usize>(family: c_int, address: &Bound<'_, PyTuple>) -> Option<[u8; SIZE]> {
    let host = address.get_borrowed_item(0).ok()?;
    let host = host.cast_exact::<PyString>().ok()?;
    let host = host.to_str().ok()?;
    if host.len() >= TEXT || host.as_bytes().contains(&0) {
        return None;
    }
    let (mut text, mut ip) = ([0_u8; TEXT], [0_u8; SIZE]);
    text[..host.len()].copy_from_slice(host.as_bytes());
    // SAFETY: the text ends with NUL, and `ip` has room for an address of this family (the callers').
    (unsafe { inet_pton(family, text.as_ptr().cast(), ip.as_mut_ptr().cast()) } == 1).then_some(ip)
}

/// The plain integer that `address[index]` is, if it is one of that size.
fn number<'py, T: for<'a> FromPyObject<'a, 'py>>(address: &Bound<'py, PyTuple>, index: usize) -> Option<T> {
    let number = address.get_borrowed_item(index).ok()?;
    number.cast_exact::<PyInt>().ok()?.extract().ok()
}
