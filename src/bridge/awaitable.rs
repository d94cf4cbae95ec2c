//! `RustFuture`: a Rust future as a Python awaitable, polled in place by the task that awaits it. Here is the state
//! machine; what Python sees of it is in `protocol`.
//!
//! | stage      | is                                        | `poll`                | `finish`                        |
//! |------------|-------------------------------------------|-----------------------|---------------------------------|
//! | `Created`  | not awaited yet                           | as `Idle`             | drops the future: `Dropped`     |
//! | `Idle`     | between two polls                         | `Running`, then back  | drops the future: `Dropped`     |
//! |            |                                           | here or `Over`        |                                 |
//! | `Running`  | being polled                              | RuntimeError          | `Closing`                       |
//! | `Closing`  | being polled, and dropped after that      | RuntimeError          | -                               |
//! | `Dropped`  | gone; an exception may be thrown in once  | RuntimeError          | -                               |
//! | `Over`     | gone                                      | RuntimeError          | -                               |
//!
//! A pending poll yields the awaitable itself. A task of pyloop's knows it by its type (another extension module's by
//! its registration, `link`) and does nothing more: the future has its waker. Any other task sees an asyncio future
//! (`foreign`).
//!
//! The future has a cell of its own, which is whoever's that made the stage `Running` or took it from `Created` or
//! `Idle`: a poll may run Python code that comes back here, and finds the stage.

use std::mem::ManuallyDrop;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning};
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyVisit};

use super::body::{Body, Output, SlimOutput, Slimmed, poll_body};
use super::holding::{Holding, Traverse};
use super::link::{self, Awaiter, Current, PendingIn};
use super::local;
use super::owner::{self, OwnerThread};
use super::waiters::ForeignWaiters;
use crate::accel;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::error::Slim;
use crate::py::iter::Await;
use crate::py::{api, error, names, refs};
use crate::rt::inside::{drop_inside, poll_inside};
use crate::rt::process::{generation, here};
#[cfg(feature = "loop")]
use crate::sched::trace;

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    Created,
    Idle,
    Running,
    Closing,
    Dropped,
    #[default]
    Over,
}

/// What a foreign task has to do with it.
#[derive(Default)]
pub(super) struct Foreign {
    /// Cancelled: the CancelledError's message.
    pub cancelled: Option<Option<Py<PyAny>>>,
    /// The result of a poll that `add_done_callback` had to make.
    pub early: Option<SlimOutput>,
    pub waiters: Option<Arc<ForeignWaiters>>,
}

pub(super) struct State {
    pub stage: Stage,
    /// The process that made it (`generation`).
    made_in: u32,
    /// It has just yielded itself (asyncio's protocol).
    pub blocking: bool,
    /// The step in which it was pending, until the task has taken it up.
    pub pending_in: Option<NonZeroU32>,
    /// The task to which it was pending last.
    pub awaiter: Awaiter,
    pub foreign: Option<Box<Foreign>>,
}

impl State {
    /// A poll begins, in one of the first two stages. The stage that it was in.
    #[inline(always)]
    fn begin_poll(&mut self) -> Stage {
        match self.stage {
            Stage::Created | Stage::Idle => std::mem::replace(&mut self.stage, Stage::Running),
            found => found,
        }
    }

    /// A poll was pending in a step: it is about to be yielded to the task that makes the step. True: that has not
    /// taken up what it was given before. Who resumes it while it is pending does not await it (`for`, `list()`).
    #[inline(always)]
    fn is_pending_again(&mut self, now: PendingIn) -> bool {
        self.awaiter = now.awaiter;
        match (std::mem::replace(&mut self.pending_in, now.step), now.step) {
            (Some(before), Some(step)) => now.is_taken_up || before == step,
            _ => false,
        }
    }
}

/// A Rust future that Python can await (once), on any event loop.
#[pyclass(frozen, weakref, module = "pyloop")]
pub struct RustFuture {
    pub(super) state: GilCell<State>,
    body: GilCell<Option<Body>>,
    name: &'static str,
}

impl Await for RustFuture {
    #[inline]
    fn iterator<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().begin_await(slf.py())?;
        Ok(slf.clone().into_any())
    }
}

impl RustFuture {
    /// From a future that may be polled by any thread. `name`: what it is called in reports and task dumps.
    #[inline]
    pub fn new(name: &'static str, future: impl Future<Output = Output> + Send + 'static) -> Self {
        owner::receive();
        Self::from_body(name, Body::Send(Box::pin(Slimmed(future))))
    }

    /// `new`, of a future that the cycle collector sees into.
    #[inline]
    pub(crate) fn seen(name: &'static str, future: impl Future<Output = Output> + Traverse + Send + 'static) -> Self {
        owner::receive();
        Self::from_body(name, Body::Seen(Box::pin(Slimmed(future))))
    }

