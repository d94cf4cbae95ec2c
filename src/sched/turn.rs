//! One turn: the root future of a run. Each poll runs batches while anything is ready, for a bounded time.
//!
//! ```text
//! signals -> inbox -> ready descriptors -> due timers -> one batch of ready entries -> stop? -> again, or park
//! ```
//!
//! Runs on the loop's thread with the GIL held. No cell is borrowed while an entry runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tokio::task::coop;

use super::handle::Handle;
use super::run::check_process;
use super::runtime::EngineRef;
use super::shared::Deliver;
use super::state::{Done, Entry, LoopState, Reactor, step};
use super::thread_safe_handle::ThreadSafeHandle;
use super::timer_handle::TimerHandle;
use crate::accel::pool;
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::error::Slim;
use crate::py::{call, context, error};

/// How long one poll may keep the driver waiting while there is ready work. A look at the driver costs about half a
/// microsecond, so this keeps its cost below half a percent and delays I/O by no more than a short callback would.
const SLICE: Duration = Duration::from_micros(150);
/// Entries between two looks at the clock: a look costs as much as a short callback.
const ENTRIES_PER_LOOK: usize = 64;
/// Batches between two looks at the clock.
const BATCHES_PER_LOOK: u32 = 16;

/// The root future of one run of a loop. Ends when the loop is stopped, or with an error that ends the run.
pub(super) struct Turns {
    event_loop: Py<LoopState>,
    engine: EngineRef,
    reactor: Option<Arc<dyn Reactor>>,
    messages: Vec<Arc<dyn Deliver>>,
    /// The run's first poll only lets tokio look for events, as asyncio's first `select(0)` does; so a run of one
    /// turn sees what has become ready since the last one.
    fresh: bool,
    looked_at_io: bool,
}

impl Turns {
    pub(super) fn new(event_loop: Py<LoopState>, engine: EngineRef, reactor: Option<Arc<dyn Reactor>>) -> Self {
        Self { event_loop, engine, reactor, messages: Vec::new(), fresh: true, looked_at_io: false }
    }
}

/// How a poll of the turn goes on.
enum Next {
    Stop,
    Park,
    Again,
}

impl Future for Turns {
    type Output = PyResult<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if std::mem::take(&mut this.fresh) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Python::attach(|py| {
            let event_loop = this.event_loop.clone_ref(py).into_bound(py);
            let state = event_loop.get();
            state.shared.register(cx.waker());
            state.shared.inbox.enter();
            // What panics in here is a mistake of ours, and ends the run in an orderly way.
            let ran = error::catch_panic(|| this.run(&event_loop, cx)).and_then(|ran| ran);
            state.contexts.leave(py);
            match ran {
                Ok(Next::Stop) => Poll::Ready(state.leave_task(py, event_loop.as_any())),
                Ok(Next::Park) => Poll::Pending,
                Ok(Next::Again) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Err(raised) => {
                    if let Err(second) = state.leave_task(py, event_loop.as_any()) {
                        error::unraisable(py, second, Some(event_loop.as_any()));
                    }
                    Poll::Ready(Err(raised))
                }
            }
        })
    }
}

impl Turns {
    fn run(&mut self, event_loop: &Bound<'_, LoopState>, cx: &mut Context<'_>) -> PyResult<Next> {
        let py = event_loop.py();
        let state = event_loop.get();
        let mut slice = Slice::new();
        // Descriptors become ready when tokio's driver has run, between two polls.
        let mut look_again = true;
        // Python's own code runs the handlers of signals that arrive while it runs; this is for those that woke us.
        error::check_signals(py)?;
        if state.shared.is_inherited() {
            return end_in_child(event_loop);
        }
        loop {
            self.take_messages(event_loop)?;
            if look_again {
                look_again = self.look_at_descriptors(py, state, cx)?;
                // Those that waited for descriptors.
                self.take_messages(event_loop)?;
            }
            fire_timers(py, state);
            if state.ready.with(py, |ready| ready.begin_batch()) {
                let finished = run_batch(event_loop, &mut slice).map_err(|raised| *raised)?;
                if !finished {
                    return Ok(Next::Again);
                }
            }
            state.counters.with(py, |counters| counters.turns += 1);
            if state.shared.is_inherited() {
                return end_in_child(event_loop);
            }
            if state.shared.lifecycle.is_stopping() {
                return Ok(Next::Stop);
            }
            if state.ready.with(py, |ready| ready.is_empty()) {
                state.contexts.forget(py);
                state.leave_task(py, event_loop.as_any())?;
                pool::trim::<Handle>(py);
                pool::trim::<TimerHandle>(py);
                let check_at = self.reactor.as_ref().and_then(|reactor| reactor.before_sleep(py));
                // A context, `leave_task` or a waker may have run Python code.
                let idle = state.ready.with(py, |ready| ready.is_empty()) && !look_again;
                if idle && self.set_alarm(py, state, check_at, cx) && state.shared.inbox.leave() {
                    return Ok(Next::Park);
                }
            }
            if slice.is_over() {
                return Ok(Next::Again);
            }
        }
    }

