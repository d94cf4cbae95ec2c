//! What a program has put in the place of functions that asyncio calls by their names: tracers and profilers do, and
//! subclasses of a loop. A look finds out; the loop then calls by name what it does itself otherwise. Until something
//! changes (`accel::direct_calls`, `Loop.__setattr__`), what was found holds, and finding nothing costs a comparison.
//!
//! Guarded by the GIL. No cell is borrowed while a look runs Python code.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyString, PyType};

use crate::accel::direct_calls::{self, DIRECT_CALLS, Finding};
use crate::py::asyncio::asyncio;
use crate::py::call::{self, Object};
use crate::py::cell::GilValue;

/// A function that may have been replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Name {
    /// What is found at the loop: in its dictionary, its class, or above ours.
    CallSoon,
    CallAt,
    /// The clock: `time`, at the loop or above ours, or what `BaseEventLoop.time` calls.
    Time,
    /// `asyncio.Handle._run`, or the same of `TimerHandle`.
    Run,
    /// What is found above our classes: in `BaseEventLoop`, or in a class between.
    AboveCallSoon,
    AboveCallSoonThreadsafe,
    AboveCallLater,
    AboveCallAt,
    AboveCreateFuture,
    AboveCreateTask,
    AboveTime,
    /// `time.monotonic`, which `BaseEventLoop.time` calls.
    Monotonic,
}

impl Name {
    const ABOVE: [Self; 7] = [
        Self::AboveCallSoon,
        Self::AboveCallSoonThreadsafe,
        Self::AboveCallLater,
        Self::AboveCallAt,
        Self::AboveCreateFuture,
        Self::AboveCreateTask,
        Self::AboveTime,
    ];

    fn bit(self) -> u16 {
        1 << self as u16
    }

    /// What it is called in Python.
    pub fn text(self) -> &'static str {
        match self {
            Self::CallSoon | Self::AboveCallSoon => "call_soon",
            Self::CallAt | Self::AboveCallAt => "call_at",
            Self::Run => "_run",
            Self::AboveCallSoonThreadsafe => "call_soon_threadsafe",
            Self::AboveCallLater => "call_later",
            Self::AboveCreateFuture => "create_future",
            Self::AboveCreateTask => "create_task",
            Self::Time | Self::AboveTime => "time",
            Self::Monotonic => "monotonic",
        }
    }
}

/// `call_soon`, `call_at` and `time` as our classes have them, the one that is called without PyO3's wrapper first.
struct Own {
    call_soon: Vec<Py<PyAny>>,
    call_at: Vec<Py<PyAny>>,
    time: Vec<Py<PyAny>>,
}

static OWN: PyOnceLock<Own> = PyOnceLock::new();

/// Learn what is ours of the loop's class, before anybody else has it.
///
/// # Errors
/// AttributeError: it has no such method.
pub fn learn(class: &Bound<'_, PyType>, native: &Bound<'_, PyType>) -> PyResult<()> {
    let both = |name: &str| -> PyResult<Vec<Py<PyAny>>> {
        [class, native].into_iter().map(|class| Ok(class.try_getattr(name)?.unbind())).collect()
    };
    let own = Own { call_soon: both("call_soon")?, call_at: both("call_at")?, time: both("time")? };
    OWN.get_or_init(class.py(), || own);
    Ok(())
}

/// What was found for one loop.
#[derive(Debug, Default)]
pub struct Replaced {
    /// That nothing is.
    plain: Finding<()>,
    /// A bit for each `Name`.
    found: Finding<u16>,
    /// A class cannot be watched any more (`direct_calls::watch`), so nothing that is found holds.
    is_blind: GilValue<bool>,
}

impl Replaced {
    /// Whether nothing is.
    #[inline(always)]
    pub fn is_plain(&self, py: Python<'_>) -> bool {
        self.plain.get(py).is_some()
    }

    /// Whether this function is. `event_loop` is the loop whose `Replaced` this is.
    ///
    /// # Errors
    /// What a look raises: KeyboardInterrupt, say.
    #[inline(always)]
    pub fn has(&self, event_loop: &Bound<'_, PyAny>, name: Name) -> PyResult<bool> {
        if self.is_plain(event_loop.py()) { Ok(false) } else { self.look_for(event_loop, name) }
    }

    #[cold]
    fn look_for(&self, event_loop: &Bound<'_, PyAny>, name: Name) -> PyResult<bool> {
        let py = event_loop.py();
        if DIRECT_CALLS.is_on() && !self.is_blind.get(py) {
            let found = self.found.get(py).map_or_else(|| self.look(event_loop), Ok)?;
            return Ok(found & name.bit() != 0);
        }
        match name {
            Name::Monotonic => is_monotonic_replaced(py),
            name if Name::ABOVE.contains(&name) => is_above(event_loop, name),
            _ => Ok(true),
        }
    }

