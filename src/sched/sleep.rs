//! The loop's sleep, in tokio's driver or in its own poller: the GIL is given up and taken back, and the time noted.

use pyo3::prelude::*;

use super::clock::clock;
use super::trace;
use crate::core::times::Times;
use crate::py::attach::{park, unpark};

/// The loop's thread is about to sleep: it gives the GIL up.
#[inline]
pub fn fall_asleep(times: &Times) {
    park(|| times.park(clock()));
}

/// It has slept, and takes the GIL back. False: it had not been given up.
#[inline]
pub fn wake_up(times: &Times) -> bool {
    let slept = unpark(|| times.woken(clock()));
    if slept {
        let sleep = times.attached(clock());
        if trace::is_on() {
            Python::attach(|py| trace::slept(py, sleep));
        }
    }
    slept
}
