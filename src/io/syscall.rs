//! System calls that never block.

use std::io;

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
