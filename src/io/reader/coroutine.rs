//! The coroutine that a method of asyncio's streams gives: polled without a frame of Python's. To everyone it is a
//! coroutine; it waits, as asyncio's does, on a future that is the reader's `_waiter`.
//!
//! | stage       | is                                          | `send`                          | `throw`, `close`              |
//! |-------------|---------------------------------------------|---------------------------------|-------------------------------|
//! | `Created`   | not awaited yet                             | the first step                  | `Over`                        |
//! | `Waiting`   | its future has been yielded                 | the next step, or its exception | no waiter any more; `Over`    |
//! | `Elsewhere` | the method's own coroutine does it          | is handed on                    | is handed on                  |
//! | `Running`   | one of these is under way                   | ValueError                      | ValueError                    |
//! | `Over`      | ended                                       | RuntimeError                    | RuntimeError; nothing         |
//!
//! No cell is borrowed while a step runs: it may run Python code, which finds `Running`.

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use super::steps::{self, Asked, Came};
use crate::accel::instance_values::OfReader;
use crate::accel::pool::{self, Pooled, has_pool};
use crate::accel::slots;
use crate::accel::stop_iteration;
use crate::bridge::awaitable::warn_never_awaited;
use crate::future::Future;
use crate::py::api;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::error::{self, PreserveError, Slim};
use crate::py::exit::outlast;
use crate::py::iter::{self, Await, Next, Resume, Sent};

/// What is called when a call is for the method itself: its coroutine.
pub type Usual = for<'py> fn(&Bound<'py, PyAny>, &Asked) -> PyResult<Bound<'py, PyAny>>;

#[derive(Debug, Default)]
enum Stage {
    Created,
    Waiting(Py<Future>),
    Elsewhere(Py<PyAny>),
    Running,
    #[default]
    Over,
}

struct State {
    stage: Stage,
    /// The reader, or the writer; None when it is over.
    owner: Option<Py<PyAny>>,
    asked: Asked,
    searched: Option<usize>,
}

/// What `StreamReader.read` and its like, and `StreamWriter.drain`, give.
#[pyclass(frozen, weakref, name = "_StreamCall", module = "pyloop._native")]
pub struct StreamCall {
    state: GilCell<State>,
    /// `StreamReader.read`, say.
    name: &'static str,
    usual: Usual,
}

