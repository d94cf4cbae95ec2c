//! `ThreadSafeHandle`: what `call_soon_threadsafe` gives back since CPython 3.14. `isinstance(handle, asyncio.Handle)`
//! holds.
//!
//! A handle of ours can be cancelled by any thread as it is, for the GIL guards it. What asyncio's class promises
//! beyond that, by a lock held while the callback runs: `cancel()` and `cancelled()` of another thread come back when
//! the callback is over, so that it never runs behind the back of who cancelled it. Here nothing is held: who comes
//! while the callback runs makes a lock, and the end of the callback opens it.

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use super::handle::{Handle, Parts};
use super::state::LoopState;
use crate::accel::collector;
use crate::accel::pool::{Pooled, has_pool};
use crate::py::asyncio::asyncio;
use crate::py::attach::thread_ident;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::error::Slim;

/// The callback while it runs.
#[derive(Debug)]
struct Running {
    /// `threading.get_ident()` of who runs it: that thread is not kept waiting.
    thread: u64,
    /// A locked `_thread.lock`, when another thread waits for the end.
    gate: Option<Py<PyAny>>,
}

/// The object returned by `loop.call_soon_threadsafe()` (kept from asyncio: `_ThreadSafeHandle`).
#[pyclass(frozen, extends = Handle, module = "pyloop._native")]
pub struct ThreadSafeHandle {
    running: GilCell<Option<Running>>,
}

impl ThreadSafeHandle {
    /// A handle, not queued and hidden from the collector.
    ///
    /// # Errors
    /// MemoryError; in debug mode, what looking at the stack raises.
    #[inline]
    pub fn new<'py>(parts: Parts<'py>, event_loop: &Bound<'py, LoopState>) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let own = Self { running: GilCell::new(None) };
        let make = Handle::maker(parts, event_loop)?;
        let handle: Bound<'_, Self> = collector::create_hidden(py, || (make(), own))?;
        if event_loop.get().debug.get(py) {
            handle.as_super().get().note_origin(py)?;
        }
        Ok(handle)
    }

    /// Run it, by the turn or by hand. The error is one that ends the run.
    #[inline]
    pub(super) fn run_by(slf: &Bound<'_, Self>, turn: bool) -> Slim<()> {
        Self::run_with(slf, || Handle::run_by(slf.as_super(), turn))
    }

    /// As `run_by`, by `run`.
    #[inline]
    pub(super) fn run_with(slf: &Bound<'_, Self>, run: impl FnOnce() -> Slim<()>) -> Slim<()> {
        let (py, this) = (slf.py(), slf.get());
        let started = Running { thread: thread_ident(), gate: None };
        let outer = this.running.replace(py, Some(started));
        let ran = run();
        let ended = this.running.replace(py, outer);
        match ended.and_then(|ended| ended.gate) {
            None => ran,
            // C code that runs no Python: nothing comes between the callback's end and those who wait for it.
            Some(gate) => {
                let released = gate.bind(py).try_call_method(pyo3::intern!(py, "release"), ());
                ran.and(released.map(drop).map_err(Box::new))
            }
        }
    }

    /// Wait until no other thread is in the callback.
    #[inline]
    fn settle(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let elsewhere = |running: &Option<Running>| running.as_ref().is_some_and(|r| r.thread != thread_ident());
        if this.running.with(py, |running| elsewhere(running)) { Self::wait(slf) } else { Ok(()) }
    }

    #[cold]
    fn wait(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let fresh = py.import("_thread")?.try_call_method("allocate_lock", ())?;
        fresh.try_call_method("acquire", ())?;
        // The end may have come meanwhile. Of several who wait, each lets the next one through.
        let gate = this.running.with(py, |running| {
            let running = running.as_mut()?;
            Some(running.gate.get_or_insert_with(|| fresh.clone().unbind()).clone_ref(py))
        });
        if let Some(gate) = gate {
            let gate = gate.bind(py);
            // Interrupted by KeyboardInterrupt in the main thread, as asyncio's lock is.
            gate.try_call_method("acquire", ())?;
            gate.try_call_method("release", ())?;
        }
        Ok(())
    }
}

impl Pooled for ThreadSafeHandle {
    has_pool!((Handle, ThreadSafeHandle), ThreadSafeHandle);
    const SPARE: usize = 1024;

    #[inline]
    fn release(values: (Handle, Self), py: Python<'_>) {
        Handle::release((values.0,), py);
    }
}

#[pymethods]
impl ThreadSafeHandle {
    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyType>> {
        Ok(asyncio(slf.py())?.thread_safe_handle_class.clone_ref(slf.py()))
    }

    /// Cancel the callback; nothing happens when it has run or was cancelled. Any thread may call it; while another
    /// one runs the callback, it waits for the end.
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::settle(slf)?;
        Handle::cancel_once(slf.as_super());
        Ok(())
    }

    /// Whether it was cancelled. Waits as `cancel` does.
    fn cancelled(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::settle(slf)?;
        Ok(slf.as_super().get().is_cancelled(slf.py()))
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::settle(slf)?;
        Self::run_by(slf, false).map_err(|raised| *raised)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.running.peek_in_traverse(&visit) {
            Some(Some(running)) => visit.call(&running.gate),
            _ => Ok(()),
        }
    }
}
