//! Layer 1, beside `py`: everything that knows CPython's or PyO3's insides, for speed. `docs/accelerations.md` has a
//! row for each.
//!
//! An acceleration leans on something that no document promises. So each has a **probe**, which tries it on objects
//! that nobody else has, and a **plain path**, which does the same by public means. `settle` runs the probes once, when
//! the module is made, in the order of its body; `tls` is tried at the first encrypted connection. A probe that fails
//! means slower, never an import that fails. `PYLOOP_ACCEL=none` switches all of them off,
//! `PYLOOP_ACCEL=-pool,-collector` those two; `pyloop.accelerations()` tells what came of it.
//!
//! Everything here runs with the GIL held.

#[cfg(feature = "loop")]
pub mod async_exc;
pub mod collector;
pub mod contexts;
#[cfg(feature = "loop")]
pub mod direct_calls;
#[cfg(feature = "loop")]
pub mod function_calls;
#[cfg(feature = "loop")]
pub mod instance_values;
pub mod layout;
#[cfg(feature = "loop")]
pub mod methods;
#[cfg(feature = "loop")]
pub mod native_parts;
pub mod pool;
#[cfg(feature = "loop")]
pub mod processor_clock;
pub mod slots;
pub mod stop_iteration;
mod switch;
#[cfg(feature = "loop")]
pub mod tls;

use std::sync::OnceLock;

use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

pub use switch::{Acceleration, Probed, Why, expect, raised};

use crate::py::{error, require_main_for_futures};

/// What the environment variable asks for.
struct Asked {
    none: bool,
    without: Vec<String>,
    /// What it cannot mean: most likely a mistake.
    unknown: Vec<String>,
}

impl Asked {
    const VARIABLE: &str = "PYLOOP_ACCEL";

    /// What it asked for when somebody first wanted to know: what comes late goes by the same.
    fn once() -> &'static Self {
        static ASKED: OnceLock<Asked> = OnceLock::new();
        ASKED.get_or_init(Self::read)
    }

    fn read() -> Self {
        let value = std::env::var_os(Self::VARIABLE).unwrap_or_default();
        let value = value.to_string_lossy();
        let mut asked = Self { none: false, without: Vec::new(), unknown: Vec::new() };
        for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.strip_prefix('-') {
                Some(name) if ALL.iter().any(|known| known.name == name) => asked.without.push(name.to_owned()),
                None if word == "none" => asked.none = true,
                _ => asked.unknown.push(word.to_owned()),
            }
        }
        asked
    }

    fn refuses(&self, name: &str) -> bool {
        self.none || self.without.iter().any(|without| without == name)
    }

    fn warn_of_unknown(&self, py: Python<'_>) -> PyResult<()> {
        for word in &self.unknown {
            let text = format!("{}: pyloop has no acceleration {word:?}", Self::VARIABLE);
            let text = std::ffi::CString::new(text)?;
            error::warn(&py.get_type::<PyRuntimeWarning>(), &text)?;
        }
        Ok(())
    }
}

/// The tasks of our loops are shown to `asyncio.all_tasks` in its own register, without an entry for each
/// (`pyloop._accel`). Off: `asyncio._register_task` for each task.
pub static TASK_REGISTER: Acceleration = Acceleration::new("task_register");
/// The current task is written where asyncio looks for it, before CPython 3.14 (`pyloop._accel`). Off:
/// `asyncio.tasks._swap_current_task`.
pub static CURRENT_TASK: Acceleration = Acceleration::new("current_task");
/// A loop keeps what `BaseEventLoop.__init__` sets in slots (`pyloop._accel`). Off: in a dictionary.
pub static LOOP_SLOTS: Acceleration = Acceleration::new("loop_slots");
/// A loop sleeps in its own poller while nobody waits for tokio's driver, which takes that nobody else uses the tokio
/// of this library. Off: it sleeps in the driver.
pub static OWN_SLEEP: Acceleration = Acceleration::new("own_sleep");

/// In the order in which they are tried.
static ALL: [&Acceleration; 18] = [
    &layout::LAYOUT,
    &pool::POOL,
    &collector::COLLECTOR,
    &contexts::CONTEXTS,
    &stop_iteration::STOP_ITERATION,
    &slots::SLOTS,
    #[cfg(feature = "loop")]
    &methods::METHODS,
    #[cfg(not(feature = "loop"))]
    &METHODS,
    #[cfg(feature = "loop")]
    &async_exc::ASYNC_EXC,
    #[cfg(not(feature = "loop"))]
    &ASYNC_EXC,
    #[cfg(feature = "loop")]
    &direct_calls::DIRECT_CALLS,
    #[cfg(not(feature = "loop"))]
    &DIRECT_CALLS,
    #[cfg(feature = "loop")]
    &function_calls::FUNCTION_CALLS,
    #[cfg(not(feature = "loop"))]
    &FUNCTION_CALLS,
    &TASK_REGISTER,
    &CURRENT_TASK,
    #[cfg(feature = "loop")]
    &instance_values::INSTANCE_VALUES,
    #[cfg(not(feature = "loop"))]
    &INSTANCE_VALUES,
    &LOOP_SLOTS,
    #[cfg(feature = "loop")]
    &tls::TLS,
    #[cfg(not(feature = "loop"))]
    &TLS,
    #[cfg(feature = "loop")]
    &native_parts::NATIVE_PARTS,
    #[cfg(not(feature = "loop"))]
    &NATIVE_PARTS,
    &OWN_SLEEP,
    #[cfg(feature = "loop")]
    &processor_clock::PROCESSOR_CLOCK,
    #[cfg(not(feature = "loop"))]
    &PROCESSOR_CLOCK,
];