    fn look(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<u16> {
        let py = event_loop.py();
        let names = asyncio(py)?;
        let classes =
            [event_loop.get_type(), names.handle_class.bind(py).clone(), names.timer_handle_class.bind(py).clone()];
        let dictionary = py.import(pyo3::intern!(py, "time"))?.dict();
        let asyncios = py.import(pyo3::intern!(py, "asyncio"))?.try_getattr(pyo3::intern!(py, "SelectorEventLoop"))?;
        let watched = classes.iter().all(direct_calls::watch)
            && direct_calls::watch(&asyncios.cast_into::<PyType>()?)
            && direct_calls::watch_dictionary(&dictionary);
        let now = direct_calls::changes();
        let mut found = 0;
        for name in Name::ABOVE {
            if is_above(event_loop, name)? {
                found |= name.bit();
            }
        }
        if found & Name::AboveCallSoon.bit() != 0 || !is_own(event_loop, Name::CallSoon)? {
            found |= Name::CallSoon.bit();
        }
        if found & Name::AboveCallAt.bit() != 0 || !is_own(event_loop, Name::CallAt)? {
            found |= Name::CallAt.bit();
        }
        if is_monotonic_replaced(py)? {
            found |= Name::Monotonic.bit();
        }
        if found & (Name::AboveTime.bit() | Name::Monotonic.bit()) != 0 || !is_own(event_loop, Name::Time)? {
            found |= Name::Time.bit();
        }
        if names.helper(py, "handles_are_replaced")?.try_call(())?.try_is_truthy()? {
            found |= Name::Run.bit();
        }
        // A class that cannot be watched never can be again. A look takes hundreds of microseconds: not one for each
        // call.
        self.is_blind.set(py, !watched);
        if watched {
            self.found.keep(py, now, found);
            if found == 0 {
                self.plain.keep(py, now, ());
            }
        }
        Ok(found)
    }

    /// Something may have changed that CPython does not tell of.
    pub fn doubt(&self, py: Python<'_>) {
        self.plain.doubt(py);
        self.found.doubt(py);
    }

    /// A run begins: the loop's dictionary may have been written to.
    ///
    /// # Errors
    /// What looking up an attribute raises.
    pub(super) fn doubt_dictionary(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        if self.is_plain(py) {
            for name in [Name::CallSoon, Name::CallAt, Name::Time] {
                if !is_own(event_loop, name)? {
                    self.doubt(py);
                }
            }
        }
        Ok(())
    }
}

/// Whether somebody's function is above our classes.
fn is_above(event_loop: &Bound<'_, PyAny>, name: Name) -> PyResult<bool> {
    let py = event_loop.py();
    asyncio(py)?.helper(py, "is_replaced_above")?.try_call((event_loop, name.text()))?.try_is_truthy()
}

/// Whether `time.monotonic` is not CPython's own, and is the clock of asyncio's own loop still: freezegun, told to
/// leave asyncio the real clock, gives that loop a `time` of its own.
fn is_monotonic_replaced(py: Python<'_>) -> PyResult<bool> {
    let name = pyo3::intern!(py, "monotonic");
    let found = py.import(pyo3::intern!(py, "time"))?.try_getattr(name)?;
    if found.is_exact_instance_of::<PyCFunction>() && found.try_getattr(pyo3::intern!(py, "__name__"))?.try_eq(name)? {
        return Ok(false);
    }
    let module = py.import(pyo3::intern!(py, "asyncio"))?;
    let clock_of = |class| module.try_getattr(class)?.try_getattr(pyo3::intern!(py, "time"));
    Ok(clock_of("SelectorEventLoop")?.is(&clock_of("BaseEventLoop")?))
}

/// Whether what is found under this name at the loop is a method of our own, the loop's own.
fn is_own(event_loop: &Bound<'_, PyAny>, name: Name) -> PyResult<bool> {
    let py = event_loop.py();
    let usual = py.get_type::<PyAny>().try_getattr(pyo3::intern!(py, "__getattribute__"))?;
    if !call::same(&event_loop.get_type().try_getattr(pyo3::intern!(py, "__getattribute__"))?, &usual) {
        return Ok(false);
    }
    let Some(own) = OWN.get(py) else { return Ok(false) };
    let (name, own): (&Bound<'_, PyString>, _) = match name {
        Name::CallAt => (pyo3::intern!(py, "call_at"), &own.call_at),
        Name::Time => (pyo3::intern!(py, "time"), &own.time),
        _ => (pyo3::intern!(py, "call_soon"), &own.call_soon),
    };
    let found = event_loop.try_getattr(name)?;
    for method in own {
        // TypeError: `event_loop` is of another class than pyloop.EventLoop.
        let Ok(bound) = method.bind(py).try_call_method(pyo3::intern!(py, "__get__"), (event_loop,)) else { continue };
        if found.get_type().is(bound.get_type()) && found.try_eq(&bound)? {
            return Ok(true);
        }
    }
    Ok(false)
}
