//! `RustFuture`: a Rust future as a Python awaitable, polled in place by the task that awaits it.
//!
//! | state      | `poll`                       | `cancel`/`close`/`throw`, last reference gone |
//! |------------|------------------------------|------------------------------------------------|
//! | `Idle`     | `Running` -> `Idle` or done  | drops the future: `Over`                       |
//! | `Running`  | RuntimeError                 | marks; the poll drops the future when it ends  |
//! | `Over`     | RuntimeError                 | nothing                                        |
//!
//! A pending poll yields the awaitable itself. A task of ours knows it by its type and does nothing more: the future
//! has its waker. Any other task sees an asyncio future (`_asyncio_future_blocking`, `add_done_callback`, `result`,
//! `cancel`), which polls once more with a waker for that task (`foreign`).
//!
//! The future is taken out of the cell while it is polled: it may run Python code that comes back here.

use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::ThreadId;

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::cx;
use super::foreign::ForeignWaiters;
use super::step::Stepped;
use crate::py::asyncio::asyncio;
use crate::py::cell::GilCell;
use crate::py::{context, error, iter};
use crate::sched::LoopShared;
use crate::sched::runtime::{drop_in_context, in_context};
use crate::sched::shared::this_thread;

type Output = PyResult<Py<PyAny>>;

/// The future inside: one that may move between threads, or one that must stay on its own.
enum Body {
    Send(Pin<Box<dyn Future<Output = Output> + Send>>),
    Local(ManuallyDrop<Pin<Box<dyn Future<Output = Output>>>>, ThreadId),
}

// SAFETY: the `Local` future is polled and dropped on its own thread only: `poll` and `drop` compare the thread, and
// what would have to be dropped elsewhere goes home (`crate::bridge::awaitable::send_home`).
unsafe impl Send for Body {}

impl Body {
    fn poll(&mut self, cx: &mut Context<'_>) -> PyResult<Poll<Output>> {
        match self {
            Self::Send(future) => Ok(future.as_mut().poll(cx)),
            Self::Local(future, home) if *home == this_thread() => Ok(future.as_mut().poll(cx)),
            Self::Local(..) => {
                Err(PyRuntimeError::new_err("a Rust future that is not Send was awaited on another thread"))
            }
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Self::Local(future, home) = self {
            // SAFETY: taken once, in the destructor.
            let future = unsafe { ManuallyDrop::take(future) };
            if *home == this_thread() {
                drop(future);
            } else {
                home::send(*home, future);
                if let Some(running) = LoopShared::running_on(*home) {
                    running.send(Arc::new(home::Collect));
                }
            }
        }
    }
}

/// Drop the local futures that came home to this thread: at the begin of each run.
pub fn receive_at_home() {
    home::receive();
}

/// Local futures that were let go of on a foreign thread, on their way home.
mod home {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::thread::ThreadId;

    use super::{Future, Output, Pin, this_thread};

    struct Parcel(#[expect(dead_code, reason = "only dropped")] Pin<Box<dyn Future<Output = Output>>>);
    // SAFETY: a parcel is not opened on the way: it is dropped on the thread it is addressed to, or never.
    unsafe impl Send for Parcel {}

    static PARCELS: LazyLock<Mutex<HashMap<ThreadId, Vec<Parcel>>>> = LazyLock::new(Mutex::default);
    static WAITING: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

    pub(super) fn send(home: ThreadId, future: Pin<Box<dyn Future<Output = Output>>>) {
        PARCELS.lock().unwrap_or_else(PoisonError::into_inner).entry(home).or_default().push(Parcel(future));
        WAITING.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }

    /// Has the home thread's loop drop what has come.
    pub(super) struct Collect;

    impl crate::sched::Deliver for Collect {
        fn deliver(self: std::sync::Arc<Self>, _py: pyo3::Python<'_>, _state: &crate::sched::LoopState) {
            receive();
        }
    }

    /// Drop what has come home. A thread that has ended never asks: its parcels are never dropped, which is the one
    /// safe thing to do with a value of a thread that is gone.
    pub(super) fn receive() {
        if WAITING.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            return;
        }
        let mine = PARCELS.lock().unwrap_or_else(PoisonError::into_inner).remove(&this_thread());
        if let Some(mine) = mine {
            WAITING.fetch_sub(mine.len(), std::sync::atomic::Ordering::SeqCst);
            drop(mine);
        }
    }
}

#[derive(Default)]
enum Stage {
    Idle(Body),
    Running,
    #[default]
    Over,
}

#[derive(Default)]
struct State {
    stage: Stage,
    /// `__await__` has been called, or a task has begun with it.
    awaited: bool,
    /// It was closed while it was polled.
    closed: bool,
    /// A cancelled task has had it dropped; its exception is on the way.
    dropped: bool,
    /// It has just yielded itself (asyncio's protocol).
    blocking: bool,
    /// Cancelled by a foreign task: the CancelledError's message.
    cancelled: Option<Option<Py<PyAny>>>,
    /// The result of the poll that a foreign task's `add_done_callback` made.
    early: Option<Output>,
    waiters: Option<Arc<ForeignWaiters>>,
}

/// A Rust future that Python can await (once), on any event loop.
#[pyclass(frozen, weakref, module = "pyloop")]
pub struct RustFuture {
    state: GilCell<State>,
    name: &'static str,
}

impl RustFuture {
    /// From a future that may be polled by any thread.
    pub fn new(name: &'static str, future: impl Future<Output = Output> + Send + 'static) -> Self {
        Self::from_body(name, Body::Send(Box::pin(future)))
    }