    fn take_messages(&mut self, event_loop: &Bound<'_, LoopState>) -> PyResult<()> {
        let (py, state) = (event_loop.py(), event_loop.get());
        if !state.shared.inbox.take(&mut self.messages) {
            return Ok(());
        }
        state.contexts.leave(py);
        let count = self.messages.len() as u64;
        state.counters.with(py, |counters| counters.messages += count);
        let mut messages = self.messages.drain(..);
        // One that panics takes none of the others with it.
        while contained(event_loop, || messages.by_ref().for_each(|message| message.deliver(py, state)))?.is_none() {}
        Ok(())
    }

    fn look_at_descriptors(&mut self, py: Python<'_>, state: &LoopState, cx: &mut Context<'_>) -> PyResult<bool> {
        let fresh_run = !std::mem::replace(&mut self.looked_at_io, true);
        match &self.reactor {
            Some(reactor) => reactor.poll_ready(py, state, cx, fresh_run),
            None => Ok(false),
        }
    }

    /// Be woken for the earliest timer, or for what the descriptors need looking after. False: it is due already.
    fn set_alarm(&self, py: Python<'_>, state: &LoopState, check_at: Option<u64>, cx: &mut Context<'_>) -> bool {
        let timer = state.timers.with(py, |timers| timers.earliest());
        let Some(when) = timer.into_iter().chain(check_at).min() else { return true };
        let now = clock();
        if when <= now {
            if let Some(reactor) = self.reactor.as_ref().filter(|_| check_at.is_some_and(|at| at <= now)) {
                reactor.check(py, now);
            }
            return false;
        }
        self.engine.alarm.with(py, |alarm| alarm.set(when, now, cx));
        true
    }
}

/// A callback or a step has forked, and this is the child, whose copy of the queue has been emptied
/// (`LoopState::leave_to_parent`). What the child itself has queued since runs: if the main task has ended, that ends the
/// run. Nothing here may wait, or look at the reactor, which is the parent's.
///
/// # Errors
/// What ends a run; RuntimeError when nothing is ready.
#[cold]
fn end_in_child(event_loop: &Bound<'_, LoopState>) -> PyResult<Next> {
    let py = event_loop.py();
    let state = event_loop.get();
    while !state.shared.lifecycle.is_stopping() {
        if !state.ready.with(py, |ready| ready.begin_batch()) {
            check_process(state)?;
        }
        // tokio's budget is for a poll, and there is no other poll to come.
        let batch =
            coop::unconstrained(std::future::poll_fn(|_| Poll::Ready(run_batch(event_loop, &mut Slice::new()))));
        let batch = std::pin::pin!(batch).poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Err(raised)) = batch {
            return Err(*raised);
        }
    }
    Ok(Next::Stop)
}

/// CLOCK_MONOTONIC in nanoseconds, the clock of `time.monotonic()`.
#[inline]
pub fn clock() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the answer; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn fire_timers(py: Python<'_>, state: &LoopState) {
    if state.timers.with(py, |timers| timers.is_empty()) {
        return;
    }
    let now = clock();
    while let Some(timer) = state.timers.with(py, |timers| timers.pop_due(now)) {
        timer.bind(py).get().forget(py);
        if timer.bind(py).as_super().get().is_cancelled(py) {
            state.timers.with(py, |timers| timers.forget_cancelled());
            timer.let_go(py);
            continue;
        }
        state.counters.with(py, |counters| counters.timers_fired += 1);
        state.push(py, Entry::Timer(timer));
    }
}

/// The time that a poll may take.
struct Slice {
    began: Option<Instant>,
    entries: usize,
    batches: u32,
}

impl Slice {
    fn new() -> Self {
        Self { began: None, entries: 0, batches: 0 }
    }

    /// After a batch: whether the driver must be looked at. The clock is read now and then only.
    fn is_over(&mut self) -> bool {
        self.batches += 1;
        if self.entries < ENTRIES_PER_LOOK && self.batches < BATCHES_PER_LOOK {
            return false;
        }
        self.entries = 0;
        self.batches = 0;
        match self.began {
            Some(began) => began.elapsed() >= SLICE,
            None => {
                self.began = Some(Instant::now());
                false
            }
        }
    }
}

