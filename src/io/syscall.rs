//! System calls that never block.

use std::io;

use pyo3::prelude::*;

use crate::core::timeline::Kind;
use crate::sched::trace;

/// For `send` and its like: now or not at all, and an error in the place of SIGPIPE.
#[cfg(target_os = "linux")]
pub const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
#[cfg(not(target_os = "linux"))]
pub const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT;

/// What a call answers, which is made again when a signal has interrupted it: None when it would block.
///
/// # Errors
/// The kernel's.
pub fn answer(mut call: impl FnMut() -> isize) -> io::Result<Option<usize>> {
    loop {
        let count = call();
        if count >= 0 {
            return Ok(Some(count.cast_unsigned()));
        }
        let failed = io::Error::last_os_error();
        match failed.kind() {
            io::ErrorKind::WouldBlock => return Ok(None),
            io::ErrorKind::Interrupted => {}
            _ => return Err(failed),
        }
    }
}

/// What `send` answers, recorded if there is a trace.
#[inline]
pub fn traced(py: Python<'_>, send: impl FnOnce() -> io::Result<Option<usize>>) -> io::Result<Option<usize>> {
    let since = trace::begins();
    let taken = send();
    if let Some(since) = since {
        trace::moved(py, Kind::Send, since, taken.as_ref().map_or(0, |taken| taken.unwrap_or(0)));
    }
    taken
}