    /// From a future that must stay on this thread.
    pub fn new_local(name: &'static str, future: impl Future<Output = Output> + 'static) -> Self {
        Self::from_body(name, Body::Local(ManuallyDrop::new(Box::pin(future)), this_thread()))
    }

    fn from_body(name: &'static str, body: Body) -> Self {
        home::receive();
        Self { state: GilCell::new(State { stage: Stage::Idle(body), ..State::default() }), name }
    }

    /// A task of ours steps it: as its coroutine, without the iterator protocol.
    pub(super) fn step<'py>(slf: &Bound<'py, Self>, first: bool) -> PyResult<Stepped<'py>> {
        if first {
            slf.get().begin_await(slf.py())?;
        }
        match Self::advance(slf)? {
            Poll::Ready(value) => Ok(Stepped::Returned(value)),
            Poll::Pending => Ok(Stepped::Polled(slf.clone())),
        }
    }

    /// Poll with the waker of the step that is running; without one the first poll only tries.
    fn advance<'py>(slf: &Bound<'py, Self>) -> PyResult<Poll<Bound<'py, PyAny>>> {
        let (py, this) = (slf.py(), slf.get());
        let (early, cancelled, old) =
            this.state.with(py, |state| (state.early.take(), state.cancelled.take(), state.waiters.take()));
        if let Some(waiting) = old
            && !waiting.is_over(py)
        {
            // Another task waits for it: it goes on doing so.
            drop(this.state.with(py, |state| state.waiters.replace(waiting)));
            return Err(PyRuntimeError::new_err(format!("Rust future '{}' is being awaited already", this.name)));
        }
        if let Some(message) = cancelled {
            return Err(cancelled_error(py, message)?);
        }
        let polled = match early {
            Some(result) => Poll::Ready(result),
            None => cx::current(|waker| {
                let polled = this.poll(py, waker.unwrap_or(Waker::noop()))?;
                if polled.is_pending() && waker.is_none() {
                    // Driven by a task of another class, or by hand: whoever it is, a loop must be there to wake it.
                    running_loop(py)?;
                }
                Ok::<_, PyErr>(polled)
            })?,
        };
        match polled {
            Poll::Ready(Ok(value)) => Ok(Poll::Ready(value.into_bound(py))),
            Poll::Ready(Err(raised)) => Err(iter::raised_by_coroutine(py, raised)),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn poll(&self, py: Python<'_>, waker: &Waker) -> PyResult<Poll<Output>> {
        let taken = self.state.with(py, |state| match std::mem::replace(&mut state.stage, Stage::Running) {
            Stage::Idle(body) => Ok(body),
            Stage::Running => Err("the Rust future is being polled already"),
            Stage::Over => {
                state.stage = Stage::Over;
                Err("cannot reuse already awaited Rust future")
            }
        });
        let mut body = taken.map_err(PyRuntimeError::new_err)?;
        let polled = error::catch_panic(|| in_context(|| body.poll(&mut Context::from_waker(waker))));
        let pending = matches!(polled, Ok(Ok(Ok(Poll::Pending))));
        let over = self.state.with(py, |state| {
            if pending && !state.closed {
                state.stage = Stage::Idle(body);
                None
            } else {
                state.stage = Stage::Over;
                Some(body)
            }
        });
        let was_closed = pending && over.is_some();
        drop_body(over)?;
        if was_closed {
            return Err(PyRuntimeError::new_err("the Rust future was closed while it was polled"));
        }
        polled?.and_then(|polled| polled)
    }

    /// Drop the future, now or when its poll ends.
    ///
    /// # Errors
    /// The PanicException of its destructor.
    pub fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let (body, waiters) = self.state.with(py, |state| {
            state.awaited = true;
            state.blocking = false;
            let body = match std::mem::take(&mut state.stage) {
                Stage::Idle(body) => {
                    state.dropped = true;
                    Some(body)
                }
                Stage::Running => {
                    state.closed = true;
                    state.stage = Stage::Running;
                    None
                }
                Stage::Over => None,
            };
            (body, state.waiters.take())
        });
        drop(waiters);
        drop_body(body)
    }

    fn begin_await(&self, py: Python<'_>) -> PyResult<()> {
        let again = self.state.with(py, |state| std::mem::replace(&mut state.awaited, true));
        if again {
            return Err(PyRuntimeError::new_err(format!("cannot reuse already awaited Rust future '{}'", self.name)));
        }
        Ok(())
    }
}

