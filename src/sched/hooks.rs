//! What higher layers have the loop do: step a task, and run errands at the begin and the end of a run. Each is set
//! once, when the module is made.

use std::sync::OnceLock;

use pyo3::prelude::*;

use super::handle::Parts;
use super::state::LoopState;
use crate::core::ready::Lane;
use crate::py::error::Slim;

/// One step of a task of that loop. In which lane its next step is to be queued; None: it waits, or has ended.
pub type Step = for<'py> fn(&Bound<'py, LoopState>, &Bound<'py, PyAny>) -> Slim<Option<Lane>>;
/// What a task waited for is there: queue its next step.
pub type WakeTask = for<'py> fn(Python<'py>, &Bound<'py, PyAny>) -> PyResult<()>;

/// The coroutine of a task; None: it has ended.
pub type CoroutineOf = for<'py> fn(&Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>>;

/// The key of its code, as `key_of_coroutine` finds it.
pub type CodeKeyOf = for<'py> fn(&Bound<'py, PyAny>) -> Option<usize>;

static STEP: OnceLock<(Step, CoroutineOf, CodeKeyOf)> = OnceLock::new();

/// Have the steps of tasks run by `step`, and what they are steps of told by the others (a higher layer's).
pub fn step_with(step: Step, coroutine_of: CoroutineOf, code_key_of: CodeKeyOf) {
    STEP.get_or_init(|| (step, coroutine_of, code_key_of));
}

/// The coroutine that a step is of.
pub(super) fn coroutine_of<'py>(task: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    STEP.get().and_then(|(_, coroutine_of, _)| coroutine_of(task))
}

/// The key of that coroutine's code.
#[inline]
pub(super) fn code_key_of(task: &Bound<'_, PyAny>) -> Option<usize> {
    STEP.get().and_then(|(_, _, code_key_of)| code_key_of(task))
}

/// Run a task's step.
#[inline]
pub(super) fn step<'py>(event_loop: &Bound<'py, LoopState>, task: &Bound<'py, PyAny>) -> Slim<Option<Lane>> {
    STEP.get().map_or(Ok(None), |(step, ..)| step(event_loop, task))
}

/// A task's next step as asyncio gives it to `call_soon`.
pub type NameStep = for<'py> fn(&Bound<'py, PyAny>) -> PyResult<Parts<'py>>;

static NAME_STEP: OnceLock<(NameStep, WakeTask)> = OnceLock::new();

/// Have a step made a callback by `name`, and the next step of one that gave way queued by `queue` (a higher layer's).
pub fn name_steps_with(name: NameStep, queue: WakeTask) {
    NAME_STEP.get_or_init(|| (name, queue));
}

/// Make a callback of a task's step. None: nobody can.
pub(super) fn name_step<'py>(task: &Bound<'py, PyAny>) -> PyResult<Option<Parts<'py>>> {
    NAME_STEP.get().map(|(name, _)| name(task)).transpose()
}

/// Queue the next step of a task that gave way, by name if need be.
pub(super) fn queue_again(task: &Bound<'_, PyAny>) -> PyResult<()> {
    NAME_STEP.get().map_or(Ok(()), |(_, queue)| queue(task.py(), task))
}

/// A number of a task's, which no other pending task of its loop has; of the task whose step `call_soon` was given,
/// too.
pub type PlaceOf = for<'py> fn(&Bound<'py, PyAny>) -> Option<u64>;

static PLACE_OF: OnceLock<PlaceOf> = OnceLock::new();

/// Have tasks numbered by `place` (a higher layer's).
pub fn number_tasks_with(place: PlaceOf) {
    PLACE_OF.get_or_init(|| place);
}

pub(super) fn place_of(object: &Bound<'_, PyAny>) -> Option<u64> {
    PLACE_OF.get().and_then(|place| place(object))
}

/// What a turn does for a transport.
pub type ForTransport = for<'py> fn(&Bound<'py, LoopState>, &Bound<'py, PyAny>) -> Slim<()>;

/// What a higher layer does for the transports.
pub struct ForTransports {
    /// For one that is ready.
    pub ready: ForTransport,
    /// For one whose connection begins or ends.
    pub transition: ForTransport,
    /// The protocol of one.
    pub protocol: for<'py> fn(&Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>>,
    /// For one whose writes have been gathered, with its native part.
    pub uncork: for<'py> fn(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> Slim<()>,
    /// For the native part of such a one in a forked child: what was gathered is the parent's to send. It runs no
    /// Python code.
    pub forget_corked: for<'py> fn(&Bound<'py, PyAny>),
}

static TRANSPORTS: OnceLock<ForTransports> = OnceLock::new();

/// Have a higher layer look after the transports.
pub fn transports_with(what: ForTransports) {
    TRANSPORTS.get_or_init(|| what);
}

pub(super) fn ready(event_loop: &Bound<'_, LoopState>, transport: &Bound<'_, PyAny>) -> Slim<()> {
    TRANSPORTS.get().map_or(Ok(()), |known| (known.ready)(event_loop, transport))
}

pub(super) fn transition(event_loop: &Bound<'_, LoopState>, transport: &Bound<'_, PyAny>) -> Slim<()> {
    TRANSPORTS.get().map_or(Ok(()), |known| (known.transition)(event_loop, transport))
}

pub(super) fn protocol<'py>(transport: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    TRANSPORTS.get().and_then(|known| (known.protocol)(transport))
}

pub(super) fn uncork<'py>(transport: &Bound<'py, PyAny>, native: &Bound<'py, PyAny>) -> Slim<()> {
    TRANSPORTS.get().map_or(Ok(()), |known| (known.uncork)(transport, native))
}

pub(super) fn forget_corked(native: &Bound<'_, PyAny>) {
    if let Some(known) = TRANSPORTS.get() {
        (known.forget_corked)(native);
    }
}

static AT_BEGIN: OnceLock<fn()> = OnceLock::new();

/// Have `f` called at the begin of each run, on the loop's thread with the GIL held (a higher layer's errand).
pub fn at_begin(f: fn()) {
    AT_BEGIN.get_or_init(|| f);
}

/// What a higher layer has to do when a run has ended.
pub type AtEnd = fn(&Bound<'_, LoopState>);

static AT_END: OnceLock<AtEnd> = OnceLock::new();

/// Have `f` called at the end of each run, on the loop's thread with the GIL held.
pub fn at_end(f: AtEnd) {
    AT_END.get_or_init(|| f);
}

pub(super) fn run_begins() {
    if let Some(errand) = AT_BEGIN.get() {
        errand();
    }
}

pub(super) fn run_ends(event_loop: &Bound<'_, LoopState>) {
    if let Some(errand) = AT_END.get() {
        errand(event_loop);
    }
}