impl StreamCall {
    /// # Errors
    /// MemoryError.
    #[inline]
    pub fn create<'py>(
        owner: Bound<'py, PyAny>,
        asked: Asked,
        name: &'static str,
        usual: Usual,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = owner.py();
        let state = State { stage: Stage::Created, owner: Some(owner.unbind()), asked, searched: None };
        pool::create::<Self>(py, || (Self { state: GilCell::new(state), name, usual },)).map(Bound::into_any)
    }

    fn set(&self, py: Python<'_>, stage: Stage) {
        drop(self.state.with(py, |state| std::mem::replace(&mut state.stage, stage)));
    }

    /// It has ended. What it was to read from is let go of.
    fn end(&self, py: Python<'_>) {
        let (owner, asked) = self.state.with(py, |state| {
            state.stage = Stage::Over;
            (state.owner.take(), std::mem::replace(&mut state.asked, Asked::Line))
        });
        asked.drop_ref(py);
        if let Some(owner) = owner {
            owner.drop_ref(py);
        }
    }

    fn owner<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.with(py, |state| state.owner.as_ref().map(|owner| owner.clone_ref(py))).map(|it| it.into_bound(py))
    }

    /// Take the stage, and be `Running`.
    fn begin(&self, py: Python<'_>) -> Slim<Stage> {
        let found = self.state.with(py, |state| match &state.stage {
            Stage::Running => Err("coroutine already executing"),
            Stage::Over => Err(""),
            _ => Ok(std::mem::replace(&mut state.stage, Stage::Running)),
        });
        found.map_err(|refused| {
            Box::new(match refused {
                "" => PyRuntimeError::new_err("cannot reuse already awaited coroutine"),
                refused => PyValueError::new_err(refused),
            })
        })
    }

    fn go_on<'py>(slf: &Bound<'py, Self>, value: Option<&Bound<'py, PyAny>>) -> Slim<Sent<'py>> {
        let (py, this) = (slf.py(), slf.get());
        match this.begin(py)? {
            Stage::Created if value.is_some() => {
                this.set(py, Stage::Created);
                Err(Box::new(PyTypeError::new_err("can't send non-None value to a just-started coroutine")))
            }
            Stage::Waiting(waiter) => {
                let waiter = waiter.into_bound(py);
                match Future::go_on_waiting(&waiter) {
                    Ok(Sent::Yielded(yielded)) => {
                        this.set(py, Stage::Waiting(waiter.unbind()));
                        Ok(Sent::Yielded(yielded))
                    }
                    waited => {
                        let forgotten = this.forget_waiter(py);
                        match waited.and(forgotten) {
                            Ok(()) => Self::step(slf),
                            Err(raised) => this.failed(py, raised),
                        }
                    }
                }
            }
            Stage::Elsewhere(coroutine) => Self::hand_on(slf, coroutine.into_bound(py), value),
            _ => Self::step(slf),
        }
    }

    #[inline]
    fn step<'py>(slf: &Bound<'py, Self>) -> Slim<Sent<'py>> {
        let (py, this) = (slf.py(), slf.get());
        let Some(owner) = this.owner(py) else { return this.failed(py, PyRuntimeError::new_err("it is over")) };
        let (asked, mut searched) = this.state.with(py, |state| (state.asked.clone_ref(py), state.searched));
        let came = match steps::step(&owner, &asked, &mut searched) {
            Ok(Came::Value(value)) => {
                this.end(py);
                Ok(Sent::Returned(value))
            }
            Ok(Came::Waits(waiter)) => {
                let yielded = Future::go_on_waiting(&waiter);
                this.state.with(py, |state| state.searched = searched);
                this.set(py, Stage::Waiting(waiter.unbind()));
                yielded.map_err(Box::new)
            }
            Ok(Came::Otherwise) => match (this.usual)(&owner, &asked) {
                Ok(coroutine) => Self::hand_on(slf, coroutine, None),
                Err(raised) => this.failed(py, raised),
            },
            Err(raised) => this.failed(py, raised),
        };
        asked.drop_ref(py);
        came
    }

    /// The method's own coroutine goes on.
    #[cold]
    fn hand_on<'py>(
        slf: &Bound<'py, Self>,
        coroutine: Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
    ) -> Slim<Sent<'py>> {
        let sent = match value {
            None => iter::send_none(&coroutine),
            Some(value) => coroutine
                .try_call_method(pyo3::intern!(slf.py(), "send"), (value,))
                .map(Sent::Yielded)
                .or_else(|raised| stop_iteration::stop_value(slf.py(), raised).map(Sent::Returned))
                .map_err(Box::new),
        };
        Self::handed_on(slf, coroutine, sent)
    }

    fn handed_on<'py>(slf: &Bound<'py, Self>, coroutine: Bound<'py, PyAny>, sent: Slim<Sent<'py>>) -> Slim<Sent<'py>> {
        match &sent {
            Ok(Sent::Yielded(_)) => slf.get().set(slf.py(), Stage::Elsewhere(coroutine.unbind())),
            _ => slf.get().end(slf.py()),
        }
        sent
    }

    #[cold]
    fn failed<'py>(&self, py: Python<'py>, raised: PyErr) -> Slim<Sent<'py>> {
        self.end(py);
        Err(Box::new(iter::raised_by_coroutine(py, raised)))
    }

    /// It goes before it has ended.
    #[cold]
    fn let_go(&self, py: Python<'_>) {
        let _preserved = PreserveError::new(py);
        let (stage, owner) = self.state.with(py, |state| (std::mem::take(&mut state.stage), state.owner.take()));
        match (stage, owner) {
            (Stage::Created, _) => warn_never_awaited(py, self.name),
            (Stage::Waiting(_), Some(owner)) => {
                if let Err(raised) = owner.bind(py).try_setattr(OfReader::Waiter.name(py), py.None()) {
                    error::unraisable(py, raised, None);
                }
            }
            _ => {}
        }
    }

    /// `_wait_for_data` ends, one way or the other.
    fn forget_waiter(&self, py: Python<'_>) -> PyResult<()> {
        match self.owner(py) {
            Some(owner) => owner.try_setattr(OfReader::Waiter.name(py), py.None()),
            None => Ok(()),
        }
    }
}

impl Pooled for StreamCall {
    has_pool!((StreamCall,), StreamCall);
    const SPARE: usize = 256;

    #[inline]
    fn release((call,): (Self,), py: Python<'_>) {
        drop(call);
        stop_iteration::take_back(py);
    }

    fn install_slots(class: &Bound<'_, PyType>) {
        slots::install_await::<Self>(class);
        slots::install_next::<Self>(class);
        slots::install_send::<Self>(class);
    }
}

impl Drop for StreamCall {
    fn drop(&mut self) {
        if !matches!(self.state.get_mut().stage, Stage::Over) {
            Python::attach(|py| self.let_go(py));
        }
    }
}

impl Await for StreamCall {
    #[inline]
    fn iterator<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let awaited =
            slf.get().state.with(slf.py(), |state| matches!(state.stage, Stage::Waiting(_) | Stage::Elsewhere(_)));
        if awaited {
            return Err(PyRuntimeError::new_err("coroutine is being awaited already"));
        }
        Ok(slf.clone().into_any())
    }
}

