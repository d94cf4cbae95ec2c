//! The loop's clock: the real one, unless a test has another (`virtual_time`). Guarded by the GIL.

use pyo3::prelude::*;

use crate::core::timers::nanos;
use crate::py::cell::GilValue;

/// CLOCK_MONOTONIC in nanoseconds, the clock of `time.monotonic()`.
#[inline]
pub fn clock() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the answer; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Nanoseconds as seconds. In two parts: a count of nanoseconds is too long for a float's 53 bits after 104 days.
#[inline]
fn seconds_of(now: u64) -> f64 {
    (now / 1_000_000_000) as f64 + (now % 1_000_000_000) as f64 / 1e9
}

/// The virtual time of one loop (`virtual_time`).
#[derive(Clone, Copy, Debug, Default)]
pub struct VirtualTime {
    pub is_on: bool,
    /// How long the loop has nothing to do before a jump, in nanoseconds. None: not at all, or a millisecond.
    pub threshold: Option<u64>,
    pub jumps: u64,
}

/// Which clock it is.
#[derive(Clone, Copy, Debug, Default)]
enum Shows {
    #[default]
    Real,
    /// The real one, and so many nanoseconds more (modulo 2^64: it may be behind).
    Ahead(u64),
    /// It stands still. `seconds` is what Python sees: the deadline of the timer that it was last moved to, as a float.
    Still { now: u64, seconds: f64 },
}

/// The clock of one loop.
#[derive(Debug, Default)]
pub struct LoopClock(GilValue<Shows>);

impl LoopClock {
    /// Whether it is the real one.
    #[inline(always)]
    pub fn is_real(&self, py: Python<'_>) -> bool {
        matches!(self.0.get(py), Shows::Real)
    }

    /// In nanoseconds.
    #[inline]
    pub fn now(&self, py: Python<'_>) -> u64 {
        match self.0.get(py) {
            Shows::Real => clock(),
            Shows::Ahead(by) => clock().wrapping_add(by),
            Shows::Still { now, .. } => now,
        }
    }

    /// In seconds.
    #[inline]
    pub fn time(&self, py: Python<'_>) -> f64 {
        match self.0.get(py) {
            Shows::Still { seconds, .. } => seconds,
            _ => seconds_of(self.now(py)),
        }
    }

    /// Have it stand still where it is.
    pub fn stop(&self, py: Python<'_>) {
        if !matches!(self.0.get(py), Shows::Still { .. }) {
            let now = self.now(py);
            self.0.set(py, Shows::Still { now, seconds: seconds_of(now) });
        }
    }

    /// Have it go on from where it stands, as the real one goes.
    pub fn go(&self, py: Python<'_>) {
        if let Shows::Still { now, .. } = self.0.get(py) {
            self.0.set(py, Shows::Ahead(now.wrapping_sub(clock())));
        }
    }

    /// Have it stand still there.
    pub fn move_to(&self, py: Python<'_>, seconds: f64) {
        self.0.set(py, Shows::Still { now: nanos(seconds), seconds });
    }

    /// When the real clock shows what this one shows then, if it goes.
    pub fn to_real(&self, py: Python<'_>, when: u64) -> u64 {
        match self.0.get(py) {
            Shows::Ahead(by) => when.wrapping_sub(by),
            _ => when,
        }
    }
}
