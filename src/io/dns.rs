//! `getaddrinfo` of numeric addresses: answered at once by the C library, which asks nobody for them. What is not
//! numeric goes to the executor, as in asyncio.

use std::net::{IpAddr, Ipv6Addr};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Whether `host` is an address in numbers (or absent) and `port` is a number (or absent), so that
/// `socket.getaddrinfo` does not leave the process.
pub fn is_numeric(host: &Bound<'_, PyAny>, port: &Bound<'_, PyAny>) -> bool {
    let numeric_host = match host.cast::<PyString>() {
        Ok(text) => text.to_str().is_ok_and(is_address),
        Err(_) => host.cast::<PyBytes>().is_ok_and(|text| std::str::from_utf8(text.as_bytes()).is_ok_and(is_address)),
    };
    numeric_host && (port.is_none() || port.is_exact_instance_of::<pyo3::types::PyInt>() || is_digits(port))
}

fn is_address(text: &str) -> bool {
    // A zone (`fe80::1%eth0`) is looked up by the C library among the interfaces: no name server is asked.
    let bare = text.split_once('%').map_or(text, |(address, _zone)| address);
    if bare.len() == text.len() {
        return text.parse::<IpAddr>().is_ok();
    }
    bare.parse::<Ipv6Addr>().is_ok()
}

fn is_digits(port: &Bound<'_, PyAny>) -> bool {
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    match port.cast::<PyString>() {
        Ok(text) => text.to_str().is_ok_and(|text| digits(text.as_bytes())),
        Err(_) => port.cast::<PyBytes>().is_ok_and(|text| digits(text.as_bytes())),
    }
}
