//! One acceleration: whether it is on, and why not. What tries them is in the folder's `mod.rs`.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::py::error;

/// Why an acceleration is off.
pub type Why = Cow<'static, str>;

/// What a probe found. An exception of the probe is a reason like any other.
pub type Probed = Result<(), Why>;

/// `Err(why)` unless `holds`.
pub fn expect(holds: bool, why: &'static str) -> Probed {
    if holds { Ok(()) } else { Err(why.into()) }
}

/// An error of Python's as a reason.
pub fn raised(error: PyErr) -> Why {
    error.to_string().into()
}

/// One acceleration. Off until `settle` has tried it.
pub struct Acceleration {
    pub(super) name: &'static str,
    on: AtomicBool,
    why: PyOnceLock<Why>,
}

impl Acceleration {
    pub const fn new(name: &'static str) -> Self {
        Self { name, on: AtomicBool::new(false), why: PyOnceLock::new() }
    }

    #[inline(always)]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// It was tried, or not wanted, and is not on.
    #[cfg(feature = "loop")]
    pub(super) fn is_off(&self, py: Python<'_>) -> bool {
        !self.is_on() && self.why.get(py).is_some()
    }

    /// Switch it off for good: what was done so far stays valid.
    #[cold]
    pub fn turn_off(&self, py: Python<'_>, why: Why) {
        self.on.store(false, Ordering::Relaxed);
        self.why.get_or_init(py, || why);
    }

    /// Try it, unless it is refused.
    pub(super) fn settle(&self, py: Python<'_>, refused: bool, probe: impl FnOnce() -> Probed) {
        let probed = if refused {
            Err("switched off by PYLOOP_ACCEL".into())
        } else {
            error::catch_panic(probe).unwrap_or_else(|panicked| Err(raised(panicked)))
        };
        match probed {
            Ok(()) => self.on.store(true, Ordering::Relaxed),
            Err(why) => self.turn_off(py, why),
        }
    }

    /// `on`, or `off: ` and the reason.
    pub(super) fn looks(&self, py: Python<'_>) -> String {
        match (self.is_on(), self.why.get(py)) {
            (true, _) => "on".to_owned(),
            (false, Some(why)) => format!("off: {why}"),
            (false, None) => "off: not tried".to_owned(),
        }
    }
}