/// Run `f`, which calls what is not the turn's own; None when it panicked. As an exception that comes out of a callback
/// the panic is for the exception handler, and the loop goes on.
///
/// # Errors
/// What the exception handler lets out.
#[inline]
fn contained<R>(event_loop: &Bound<'_, LoopState>, f: impl FnOnce() -> R) -> PyResult<Option<R>> {
    match error::catch_panic(f) {
        Ok(done) => Ok(Some(done)),
        Err(panicked) => report_panic(event_loop, panicked).map(|()| None),
    }
}

#[cold]
fn report_panic(event_loop: &Bound<'_, LoopState>, panicked: PyErr) -> PyResult<()> {
    let py = event_loop.py();
    let exception = panicked.into_value(py).into_bound(py).into_any();
    error::call_exception_handler(event_loop.as_any(), "Panic in the event loop", &[("exception", &exception)])
}

/// Run the batch in hand. False: the rest must wait for the next poll (tokio's cooperative budget is used up).
fn run_batch(event_loop: &Bound<'_, LoopState>, slice: &mut Slice) -> Slim<bool> {
    let py = event_loop.py();
    let state = event_loop.get();
    let mut ran = Ran::default();
    let finished = loop {
        match contained(event_loop, || run_entries(event_loop, &mut ran)) {
            Ok(Some(finished)) => break finished,
            // One has panicked; the others are next.
            Ok(None) => {}
            Err(raised) => break Err(Box::new(raised)),
        }
    };
    if finished.is_err() {
        state.ready.with(py, |ready| ready.give_batch_up());
    }
    slice.entries += ran.steps + ran.callbacks;
    state.counters.with(py, |counters| {
        counters.steps += ran.steps as u64;
        counters.callbacks += ran.callbacks as u64;
    });
    finished
}

/// How many entries of a batch have been run.
#[derive(Default)]
struct Ran {
    steps: usize,
    callbacks: usize,
}