    /// From a future that waits and a function of what it gives; `held` is that function's, which the cycle collector
    /// sees meanwhile. The two others hold nothing of Python's.
    #[inline]
    pub(crate) fn holding<H: Traverse + Send + 'static, F: Future + Send + 'static>(
        name: &'static str,
        held: H,
        future: F,
        finish: impl FnOnce(F::Output, H) -> Output + Send + 'static,
    ) -> Self {
        Self::seen(name, Holding::new(held, future, finish))
    }

    /// From a future that must stay on this thread: it must be awaited here. Let go of elsewhere, it comes back here to
    /// be dropped.
    #[inline]
    pub fn new_local(name: &'static str, future: impl Future<Output = Output> + 'static) -> Self {
        owner::receive();
        Self::from_body(name, Body::Local(ManuallyDrop::new(Box::pin(Slimmed(future))), OwnerThread::here()))
    }

    /// `new` and `into_object` in one, which puts the fields together where they stay.
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub(super) fn object<'py>(
        py: Python<'py>,
        name: &'static str,
        future: impl Future<Output = SlimOutput> + Send + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        owner::receive();
        let future = Box::pin(future);
        Self::create(py, || (Self::from_body(name, Body::Send(future)),)).map(Bound::into_any)
    }

    /// `new_local` and `into_object` in one.
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub(super) fn local_object<'py>(
        py: Python<'py>,
        name: &'static str,
        future: impl Future<Output = SlimOutput> + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        owner::receive();
        let (future, owner) = (Box::pin(future), OwnerThread::here());
        let make = || (Self::from_body(name, Body::Local(ManuallyDrop::new(future), owner)),);
        Self::create(py, make).map(Bound::into_any)
    }

    /// As a Python object. One that is not seen into is not tracked by the cycle collector, until `foreign` adds
    /// something to it.
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub fn into_object(mut self, py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        let seen = matches!(self.body.get_mut(), Some(Body::Seen(_)));
        let object = Self::create(py, || (self,))?;
        if seen {
            refs::show(object.as_any());
        }
        Ok(object)
    }

    #[inline(always)]
    fn create(py: Python<'_>, make: impl FnOnce() -> (Self,)) -> PyResult<Bound<'_, Self>> {
        accel::create_late(py, make)
    }

    #[inline(always)]
    fn from_body(name: &'static str, body: Body) -> Self {
        let state = State {
            stage: Stage::Created,
            made_in: generation(),
            blocking: false,
            pending_in: None,
            awaiter: None,
            foreign: None,
        };
        Self { state: GilCell::new(state), body: GilCell::new(Some(body)), name }
    }

    /// Its name, as given or as made from the type of the future: `"crate::function::{{closure}}"` reads
    /// `"crate.function"`.
    pub(super) fn name(&self) -> std::borrow::Cow<'static, str> {
        if self.name.contains("::") {
            let plain = self.name.split('<').next().unwrap_or_default();
            self.name_without_closures(plain).into()
        } else {
            self.name.into()
        }
    }

    fn name_without_closures(&self, plain: &str) -> String {
        let parts = plain.split("::").filter(|part| !part.starts_with("{{"));
        parts.collect::<Vec<_>>().join(".")
    }

    #[cold]
    pub(super) fn not_awaited() -> PyErr {
        PyRuntimeError::new_err("await wasn't used with future")
    }

    /// A task takes it up, which it was given at the end of this step. False: it was not polled in that step and does
    /// not know the task's waker; asyncio's protocol is to be used.
    #[cfg(feature = "loop")]
    #[inline]
    pub(crate) fn take_up(&self, py: Python<'_>, step: u32) -> bool {
        self.state.with(py, |state| {
            let knows = state.pending_in.take().is_some_and(|pending| pending.get() == step);
            state.blocking = !knows;
            knows
        })
    }

    /// Whether nobody has awaited it yet.
    #[cfg(feature = "loop")]
    pub(crate) fn is_new(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.stage == Stage::Created)
    }

    /// One poll.
    pub(super) fn poll(&self, py: Python<'_>, current: &Current<'_>) -> Slim<Poll<SlimOutput>> {
        self.begin_poll(py)?;
        self.go_on_polling(py, current)
    }

    /// The poll that has begun.
    #[inline(always)]
    pub(super) fn go_on_polling(&self, py: Python<'_>, current: &Current<'_>) -> Slim<Poll<SlimOutput>> {
        current.note_poll(py);
        let began = Began::now(current.debug);
        let mut cx = Context::from_waker(current.waker);
        // Held through the poll and whatever Python code it runs: who comes back here finds the stage and stays away.
        let polled = error::catch_panic_slim(|| {
            self.body.with(py, |body| here(|here| poll_inside(here, local::enter, || poll_body(here, body, &mut cx))?))
        });
        let pending = matches!(polled, Ok(Poll::Pending));
        let now = if pending { Self::note_pending(py, current) } else { None };
        let (closed, again) = self.state.with(py, |state| {
            let closed = pending && state.stage != Stage::Running;
            state.stage = if pending && !closed { Stage::Idle } else { Stage::Over };
            (closed, now.is_some_and(|now| state.is_pending_again(now)))
        });
        if !began.is_nothing() {
            self.polled(py, &began)?;
        }
        if closed {
            self.drop_body(py)?;
            return Err(Box::new(PyRuntimeError::new_err("the Rust future was closed while it was polled")));
        }
        if polled.is_err()
            // It panicked, and is there still.
            && let Err(second) = self.drop_body(py)
        {
            error::unraisable(py, second, None);
        }
        if again {
            return Err(Box::new(Self::not_awaited()));
        }
        polled
    }

    #[inline]
    fn begin_poll(&self, py: Python<'_>) -> Slim<()> {
        Self::check_begun(self.state.with(py, State::begin_poll))
    }

    /// Begin a poll of one that no task of another class has to do with. False: one has, and nothing has begun.
    #[inline(always)]
    pub(super) fn begin_plain_poll(&self, py: Python<'_>) -> Slim<bool> {
        let found = self.state.with(py, |state| if state.foreign.is_some() { None } else { Some(state.begin_poll()) });
        found.map_or(Ok(false), |found| Self::check_begun(found).map(|()| true))
    }

    #[inline(always)]
    fn check_begun(found: Stage) -> Slim<()> {
        let refused = match found {
            Stage::Created | Stage::Idle => return Ok(()),
            Stage::Running | Stage::Closing => "the Rust future is being polled already",
            Stage::Dropped | Stage::Over => "cannot reuse already awaited Rust future",
        };
        Err(Box::new(PyRuntimeError::new_err(refused)))
    }

    /// A poll that was timed: for a trace, in debug mode, or both.
    #[cold]
    fn polled(&self, py: Python<'_>, began: &Began) -> PyResult<()> {
        #[cfg(feature = "loop")]
        if let Some(since) = began.traced {
            trace::polled(py, since, self.name.as_ptr().addr(), || self.name().into_owned());
        }
        began.debug.map_or(Ok(()), |began| self.report_slow(py, began))
    }

    /// Debug mode: tell of a poll that took longer than `loop.slow_callback_duration`, by the future's name.
    #[cold]
    fn report_slow(&self, py: Python<'_>, began: Instant) -> PyResult<()> {
        let took = began.elapsed().as_secs_f64();
        let event_loop = names::running_loop(py)?;
        let limit = event_loop.try_getattr_opt(pyo3::intern!(py, "slow_callback_duration"))?;
        if limit.is_some_and(|limit| limit.try_float().is_ok_and(|limit| took >= limit)) {
            let logger = py.import("logging")?.try_call_method("getLogger", ("asyncio",))?;
            logger.try_call_method("warning", ("Polling Rust future %r took %.3f seconds", self.name(), took))?;
        }
        Ok(())
    }

    /// Drop the future, now or when its poll ends.
    ///
    /// # Errors
    /// The PanicException of its destructor.
    pub(crate) fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let (ours, waiters) = self.state.with(py, |state| {
            state.blocking = false;
            let found = state.stage;
            state.stage = match found {
                Stage::Created | Stage::Idle => Stage::Dropped,
                Stage::Running => Stage::Closing,
                other => other,
            };
            let ours = matches!(found, Stage::Created | Stage::Idle);
            (ours, state.foreign.as_ref().and_then(|foreign| foreign.waiters.clone()))
        });
        if let Some(waiters) = waiters {
            waiters.disarm();
        }
        if ours { self.drop_body(py) } else { Ok(()) }
    }

    /// Drop the future inside its runtime; its destructor may panic.
    fn drop_body(&self, py: Python<'_>) -> PyResult<()> {
        self.take_body(py).map_or(Ok(()), drop_body)
    }

    /// The future, for the caller to drop.
    fn take_body(&self, py: Python<'_>) -> Option<Body> {
        let body = self.body.take(py)?;
        if self.is_inherited(py) {
            // What it has registered with its parent's reactor stays registered.
            std::mem::forget(body);
            return None;
        }
        Some(body)
    }

    /// The cycle collector found it to be garbage: what it holds goes.
    pub(super) fn clear_body(&self, py: Python<'_>) {
        if !self.body.with(py, |body| matches!(body, Some(Body::Seen(_)))) {
            return;
        }
        let stage = self.state.with(py, |state| std::mem::take(&mut state.stage));
        self.end(py, stage);
    }

    /// Drop the future inside, with a coroutine's warning if it was never awaited.
    fn end(&self, py: Python<'_>, stage: Stage) {
        let _preserved = error::PreserveError::new(py);
        if stage == Stage::Created && !self.is_inherited(py) {
            warn_never_awaited(py, &self.name());
        }
        if let Some(body) = self.take_body(py) {
            api::release(move || {
                if let Err(raised) = drop_body(body) {
                    Python::attach(|py| error::unraisable(py, raised, None));
                }
            });
        }
    }

    /// Whether this is a forked child, and the future was made by its parent.
    fn is_inherited(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.made_in != generation())
    }

    /// It is awaited now.
    pub(super) fn begin_await(&self, py: Python<'_>) -> PyResult<()> {
        if self.begin(py) { Ok(()) } else { self.await_again(py) }
    }

    /// CPython's `anext(iterator, default)` asks for the iterator anew in each of its steps, also to throw into it or
    /// to close it. Who awaits gets it again, and who is no task: that drives it by hand, or closes it.
    #[cold]
    fn await_again(&self, py: Python<'_>) -> PyResult<()> {
        let begun = |stage| matches!(stage, Stage::Idle | Stage::Dropped);
        let (begun, known) = self.state.with(py, |state| (begun(state.stage), state.awaiter));
        if begun {
            let awaiter = link::awaiter(py)?;
            if awaiter.is_none() || awaiter == known {
                return Ok(());
            }
        }
        Err(self.reused())
    }

    /// A poll outside of the steps of our tasks.
    ///
    /// # Errors
    /// RuntimeError: another task awaits it.
    pub(super) fn check_awaiter(&self, py: Python<'_>) -> PyResult<()> {
        let known = self.state.with(py, |state| if state.stage == Stage::Idle { state.awaiter } else { None });
        if known.is_some() && known != link::awaiter(py)? { Err(self.awaited_twice()) } else { Ok(()) }
    }

    /// True: it had not been awaited before.
    #[inline]
    pub(super) fn begin(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| {
            let begins = state.stage == Stage::Created;
            if begins {
                state.stage = Stage::Idle;
            }
            // Or it was cancelled before: that is what its one await is told.
            let cancelled = |foreign: &Foreign| foreign.cancelled.is_some() && foreign.waiters.is_none();
            begins || state.foreign.as_deref().is_some_and(cancelled)
        })
    }

    #[cold]
    pub(super) fn reused(&self) -> PyErr {
        PyRuntimeError::new_err(format!("cannot reuse already awaited Rust future '{}'", self.name()))
    }
}