/// `asyncio.get_running_loop()`.
fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let event_loop = asyncio(py)?.get_running_loop.bind(py).call0()?;
    if event_loop.is_none() {
        return Err(PyRuntimeError::new_err("no running event loop"));
    }
    Ok(event_loop)
}

/// Drop a future inside its runtime's context; its destructor may panic.
fn drop_body(body: Option<Body>) -> PyResult<()> {
    match body {
        Some(body) => error::catch_panic(|| drop_in_context(|| drop(body))),
        None => Ok(()),
    }
}

fn cancelled_error(py: Python<'_>, message: Option<Py<PyAny>>) -> PyResult<PyErr> {
    let class = asyncio(py)?.cancelled_error.bind(py);
    let exception = match message {
        Some(message) => class.call1((message,))?,
        None => class.call0()?,
    };
    Ok(PyErr::from_value(exception))
}

#[pymethods]
impl RustFuture {
    #[classmethod]
    #[pyo3(signature = (item, /))]
    fn __class_getitem__(class: &Bound<'_, PyType>, item: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = class.py();
        Ok(py.import("types")?.getattr("GenericAlias")?.call1((class, item))?.unbind())
    }

    fn __await__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        slf.begin_await(slf.py())?;
        Ok(slf)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, Self>>> {
        // Some tasks drive a coroutine by this alone.
        slf.get().state.with(slf.py(), |state| state.awaited = true);
        match Self::advance(slf)? {
            Poll::Pending => {
                slf.get().state.with(slf.py(), |state| state.blocking = true);
                Ok(Some(slf.clone()))
            }
            Poll::Ready(value) if value.is_none() => Ok(None),
            Poll::Ready(value) => Err(iter::stop_iteration(slf.py(), value)),
        }
    }