#[inline(always)]
fn run_entries(event_loop: &Bound<'_, LoopState>, ran: &mut Ran) -> Slim<bool> {
    let py = event_loop.py();
    let state = event_loop.get();
    let debug = state.debug.get(py);
    while let Some(entry) = state.ready.with(py, |ready| ready.next_of_batch()) {
        match entry {
            Entry::Step(_) => ran.steps += 1,
            _ => ran.callbacks += 1,
        }
        if debug {
            run_entry_timed(event_loop, state, entry)?;
        } else {
            run_entry(event_loop, state, entry)?;
        }
        if state.polled_rust.get(py) {
            state.polled_rust.set(py, false);
            if !coop::has_budget_remaining() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

#[inline]
fn run_entry(event_loop: &Bound<'_, LoopState>, state: &LoopState, entry: Entry) -> Slim<()> {
    let py = event_loop.py();
    match &entry {
        Entry::Step(_) => state.contexts.leave(py),
        // These stay in the context of the last callback, or leave it.
        Entry::Handle(_) | Entry::ThreadSafe(_) | Entry::Timer(_) | Entry::Done(_) => {
            state.leave_task(py, event_loop.as_any())?;
        }
        Entry::Watcher(_) | Entry::Native(_) | Entry::Foreign(_) => {
            state.contexts.leave(py);
            state.leave_task(py, event_loop.as_any())?;
        }
    }
    match entry {
        Entry::Step(task) => {
            let task = task.into_bound(py);
            match step(event_loop, &task) {
                Ok(None) => Ok(()),
                Ok(Some(lane)) => {
                    state.push_to(py, lane, Entry::Step(task.unbind()));
                    Ok(())
                }
                Err(raised) => step_failed(event_loop, &task, raised),
            }
        }
        Entry::Handle(handle) => run_once(&handle.into_bound(py)),
        Entry::ThreadSafe(handle) => run_thread_safe(&handle.into_bound(py)),
        Entry::Timer(handle) => run_once(handle.into_bound(py).as_super()),
        Entry::Watcher(handle) => Handle::run(handle.bind(py)),
        Entry::Done(done) => state.unbox(py, done).map_or(Ok(()), |done| run_done(event_loop, done)),
        Entry::Native(callable) => run_native(&callable.into_bound(py)),
        Entry::Foreign(handle) => run_foreign(py, &handle),
    }
}

/// What a step could not do (the awaited object failed, say; what the coroutine raises is the task's). asyncio's step is
/// a callback, so this is for the exception handler, and the task stays as it is.
#[cold]
fn step_failed(event_loop: &Bound<'_, LoopState>, task: &Bound<'_, PyAny>, raised: Box<PyErr>) -> Slim<()> {
    let py = event_loop.py();
    if error::ends_the_run(py, &raised) {
        return Err(raised);
    }
    let text = task.try_repr().map_or_else(|_| "a task".to_owned(), |text| text.to_string());
    let exception = raised.value(py).as_any().clone();
    let items = [("exception", &exception), ("task", task)];
    Ok(error::call_exception_handler(event_loop.as_any(), &format!("Exception in a step of {text}"), &items)?)
}

/// `call_soon` and timers: run, and out of the loop's hands.
#[inline]
fn run_once(handle: &Bound<'_, Handle>) -> Slim<()> {
    let ran = Handle::run(handle);
    Handle::end_waiting(handle);
    ran
}

/// `call_soon_threadsafe`: as `run_once`.
#[inline]
fn run_thread_safe(handle: &Bound<'_, ThreadSafeHandle>) -> Slim<()> {
    let ran = ThreadSafeHandle::run_by(handle, true);
    Handle::end_waiting(handle.as_super());
    ran
}

/// A done callback of one of our futures: what `call_soon(callback, future, context=context)` would run.
fn run_done(event_loop: &Bound<'_, LoopState>, done: Done) -> Slim<()> {
    let py = event_loop.py();
    let (callback, future) = (done.callback.into_bound(py), done.future.into_bound(py));
    let mut context = done.context.into_bound(py);
    let mut raised = None;
    let mut call = || match call::call_one(&callback, &future) {
        Ok(_) => true,
        Err(error) => {
            raised = Some(Box::new(error));
            false
        }
    };
    let contexts = &event_loop.get().contexts;
    let entered = if done.shared {
        contexts.run_in_copy(context.clone(), &mut call, |copy| context = copy.clone())
    } else {
        contexts.leave(py);
        context::inside(&context).map(|_inside| {
            call();
        })
    };
    match entered.err().map(Box::new).or(raised) {
        None => Ok(()),
        Some(raised) if error::ends_the_run(py, &raised) => Err(raised),
        Some(raised) => {
            let debug = event_loop.get().debug.get(py);
            let text = asyncio(py)?.helper(py, "format_callback_source")?.try_call((&callback, (&future,), debug))?;
            let message = format!("Exception in callback {text}");
            let exception = raised.value(py).as_any().clone();
            // asyncio names the handle here; what is kept of it is its text.
            let handle =
                asyncio(py)?.helper(py, "done_handle")?.try_call((&callback, &future, event_loop, &context))?;
            let items = [("exception", &exception), ("handle", &handle)];
            Ok(error::call_exception_handler(event_loop.as_any(), &message, &items)?)
        }
    }
}

fn run_native(callable: &Bound<'_, PyAny>) -> Slim<()> {
    let py = callable.py();
    match callable.try_call(()) {
        Ok(_) => Ok(()),
        Err(raised) if error::ends_the_run(py, &raised) => Err(Box::new(raised)),
        Err(raised) => {
            error::unraisable(py, raised, Some(callable));
            Ok(())
        }
    }
}

/// asyncio's own handle (an `asyncio.Handle` given to `_add_callback`).
fn run_foreign(py: Python<'_>, handle: &Py<PyAny>) -> Slim<()> {
    let handle = handle.bind(py);
    if handle.try_getattr(pyo3::intern!(py, "_cancelled"))?.try_is_truthy()? {
        return Ok(());
    }
    handle.try_call_method(pyo3::intern!(py, "_run"), ())?;
    Ok(())
}

/// Debug mode: as `run_entry`, and report what took longer than `loop.slow_callback_duration`.
#[cold]
fn run_entry_timed(event_loop: &Bound<'_, LoopState>, state: &LoopState, entry: Entry) -> Slim<()> {
    let py = event_loop.py();
    let subject = match &entry {
        Entry::Handle(handle) => handle.get().clone_ref(py).into_any(),
        Entry::Watcher(handle) => handle.clone_ref(py).into_any(),
        Entry::ThreadSafe(handle) => handle.get().clone_ref(py).into_any(),
        Entry::Timer(handle) => handle.get().clone_ref(py).into_any(),
        Entry::Done(done) => done.as_ref().as_ref().map_or_else(|| py.None(), |done| done.callback.clone_ref(py)),
        Entry::Step(object) | Entry::Native(object) | Entry::Foreign(object) => object.clone_ref(py),
    };
    let began = Instant::now();
    let ran = run_entry(event_loop, state, entry);
    let took = began.elapsed().as_secs_f64();
    state.contexts.leave(py);
    let limit = event_loop.try_getattr(pyo3::intern!(py, "slow_callback_duration"))?.try_float()?;
    if took >= limit {
        asyncio(py)?.helper(py, "report_slow")?.try_call((subject, took))?;
    }
    ran
}