#[cfg(not(feature = "loop"))]
static METHODS: Acceleration = Acceleration::new("methods");
#[cfg(not(feature = "loop"))]
static ASYNC_EXC: Acceleration = Acceleration::new("async_exc");
#[cfg(not(feature = "loop"))]
static DIRECT_CALLS: Acceleration = Acceleration::new("direct_calls");
#[cfg(not(feature = "loop"))]
static INSTANCE_VALUES: Acceleration = Acceleration::new("instance_values");
#[cfg(not(feature = "loop"))]
static TLS: Acceleration = Acceleration::new("tls");
#[cfg(not(feature = "loop"))]
static NATIVE_PARTS: Acceleration = Acceleration::new("native_parts");
#[cfg(not(feature = "loop"))]
static FUNCTION_CALLS: Acceleration = Acceleration::new("function_calls");
#[cfg(not(feature = "loop"))]
static PROCESSOR_CLOCK: Acceleration = Acceleration::new("processor_clock");

/// Try each acceleration, once a process. The ones of the Python half follow (`_settle_acceleration`). An extension
/// module, which has a copy of this crate, does so when it makes its first awaitable.
///
/// # Errors
/// The RuntimeWarning about an unknown name in PYLOOP_ACCEL, where warnings are errors.
pub fn settle(py: Python<'_>) -> PyResult<()> {
    static SETTLED: PyOnceLock<()> = PyOnceLock::new();
    if SETTLED.set(py, ()).is_err() {
        return Ok(());
    }
    let asked = Asked::once();
    let refused = |known: &Acceleration| asked.refuses(known.name);
    layout::LAYOUT.settle(py, refused(&layout::LAYOUT), || layout::probe(py));
    // It writes instances where `layout` has found their values to be.
    pool::POOL.settle(py, refused(&pool::POOL), || pool::probe(py));
    collector::COLLECTOR.settle(py, refused(&collector::COLLECTOR), || collector::probe(py));
    contexts::CONTEXTS.settle(py, refused(&contexts::CONTEXTS), || contexts::probe(py));
    stop_iteration::STOP_ITERATION.settle(py, refused(&stop_iteration::STOP_ITERATION), || stop_iteration::probe(py));
    slots::SLOTS.settle(py, refused(&slots::SLOTS), || slots::probe(py));
    #[cfg(feature = "loop")]
    methods::METHODS.settle(py, refused(&methods::METHODS), || methods::probe(py));
    #[cfg(feature = "loop")]
    async_exc::ASYNC_EXC.settle(py, refused(&async_exc::ASYNC_EXC), || async_exc::probe(py));
    #[cfg(feature = "loop")]
    direct_calls::DIRECT_CALLS.settle(py, refused(&direct_calls::DIRECT_CALLS), || direct_calls::probe(py));
    #[cfg(feature = "loop")]
    function_calls::FUNCTION_CALLS.settle(py, refused(&function_calls::FUNCTION_CALLS), || function_calls::probe(py));
    OWN_SLEEP.settle(py, refused(&OWN_SLEEP), || expect(cfg!(target_os = "linux"), "there is no epoll here"));
    #[cfg(feature = "loop")]
    processor_clock::PROCESSOR_CLOCK.settle(py, refused(&processor_clock::PROCESSOR_CLOCK), processor_clock::probe);
    asked.warn_of_unknown(py)
}

/// As `collector::create_hidden`, of a class that no module installs when it is made: an extension's awaitables.
///
/// # Errors
/// MemoryError; RuntimeError where a subinterpreter asks first.
#[inline(always)]
pub fn create_late<T: pool::Pooled>(py: Python<'_>, make: impl FnOnce() -> T::Values) -> PyResult<Bound<'_, T>> {
    if !pool::is_installed::<T>(py) {
        require_main_for_futures(py)?;
        install_late::<T>(py);
    }
    collector::create_hidden(py, make)
}

/// As `pool::install`, for such a class.
#[cold]
fn install_late<T: pool::Pooled>(py: Python<'_>) {
    if let Err(raised) = settle(py) {
        error::unraisable(py, raised, None);
    }
    pool::install::<T>(py);
}

/// The Python half has tried one of its own: None, or why not. Whether it is on.
#[cfg(feature = "loop")]
#[pyfunction]
#[pyo3(signature = (name, why))]
pub fn _settle_acceleration(py: Python<'_>, name: &str, why: Option<String>) -> bool {
    let known = ALL.iter().find(|known| known.name == name);
    known.is_some_and(|known| {
        known.settle(py, Asked::once().refuses(name), || why.map_or(Ok(()), |why| Err(why.into())));
        known.is_on()
    })
}

/// Whether PYLOOP_ACCEL leaves an acceleration on.
#[cfg(feature = "loop")]
#[pyfunction]
pub fn _acceleration_is_wanted(name: &str) -> bool {
    !Asked::once().refuses(name)
}

/// How many accelerations are on, and how many are off. One that has not been tried yet is neither.
#[cfg(feature = "loop")]
pub fn count(py: Python<'_>) -> (usize, usize) {
    let on = ALL.iter().filter(|known| known.is_on()).count();
    let off = ALL.iter().filter(|known| known.is_off(py)).count();
    (on, off)
}

/// What came of each acceleration so far; `pyloop.accelerations` has the last one tried before.
#[cfg(feature = "loop")]
#[pyfunction]
pub fn _accelerations(py: Python<'_>) -> PyResult<Bound<'_, pyo3::types::PyDict>> {
    let all = pyo3::types::PyDict::new(py);
    for known in ALL {
        all.set_item(known.name, known.looks(py))?;
    }
    Ok(all)
}