impl Traverse for RustFuture {
    /// What the future inside holds; nothing while it is polled.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.body.peek_in_traverse(visit) {
            Some(Some(Body::Seen(future))) => future.traverse(visit),
            _ => Ok(()),
        }
    }
}

impl Drop for RustFuture {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if matches!(state.stage, Stage::Over | Stage::Dropped) && state.foreign.is_none() {
            return;
        }
        Python::attach(|py| {
            let (stage, foreign) =
                self.state.with(py, |state| (std::mem::take(&mut state.stage), state.foreign.take()));
            if let Some(waiters) = foreign.and_then(|foreign| foreign.waiters) {
                waiters.clear(py);
            }
            self.end(py, stage);
        });
    }
}

/// When a poll began, for those who want to know.
struct Began {
    /// Debug mode.
    debug: Option<Instant>,
    /// A trace, which is taken by the copy that has the loop.
    traced: Option<u64>,
}

impl Began {
    #[inline(always)]
    fn now(debug: bool) -> Self {
        #[cfg(feature = "loop")]
        let traced = trace::begins();
        #[cfg(not(feature = "loop"))]
        let traced = None;
        Self { debug: debug.then(Instant::now), traced }
    }

    #[inline(always)]
    fn is_nothing(&self) -> bool {
        self.debug.is_none() && self.traced.is_none()
    }
}

fn drop_body(body: Body) -> PyResult<()> {
    error::catch_panic(|| drop_inside(|| drop(body)))
}

/// "coroutine '…' was never awaited", as for a coroutine.
pub(crate) fn warn_never_awaited(py: Python<'_>, name: &str) {
    let text = std::ffi::CString::new(format!("coroutine '{name}' was never awaited")).unwrap_or_default();
    let category = py.get_type::<PyRuntimeWarning>();
    if let Err(raised) = error::warn(&category, &text) {
        error::unraisable(py, raised, Some(PyString::new(py, name).as_any()));
    }
}
