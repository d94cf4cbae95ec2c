//! What is asked of the kernel to send: a piece, or what waits.

use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use pyo3::prelude::*;

use super::state::State;
use crate::io::syscall::{SEND_FLAGS, answer, traced};

/// How many chunks one system call sends.
const AT_ONCE: usize = 64;

/// Mostly it is a head and a body: for so many chunks no more places are made ready.
const FEW: usize = 4;

/// How many system calls send before others have their turn: a peer that reads as fast would keep the loop for ever.
const CALLS_AT_ONCE: usize = 16;

/// How much of it the kernel took: None when it takes nothing now.
///
/// # Errors
/// The connection is broken.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    // SAFETY: `bytes` is valid for its length.
    answer(|| unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), SEND_FLAGS) })
}

fn send_all(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    if let [only] = pieces {
        return send(fd, only);
    }
    // SAFETY: an all-zero msghdr is a valid one.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: an IoSlice is an iovec (as std promises), and each is valid for its length; sendmsg only reads.
    answer(|| unsafe { libc::sendmsg(fd, &raw const message, SEND_FLAGS) })
}

/// As `send_all`, for a pipe.
fn write_all(fd: RawFd, pieces: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    let count = libc::c_int::try_from(pieces.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: an IoSlice is an iovec (as std promises), and each of the `count` is valid for its length.
    answer(|| unsafe { libc::writev(fd, pieces.as_ptr().cast(), count) })
}

/// Send the next chunks that wait, with one system call: how many bytes were offered, and how many of them taken.
fn send_next<const PLACES: usize>(py: Python<'_>, state: &mut State) -> io::Result<(usize, usize)> {
    let mut places = [IoSlice::new(&[]); PLACES];
    let count = state.outgoing.fill(&mut places);
    let offered = places[..count].iter().map(|place| place.len()).sum();
    let all = if state.is_pipe() { write_all } else { send_all };
    let taken = traced(py, || all(state.fd, &places[..count]))?.unwrap_or(0);
    state.note_sent(py, taken);
    // Bytes of no subclass are let go of: no Python code runs.
    state.outgoing.advance(taken, drop);
    Ok((offered, taken))
}

/// Send what waits, as far as the kernel takes it. It notes in `writable` whether the kernel would take more, and
/// others are to have their turn.
///
/// # Errors
/// The connection is broken.
pub fn send_waiting(py: Python<'_>, state: &mut State) -> io::Result<()> {
    if state.cork.is_in() {
        state.cork.pull();
    }
    state.writable = false;
    for _ in 0..CALLS_AT_ONCE {
        let (offered, taken) = match state.outgoing.count() {
            0 => return Ok(()),
            1 => send_next::<1>(py, state)?,
            2..=FEW => send_next::<FEW>(py, state)?,
            _ => send_next::<AT_ONCE>(py, state)?,
        };
        if taken < offered {
            return Ok(());
        }
    }
    state.writable = !state.outgoing.is_empty();
    Ok(())
}
