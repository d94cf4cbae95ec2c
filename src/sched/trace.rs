//! A trace: what the loops of the process do, as a timeline (`core::timeline`). One at a time for the process.
//!
//! Off, each place that could record asks one flag: once a batch, a poll of a Rust future, a receive, a send, a sleep. On,
//! who records has the GIL; what is recorded of a sleep is recorded after it. No Python code runs while the timeline is in
//! hand: names are asked for before. What a name was made of is kept until the trace ends, so that nothing else gets its
//! address.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::clock::clock;
use super::here::running_here;
use crate::core::timeline::{Kind, NAMELESS, Name, Record, Timeline};
use crate::core::times::Slept;
use crate::py::call::Object;
use crate::py::cell::{GilCell, GilValue};
use crate::py::code_of::Code;

static ON: AtomicBool = AtomicBool::new(false);
static TRACE: GilCell<Option<Box<Trace>>> = GilCell::new(None);

/// When the last entry of the batch has ended; 0: it is not known. Where the clock was read, it is the begin of the next one.
static LAST_END: GilValue<u64> = GilValue::new(0);

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
    ON.load(Ordering::Relaxed)
}

/// When something begins that is to be recorded; None: nothing is.
#[inline(always)]
pub fn begins() -> Option<u64> {
    if is_on() { Some(clock()) } else { None }
}

fn push(py: Python<'_>, record: Record) {
    TRACE.with(py, |trace| {
        if let Some(trace) = trace {
            trace.timeline.push(record);
        }
    });
}

/// The loop that this thread runs.
fn event_loop_here() -> u32 {
    running_here() as u32
}

/// The place of a name, which is made if it is new. `key`: what tells it from others; `of`: what the key is the address of.
fn named(py: Python<'_>, key: usize, of: Option<&Bound<'_, PyAny>>, name: impl FnOnce() -> Name) -> u32 {
    let found = TRACE.with(py, |trace| trace.as_mut().map(|trace| trace.name(key)));
    match found {
        Some(Some(known)) => return known,
        Some(None) => {}
        None => return NAMELESS,
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

/// The place of a code's name.
pub(super) fn name_of(py: Python<'_>, code: &Code<'_>) -> u32 {
    named(py, code.key, code.of.as_ref(), || Name { text: code.name(), source: code.source() })
}

/// What runs next does not begin where the last entry has ended.
#[cold]
pub(super) fn forget_end(py: Python<'_>) {
    LAST_END.set(py, 0);
}

/// When the entry before has ended, of the same batch.
pub(super) fn last_end(py: Python<'_>) -> Option<u64> {
    Some(LAST_END.get(py)).filter(|&end| end != 0)
}

/// An entry of a queue has run.
pub(super) fn ran(py: Python<'_>, is_step: bool, name: u32, start: u64, end: u64) {
    LAST_END.set(py, end);
    let kind = if is_step { Kind::Step } else { Kind::Callback };
    push(py, Record { start, end, amount: 0, name, event_loop: event_loop_here(), kind });
}

/// A Rust future has been polled, from `began` on. `key`: the address of its name.
#[cold]
pub fn polled(py: Python<'_>, began: Instant, key: usize, name: impl FnOnce() -> String) {
    let (took, end) = (began.elapsed(), clock());
    let start = end - took.as_nanos() as u64;
    let name = named(py, key, None, || Name { text: name(), source: None });
    push(py, Record { start, end, amount: 0, name, event_loop: event_loop_here(), kind: Kind::Poll });
}

/// The loop has slept.
#[cold]
pub(super) fn slept(py: Python<'_>, slept: Slept) {
    let event_loop = event_loop_here();
    let record = |start, end, kind| Record { start, end, amount: 0, name: NAMELESS, event_loop, kind };
    push(py, record(slept.since, slept.woken, Kind::Park));
    if slept.attached.saturating_sub(slept.woken) >= WORTH_IT {
        push(py, record(slept.woken, slept.attached, Kind::Gil));
    }
}

/// Bytes have been received or sent, since `start`.
#[cold]
pub fn moved(py: Python<'_>, kind: Kind, start: u64, count: usize) {
    let amount = u32::try_from(count).unwrap_or(u32::MAX);
    push(py, Record { start, end: clock(), amount, name: NAMELESS, event_loop: event_loop_here(), kind });
}

/// Begin a trace of the process's loops, of so many records at most.
///
/// RuntimeError when there is one, MemoryError for a limit that there is no memory for.
#[pyfunction]
pub(crate) fn _trace_begin(py: Python<'_>, limit: usize) -> PyResult<()> {
    if TRACE.with(py, |trace| trace.is_some()) {
        return Err(PyRuntimeError::new_err("a trace is being taken already, and there is one at a time"));
    }
    let no_memory = |_| PyMemoryError::new_err(format!("there is no memory for {limit} records"));
    let timeline = Timeline::new(limit, clock()).map_err(no_memory)?;
    let trace = Trace { timeline, names: HashMap::new(), cached: [(0, NAMELESS); CACHED], kept: Vec::new() };
    drop(TRACE.replace(py, Some(Box::new(trace))));
    ON.store(true, Ordering::Relaxed);
    Ok(())
}

/// End the trace, and give `write` what it has become, in pieces (None: nobody wants it). How many records it has, and
/// how many older ones had to go.
#[pyfunction]
pub(crate) fn _trace_end(py: Python<'_>, write: Option<&Bound<'_, PyAny>>) -> PyResult<(usize, u64)> {
    ON.store(false, Ordering::Relaxed);
    let Some(trace) = TRACE.take(py) else { return Err(PyRuntimeError::new_err("no trace is being taken")) };
    if let Some(write) = write {
        let version = env!("CARGO_PKG_VERSION");
        let give = |piece: &str| write.try_call((PyBytes::new(py, piece.as_bytes()),)).map(drop);
        trace.timeline.write(std::process::id(), version, give)?;
    }
    Ok(trace.timeline.counts())
}