impl Next for StreamCall {
    #[inline]
    fn next<'py>(slf: &Bound<'py, Self>) -> Slim<Option<Bound<'py, PyAny>>> {
        match Self::go_on(slf, None)? {
            Sent::Yielded(yielded) => Ok(Some(yielded)),
            Sent::Returned(value) => {
                stop_iteration::end_iteration(slf, value);
                Ok(None)
            }
        }
    }
}

impl Resume for StreamCall {
    #[inline]
    fn resume<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> Slim<Sent<'py>> {
        Self::go_on(slf, Some(value).filter(|value| !value.is_none()))
    }
}

#[pymethods]
impl StreamCall {
    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::iterator(slf)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Self::next(slf).map_err(|raised| *raised)
    }

    #[pyo3(signature = (value, /))]
    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match Self::resume(slf, value).map_err(|raised| *raised)? {
            Sent::Yielded(yielded) => Ok(yielded),
            Sent::Returned(value) => Err(stop_iteration::stop_iteration(slf.py(), value)),
        }
    }

    #[pyo3(signature = (typ, val = None, tb = None, /))]
    fn throw<'py>(
        slf: &Bound<'py, Self>,
        typ: &Bound<'py, PyAny>,
        val: Option<&Bound<'py, PyAny>>,
        tb: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let raised = iter::thrown(typ, val, tb)?;
        let forgotten = match this.begin(py).map_err(|raised| *raised)? {
            Stage::Elsewhere(coroutine) => {
                let coroutine = coroutine.into_bound(py);
                let sent = coroutine.try_call_method(pyo3::intern!(py, "throw"), (raised.into_value(py),));
                return match Self::handed_on(slf, coroutine, sent.map(Sent::Yielded).map_err(Box::new)) {
                    Ok(Sent::Yielded(yielded) | Sent::Returned(yielded)) => Ok(yielded),
                    Err(raised) => Err(*raised),
                };
            }
            Stage::Waiting(_) => this.forget_waiter(py),
            _ => Ok(()),
        };
        this.end(py);
        forgotten?;
        Err(raised)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if self.state.with(py, |state| matches!(state.stage, Stage::Over)) {
            return Ok(());
        }
        let closed = match self.begin(py).map_err(|raised| *raised)? {
            Stage::Elsewhere(coroutine) => coroutine.bind(py).try_call_method(pyo3::intern!(py, "close"), ()).map(drop),
            Stage::Waiting(_) => self.forget_waiter(py),
            _ => Ok(()),
        };
        self.end(py);
        closed
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        self.name
    }

    /// To `isinstance` it is a coroutine.
    #[getter]
    fn __class__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyType>> {
        api::coroutine_class(slf.py())
    }

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.stage, Stage::Running))
    }

    #[getter]
    fn cr_suspended(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.stage, Stage::Waiting(_) | Stage::Elsewhere(_)))
    }

    /// What `inspect.getcoroutinestate` gives, from CPython 3.15 on.
    #[getter]
    fn cr_state(&self, py: Python<'_>) -> &'static str {
        self.state.with(py, |state| match state.stage {
            Stage::Created => "CORO_CREATED",
            Stage::Running => "CORO_RUNNING",
            Stage::Waiting(_) | Stage::Elsewhere(_) => "CORO_SUSPENDED",
            Stage::Over => "CORO_CLOSED",
        })
    }

    /// A frame with its name and nothing else, until it has ended.
    #[getter]
    fn cr_frame<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let ended = self.state.with(py, |state| matches!(state.stage, Stage::Over));
        if ended { Ok(None) } else { api::frame(py, self.name).map(Some) }
    }

    #[getter]
    fn cr_code<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        api::frame(py, self.name)?.try_getattr(pyo3::intern!(py, "f_code"))
    }

    /// The future that it waits for, or the method's own coroutine.
    #[getter]
    fn cr_await(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| match &state.stage {
            Stage::Waiting(waiter) => Some(waiter.clone_ref(py).into_any()),
            Stage::Elsewhere(coroutine) => Some(coroutine.clone_ref(py)),
            _ => None,
        })
    }

    #[getter]
    #[allow(clippy::unused_self, reason = "a property for Python")]
    fn cr_origin(&self) -> Option<Py<PyAny>> {
        None
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!("<coroutine object {} at {:p}>", slf.get().name, slf.as_ptr())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.state.peek_in_traverse(&visit) else { return Ok(()) };
        visit.call(&state.owner)?;
        match &state.stage {
            Stage::Waiting(waiter) => visit.call(waiter),
            Stage::Elsewhere(coroutine) => visit.call(coroutine),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| self.let_go(py));
    }
}