    /// As a coroutine's: poll once; yields while pending, StopIteration with the result.
    #[pyo3(signature = (value, /))]
    fn send<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        let begun = slf.get().state.with(py, |state| std::mem::replace(&mut state.awaited, true));
        if !begun && !value.is_none() {
            return Err(PyTypeError::new_err("can't send non-None value to a just-started coroutine"));
        }
        Self::__next__(slf)?.ok_or_else(|| iter::stop_iteration(py, py.None().into_bound(py)))
    }

    /// As a coroutine's: the future is dropped and the exception raised.
    #[pyo3(signature = (typ, val = None, tb = None, /))]
    fn throw(
        slf: &Bound<'_, Self>,
        typ: &Bound<'_, PyAny>,
        val: Option<&Bound<'_, PyAny>>,
        tb: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let raised = iter::thrown(typ, val, tb)?;
        let over = slf.get().state.with(slf.py(), |state| {
            matches!(state.stage, Stage::Over) && state.cancelled.take().is_none() && !state.dropped
        });
        if over {
            return Err(PyRuntimeError::new_err(format!(
                "cannot reuse already awaited Rust future '{}'",
                slf.get().name
            )));
        }
        slf.get().finish(slf.py())?;
        slf.get().state.with(slf.py(), |state| state.dropped = false);
        Err(raised)
    }

    /// Drop the future: it is cancelled where it stands.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.finish(py)
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.name
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        self.name
    }

    #[getter]
    fn cr_running(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| matches!(state.stage, Stage::Running))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let stage = slf.get().state.with(slf.py(), |state| match state.stage {
            Stage::Idle(_) if !state.awaited => "created",
            Stage::Idle(_) => "pending",
            Stage::Running => "running",
            Stage::Over => "finished",
        });
        format!("<RustFuture {} {stage}>", slf.get().name)
    }

    /// None, but for the moment in which a foreign task looks at what it was given (`asyncio.isfuture` is False).
    #[getter]
    fn _asyncio_future_blocking(&self, py: Python<'_>) -> Option<bool> {
        self.state.with(py, |state| state.blocking).then_some(true)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_private_asyncio_future_blocking(&self, py: Python<'_>, blocking: &Bound<'_, PyAny>) -> PyResult<()> {
        let blocking = blocking.is_truthy()?;
        self.state.with(py, |state| state.blocking = blocking);
        Ok(())
    }

    fn get_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.state.with(py, |state| state.waiters.clone()) {
            Some(waiters) => Ok(waiters.event_loop(py)),
            None => running_loop(py),
        }
    }

    /// A foreign task waits: poll with a waker that will call it.
    #[pyo3(signature = (r#fn, /, *, context = None))]
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: Py<PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let context = match context {
            Some(context) if !context.is_none(py) => context,
            _ => context::copy_current(py)?,
        };
        let event_loop = running_loop(py)?;
        let waiters = ForeignWaiters::new(&event_loop, slf.as_any());
        waiters.add(py, r#fn, context);
        let old = this.state.with(py, |state| state.waiters.replace(Arc::clone(&waiters)));
        drop(old);
        let waker = Waker::from(Arc::clone(&waiters));
        let result = match this.poll(py, &waker) {
            Ok(Poll::Pending) => return Ok(()),
            Ok(Poll::Ready(result)) => result,
            Err(raised) => Err(raised),
        };
        drop(this.state.with(py, |state| state.early.replace(result)));
        waiters.fire(py)
    }

    #[pyo3(signature = (r#fn, /))]
    fn remove_done_callback(&self, py: Python<'_>, r#fn: &Bound<'_, PyAny>) -> PyResult<usize> {
        match self.state.with(py, |state| state.waiters.clone()) {
            Some(waiters) => waiters.remove(py, r#fn),
            None => Ok(0),
        }
    }

    /// A foreign task was woken: None sends it on to the next poll, CancelledError is thrown into it.
    fn result(&self, py: Python<'_>) -> PyResult<()> {
        match self.state.with(py, |state| state.cancelled.take()) {
            Some(message) => Err(cancelled_error(py, message)?),
            None => Ok(()),
        }
    }

    /// A foreign task is cancelled: the future is dropped at once.
    #[pyo3(signature = (msg = None))]
    fn cancel(&self, py: Python<'_>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let waiters = self.state.with(py, |state| state.waiters.clone());
        let Some(waiters) = waiters else { return Ok(false) };
        self.finish(py)?;
        let (old, early) = self.state.with(py, |state| {
            state.dropped = true;
            (state.cancelled.replace(msg), state.early.take())
        });
        drop((old, early));
        waiters.fire(py)?;
        Ok(true)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.state.peek_in_traverse() else { return Ok(()) };
        if let Some(Ok(value)) = &state.early {
            visit.call(value)?;
        }
        if let Some(Some(message)) = &state.cancelled {
            visit.call(message)?;
        }
        state.waiters.as_ref().map_or(Ok(()), |waiters| waiters.traverse(&visit))
    }

    fn __clear__(&self) {
        Python::attach(|py| {
            if let Some(waiters) = self.state.with(py, |state| state.waiters.take()) {
                waiters.clear(py);
            }
        });
    }
}

impl Drop for RustFuture {
    fn drop(&mut self) {
        Python::attach(|py| {
            let _preserved = error::PreserveError::new(py);
            let (unawaited, body) = self.state.with(py, |state| {
                let unawaited = !state.awaited && matches!(state.stage, Stage::Idle(_));
                let body = match std::mem::take(&mut state.stage) {
                    Stage::Idle(body) => Some(body),
                    Stage::Running | Stage::Over => None,
                };
                (unawaited, body)
            });
            if unawaited {
                warn_never_awaited(py, self.name);
            }
            if let Err(raised) = drop_body(body) {
                error::unraisable(py, raised, None);
            }
        });
    }
}

/// "coroutine '…' was never awaited", as for a coroutine.
fn warn_never_awaited(py: Python<'_>, name: &str) {
    let text = std::ffi::CString::new(format!("coroutine '{name}' was never awaited")).unwrap_or_default();
    let category = py.get_type::<PyRuntimeWarning>();
    if let Err(raised) = PyErr::warn(py, &category, &text, 1) {
        error::unraisable(py, raised, Some(PyString::new(py, name).as_any()));
    }
}
