//! A trace: what the loops of the process do, as a timeline (`core::timeline`). One at a time for the process.
//!
//! Off, each place that could record asks one flag: once a batch, a poll of a Rust future, a receive, a send, a sleep.
//! On, who records has the GIL; what is recorded of a sleep is recorded after it. No Python code runs while the
//! timeline is in hand: names are asked for before. What a name was made of is kept until the trace ends, so that
//! nothing else gets its address; so to find a name again takes an address and no reference.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::here::running_here;
use super::ticks::{moment, ticks};
use crate::core::timeline::{By, Kind, NAMELESS, Name, Record, Timeline};
use crate::core::times::Slept;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::exit::outlast;

/// When it began, in ticks; 0: there is none.
static SINCE: AtomicU64 = AtomicU64::new(0);
static TRACE: GilCell<Option<Box<Trace>>> = GilCell::new(None);

/// How many names are found without a hash.
const CACHED: usize = 256;

/// A wait for the GIL that is shorter is not worth a record: nobody had it.
const WORTH_IT: u64 = 1_000;

struct Trace {
    timeline: Timeline,
    names: HashMap<usize, u32>,
    /// Of some names, by a few bits of their keys.
    cached: [(usize, u32); CACHED],
    kept: Vec<Py<PyAny>>,
}

impl Trace {
    #[inline]
    fn name(&mut self, key: usize) -> Option<u32> {
        let place = &mut self.cached[(key >> 4) % CACHED];
        if place.0 == key {
            return Some(place.1);
        }
        let found = *self.names.get(&key)?;
        *place = (key, found);
        Some(found)
    }
}

/// Whether there is one.
#[inline(always)]
pub fn is_on() -> bool {
    since() != 0
}

/// When it began; 0: there is none.
#[inline(always)]
pub(super) fn since() -> u64 {
    SINCE.load(Ordering::Relaxed)
}

/// When something begins that is to be recorded; None: nothing is.
#[inline(always)]
pub fn begins() -> Option<u64> {
    if is_on() { Some(ticks()) } else { None }
}

#[inline(always)]
pub(super) fn push(py: Python<'_>, record: Record) {
    TRACE.with(py, |trace| {
        if let Some(trace) = trace {
            trace.timeline.push(record);
        }
    });
}

/// The place of a name that is known.
#[inline(always)]
pub(super) fn known(py: Python<'_>, key: usize) -> Option<u32> {
    TRACE.with(py, |trace| trace.as_mut()?.name(key))
}

/// The place of a name, which is made if it is new. `key`: what tells it from others; `of`: what the key is the address
/// of.
pub(super) fn named(py: Python<'_>, key: usize, of: Option<&Bound<'_, PyAny>>, name: impl FnOnce() -> Name) -> u32 {
    if let Some(known) = known(py, key) {
        return known;
    }
    let name = name();
    let of = of.map(|of| of.clone().unbind());
    TRACE.with(py, |trace| {
        let Some(trace) = trace else { return NAMELESS };
        let place = trace.timeline.add_name(name);
        trace.names.insert(key, place);
        trace.kept.extend(of);
        place
    })
}

/// A Rust future has been polled, since `start`. `key`: the address of its name.
#[cold]
pub fn polled(py: Python<'_>, start: u64, key: usize, name: impl FnOnce() -> String) {
    let end = ticks();
    let what = named(py, key, None, || Name { text: name(), source: None });
    push(py, Record { start, end, what, by: By::new(running_here(), Kind::Poll) });
}

/// The loop has slept.
#[cold]
pub(super) fn slept(py: Python<'_>, slept: Slept) {
    let record = |start, end, kind| Record { start, end, what: NAMELESS, by: By::new(running_here(), kind) };
    push(py, record(slept.since, slept.woken, Kind::Park));
    if slept.attached.saturating_sub(slept.woken) >= WORTH_IT {
        push(py, record(slept.woken, slept.attached, Kind::Gil));
    }
}

/// Bytes have been received or sent, since `start`.
#[cold]
pub fn moved(py: Python<'_>, kind: Kind, start: u64, count: usize) {
    let what = u32::try_from(count).unwrap_or(u32::MAX);
    push(py, Record { start, end: ticks(), what, by: By::new(running_here(), kind) });
}

/// Begin a trace of the process's loops, of so many records at most.
///
/// RuntimeError when there is one, MemoryError for a limit that there is no memory for.
#[pyfunction]
pub(crate) fn _trace_begin(py: Python<'_>, limit: usize) -> PyResult<()> {
    if TRACE.with(py, |trace| trace.is_some()) {
        return Err(PyRuntimeError::new_err("a trace is being taken already, and there is one at a time"));
    }
    let began = moment();
    let no_memory = |_| PyMemoryError::new_err(format!("there is no memory for {limit} records"));
    let timeline = Timeline::new(limit, began).map_err(no_memory)?;
    let trace = Trace { timeline, names: HashMap::new(), cached: [(0, NAMELESS); CACHED], kept: Vec::new() };
    drop(TRACE.replace(py, Some(Box::new(trace))));
    SINCE.store(began.ticks, Ordering::Relaxed);
    Ok(())
}

/// End the trace, and give `write` what it has become, in pieces (None: nobody wants it). How many records it has, and
/// how many older ones had to go.
#[pyfunction]
pub(crate) fn _trace_end(py: Python<'_>, write: Option<&Bound<'_, PyAny>>) -> PyResult<(usize, u64)> {
    SINCE.store(0, Ordering::Relaxed);
    let Some(trace) = TRACE.take(py) else { return Err(PyRuntimeError::new_err("no trace is being taken")) };
    let now = moment();
    if let Some(write) = write {
        let write = write.clone().unbind();
        // A long one takes a while to write: others may have the GIL meanwhile, but for the calls.
        outlast();
        py.detach(|| {
            trace.timeline.write(now, std::process::id(), env!("CARGO_PKG_VERSION"), |piece: &str| {
                Python::attach(|py| write.bind(py).try_call((PyBytes::new(py, piece.as_bytes()),)).map(drop))
            })
        })?;
    }
    Ok(trace.timeline.counts())
}
