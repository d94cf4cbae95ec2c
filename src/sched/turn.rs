//! One turn: the root future of a run. Each poll runs batches while anything is ready, for a bounded time.
//!
//! ```text
//! signals -> inbox -> ready descriptors -> due timers -> one batch of ready entries -> stop? -> again, or park
//! ```
//!
//! To park is to sleep without the GIL: in the loop's own poller, in the middle of a poll of the root future, or in
//! tokio's driver, after it. The poller is watched by the driver then, and each wake takes two system calls and the
//! kernel's way through both, 6 us on a virtual machine. So the loop sleeps there only while somebody waits for the
//! driver: a future on tokio's timer (`rt::driver_use`), or code of the program that nobody here knows
//! (`accel::OWN_SLEEP`).
//!
//! Runs on the loop's thread with the GIL held. No cell is borrowed while an entry runs.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use pyo3::prelude::*;
use tokio::task::coop;

use super::clock::clock;
use super::dispatch::{report_panic, run_batch, uncork};
use super::entry::Entry;
use super::handle::Handle;
use super::order;
use super::reactor::Reactor;
use super::runtime::EngineRef;
use super::shared::Deliver;
use super::slice::Slice;
use super::state::LoopState;
use super::timer_handle::TimerHandle;
use super::virtual_time::{self, Idle, Wait};
use crate::accel::{async_exc, pool};
use crate::core::inbox::Away;
use crate::core::linger::Linger;
use crate::py::asyncio::asyncio;
use crate::py::{error, whole};

/// The root future of one run of a loop. Ends when the loop is stopped, or with an error that ends the run.
pub(super) struct Turns {
    event_loop: Py<LoopState>,
    engine: EngineRef,
    reactor: Option<Arc<dyn Reactor>>,
    messages: VecDeque<Arc<dyn Deliver>>,
    /// What runs is an entry or a message, and not the turn's own code.
    calls_others: bool,
    /// The run's first poll only lets tokio look for events, as asyncio's first `select(0)` does; so a run of one
    /// turn sees what has become ready since the last one.
    fresh: bool,
    looked_at_io: bool,
    /// The queue was empty and the poll over, with these counts.
    left: Option<Left>,
    /// There were connections when this poll looked at the descriptors.
    has_connections: bool,
    linger: Linger,
    /// Under virtual time.
    idle: Idle,
}

impl Turns {
    pub(super) fn new(event_loop: Py<LoopState>, engine: EngineRef, reactor: Option<Arc<dyn Reactor>>) -> Self {
        Self {
            event_loop,
            engine,
            reactor,
            messages: VecDeque::new(),
            calls_others: false,
            fresh: true,
            looked_at_io: false,
            left: None,
            has_connections: false,
            linger: Linger::default(),
            idle: Idle::default(),
        }
    }
}

/// How often a loop that waits for a message gives its processor away between two looks at its descriptors.
const YIELDS_PER_LOOK: usize = 8;

/// What tells, when the loop is back at its queue, who has called it.
#[derive(Clone, Copy)]
struct Left {
    called: u64,
    events: u64,
}

/// How a poll of the turn goes on.
enum Next {
    Stop,
    /// tokio's driver is where the loop sleeps.
    Park,
    Again,
}

/// Where the loop is to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    ByBell,
    InDriver,
    /// In tokio's driver, which has to be told first.
    NotYet,
}

/// What has come of setting the alarm.
#[derive(PartialEq, Eq)]
enum Alarmed {
    Yes,
    /// A timer is due already.
    Due,
    /// tokio is to look at its tasks and its driver first.
    LookFirst,
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
            let ran = match error::catch_panic(|| this.run(&event_loop, cx)) {
                Ok(ran) => ran,
                // The other entries, or messages, are next.
                Err(panicked) if std::mem::take(&mut this.calls_others) => {
                    state.after.end(py);
                    let sent = uncork(&event_loop).map_err(|raised| *raised);
                    report_panic(&event_loop, panicked).and(sent).map(|()| Next::Again)
                }
                // A mistake of ours ends the run in an orderly way.
                Err(panicked) => Err(panicked),
            };
            state.snapshots.leave(py);
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
        let mut slice = Slice::new(state.counters.entries(py));
        // Descriptors become ready when tokio's driver has run, between two polls.
        let mut look_again = true;
        let mut has_slept = false;
        // tokio has had its turn.
        state.traced_until.set(py, 0);
        self.look_after_sleep(py)?;
        if state.shared.is_inherited() {
            return end_in_child(event_loop);
        }
        if !state.clock.is_real(py) {
            virtual_time::woken(py, state);
        }
        loop {
            self.take_messages(py, state);
            if std::mem::take(&mut has_slept) {
                // The sleep has ended with what a look would find.
            } else if look_again {
                look_again = self.look_at_descriptors(py, state, cx)?;
                state.traced_until.set(py, 0);
                // Those that waited for descriptors.
                self.take_messages(py, state);
            } else {
                look_again = self.look_between_polls(py, state, |reactor| reactor.is_look_due(py))?;
            }
            let due = state.timers.with(py, |timers| !timers.is_empty()) && fire_timers(event_loop, state)?;
            if let Some(left) = self.left.take() {
                note_wake(py, state, left, due);
            }
            if due {
                state.traced_until.set(py, 0);
            }
            let rearranges = state.order.get(py).is_some() && state.ready.with(py, |ready| ready.is_between_batches());
            if state.ready.with(py, |ready| ready.begin_batch()) {
                if rearranges {
                    order::rearrange(py, state);
                }
                self.calls_others = true;
                let finished = run_batch(event_loop);
                self.calls_others = false;
                if !finished.map_err(|raised| *raised)? {
                    state.shared.times.looks(clock());
                    return Ok(Next::Again);
                }
            }
            state.counters.turns.add(py, 1);
            if state.shared.is_inherited() {
                return end_in_child(event_loop);
            }
            if state.shared.lifecycle.is_stopping() {
                return Ok(Next::Stop);
            }
            let mut is_idle = state.ready.with(py, |ready| ready.is_empty());
            if is_idle && self.has_connections {
                look_again |= self.look_between_polls(py, state, |reactor| reactor.expects_more(py))?;
                is_idle = state.ready.with(py, |ready| ready.is_empty());
            }
            if is_idle && self.linger.is_awake() && self.may_sleep_by_bell(py, state) && self.linger.waits(clock()) {
                look_again |= !look_for_message(state);
                state.traced_until.set(py, 0);
            } else if is_idle {
                state.snapshots.forget(py);
                state.leave_task(py, event_loop.as_any())?;
                pool::trim::<Handle>(py);
                pool::trim::<TimerHandle>(py);
                let check_at = self.reactor.as_ref().and_then(|reactor| reactor.before_sleep(py));
                // A context, `leave_task` or a waker may have run Python code.
                let idle = state.ready.with(py, |ready| ready.is_empty()) && !look_again;
                let sleep = self.where_to_sleep(py, state)?;
                if sleep == Sleep::NotYet {
                    return Ok(Next::Again);
                }
                if idle {
                    let alarmed = self.set_alarm(event_loop, state, check_at, sleep, cx)?;
                    // To find out whose clock the timers go by may have run Python code, and other threads meanwhile.
                    let is_idle = state.ready.with(py, |ready| ready.is_empty());
                    match alarmed {
                        Alarmed::LookFirst => return Ok(Next::Again),
                        Alarmed::Due => {}
                        Alarmed::Yes if !is_idle => {}
                        Alarmed::Yes if sleep == Sleep::InDriver => {
                            if state.shared.inbox.leave(Away::ForWaker) {
                                self.left = Some(Left::now(py, state));
                                return Ok(Next::Park);
                            }
                        }
                        Alarmed::Yes => {
                            if state.shared.inbox.leave(Away::ForBell) {
                                self.left = Some(Left::now(py, state));
                                look_again = self.sleep_by_bell(py, state)?;
                                state.traced_until.set(py, 0);
                                has_slept = true;
                                slice = Slice::new(state.counters.entries(py));
                                continue;
                            }
                        }
                    }
                }
            }
            if let Some(now) = slice.is_over(state.counters.entries(py)) {
                state.shared.times.looks(now);
                return Ok(Next::Again);
            }
        }
    }

    /// Whether nobody needs tokio's driver. Whom tokio has refused for want of budget it wakes after a look at that. A
    /// clock that jumps does so when tokio's tasks and its driver have been asked.
    #[inline]
    fn may_sleep_by_bell(&self, py: Python<'_>, state: &LoopState) -> bool {
        self.engine.may_sleep_by_bell()
            && !self.engine.is_driver_used()
            && coop::has_budget_remaining()
            && state.clock.is_real(py)
    }

    #[inline]
    fn where_to_sleep(&self, py: Python<'_>, state: &LoopState) -> PyResult<Sleep> {
        if self.may_sleep_by_bell(py, state) {
            return Ok(Sleep::ByBell);
        }
        let is_new = self.reactor.as_ref().map_or(Ok(false), |reactor| reactor.watch_by_driver(py))?;
        Ok(if is_new { Sleep::NotYet } else { Sleep::InDriver })
    }

    /// Sleep in the loop's own poller; then it is as in a new poll. True: look again at the descriptors.
    fn sleep_by_bell(&mut self, py: Python<'_>, state: &LoopState) -> PyResult<bool> {
        state.snapshots.leave(py);
        let slept = match &self.reactor {
            Some(reactor) => {
                let slept = reactor.sleep(py, state);
                self.has_connections = reactor.has_connections(py);
                slept
            }
            None => unreachable!("a loop that may sleep by its bell has a reactor"),
        };
        self.linger.slept(state.shared.times.last_sleep(), state.shared.inbox.may_have_some());
        self.look_after_sleep(py)?;
        slept
    }

    /// Python's own code runs the handlers of signals and raises the exceptions of other threads while it runs. This is
    /// for what came while it did not: raised here, it leaves the run, as it leaves asyncio's `select()`; raised by the
    /// next callback, it would be that one's.
    #[inline]
    fn look_after_sleep(&self, py: Python<'_>) -> PyResult<()> {
        error::check_signals(py)?;
        if let Some(raised) = self.engine.raised_asleep(py) {
            return Err(*raised);
        }
        if async_exc::may_wait(py) {
            whole::call_tuple(asyncio(py)?.do_nothing.bind(py), None)?;
        }
        Ok(())
    }

    #[inline(always)]
    fn take_messages(&mut self, py: Python<'_>, state: &LoopState) {
        // Some may be left from a poll that has panicked.
        if state.shared.inbox.may_have_some() || !self.messages.is_empty() {
            self.deliver_messages(py, state);
        }
    }

    #[inline(never)]
    fn deliver_messages(&mut self, py: Python<'_>, state: &LoopState) {
        if self.messages.is_empty() && !state.shared.inbox.take(&mut self.messages) {
            return;
        }
        self.linger.got_messages(self.messages.len());
        state.traced_until.set(py, 0);
        state.snapshots.leave(py);
        self.calls_others = true;
        let mut count = 0;
        while let Some(message) = self.messages.pop_front() {
            message.deliver(py, state);
            count += 1;
        }
        self.calls_others = false;
        state.counters.messages.add(py, count);
    }

    fn look_at_descriptors(&mut self, py: Python<'_>, state: &LoopState, cx: &mut Context<'_>) -> PyResult<bool> {
        let fresh_run = !std::mem::replace(&mut self.looked_at_io, true);
        match &self.reactor {
            Some(reactor) => {
                // The driver does not know what a poller has that it does not watch.
                let look = fresh_run || self.engine.may_sleep_by_bell();
                let look_again = reactor.poll_ready(py, state, cx, look);
                self.has_connections = reactor.has_connections(py);
                look_again
            }
            None => Ok(false),
        }
    }

    /// Look at the descriptors, if `when` says so, without asking tokio's driver.
    fn look_between_polls(
        &mut self,
        py: Python<'_>,
        state: &LoopState,
        when: impl FnOnce(&dyn Reactor) -> bool,
    ) -> PyResult<bool> {
        let Some(reactor) = self.reactor.as_ref().filter(|reactor| when(&***reactor)) else { return Ok(false) };
        let look_again = reactor.look(py, state);
        state.traced_until.set(py, 0);
        self.take_messages(py, state);
        look_again
    }

    /// Be woken for the earliest timer, or for what the descriptors need looking after. `Due`, too, when the alarm
    /// cannot be set for such a sleep.
    fn set_alarm(
        &mut self,
        event_loop: &Bound<'_, LoopState>,
        state: &LoopState,
        check_at: Option<u64>,
        sleep: Sleep,
        cx: &mut Context<'_>,
    ) -> PyResult<Alarmed> {
        let py = event_loop.py();
        let mut timer = state.timers.with(py, |timers| timers.earliest());
        if !state.keeps_real_time(py) {
            timer = match virtual_time::wait_for(event_loop, &mut self.idle, self.reactor.as_deref())? {
                Wait::Over => return Ok(Alarmed::Due),
                Wait::Look => return Ok(Alarmed::LookFirst),
                Wait::Long => None,
                Wait::Until(when) => Some(when),
                Wait::Quiet(until) => {
                    // At once, it may be, but after a sleep.
                    let now = clock();
                    let until = check_at.map_or(until, |at| until.min(at)).max(now + 1);
                    self.engine.alarm.with(py, |alarm| alarm.set(until, now, cx));
                    return Ok(Alarmed::Yes);
                }
            };
        }
        let Some(when) = timer.into_iter().chain(check_at).min() else { return Ok(Alarmed::Yes) };
        let now = clock();
        if when <= now {
            if let Some(reactor) = self.reactor.as_ref().filter(|_| check_at.is_some_and(|at| at <= now)) {
                reactor.check(py, now);
            }
            return Ok(Alarmed::Due);
        }
        let is_set = self.engine.alarm.with(py, |alarm| {
            if sleep == Sleep::InDriver {
                alarm.set(when, now, cx);
                return true;
            }
            alarm.set_descriptor(when, now)
        });
        if !is_set {
            self.engine.sleep_in_driver();
            return Ok(Alarmed::Due);
        }
        Ok(Alarmed::Yes)
    }
}

/// Look for a message for some microseconds. Whoever is to send it may need this processor; nobody has to wake the loop
/// meanwhile, which saves two system calls.
fn look_for_message(state: &LoopState) -> bool {
    for _ in 0..YIELDS_PER_LOOK {
        if state.shared.inbox.may_have_some() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// A callback or a step has forked, and this is the child, whose copy of the queue has been emptied
/// (`LoopState::leave_to_parent`). What the child itself has queued since runs: if the main task has ended, that ends
/// the run. Nothing here may wait, or look at the reactor, which is the parent's.
///
/// # Errors
/// What ends a run; RuntimeError when nothing is ready.
#[cold]
fn end_in_child(event_loop: &Bound<'_, LoopState>) -> PyResult<Next> {
    let py = event_loop.py();
    let state = event_loop.get();
    while !state.shared.lifecycle.is_stopping() {
        if !state.ready.with(py, |ready| ready.begin_batch()) {
            state.check_process()?;
        }
        // tokio's budget is for a poll, and there is no other poll to come. Nor may a panic lead to one.
        let run = || error::catch_panic(|| run_batch(event_loop));
        let batch = coop::unconstrained(std::future::poll_fn(|_| Poll::Ready(run())));
        match std::pin::pin!(batch).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(Err(raised))) => return Err(*raised),
            Poll::Ready(Err(panicked)) => report_panic(event_loop, panicked)?,
            _ => {}
        }
    }
    Ok(Next::Stop)
}

/// Queue the timers that are due. False: there are none.
#[inline(never)]
fn fire_timers(event_loop: &Bound<'_, LoopState>, state: &LoopState) -> PyResult<bool> {
    let py = event_loop.py();
    let now = if state.keeps_real_time(py) { clock() } else { virtual_time::due_by(event_loop)? };
    let mut any = false;
    while let Some(timer) = state.timers.with(py, |timers| timers.pop_due(now)) {
        any = true;
        timer.bind(py).get().forget(py);
        if timer.bind(py).as_super().get().is_cancelled(py) {
            state.timers.with(py, |timers| timers.forget_cancelled());
            timer.let_go(py);
            continue;
        }
        state.counters.timers_fired.add(py, 1);
        state.push(py, Entry::Timer(timer));
    }
    Ok(any)
}

impl Left {
    fn now(py: Python<'_>, state: &LoopState) -> Self {
        Self { called: state.shared.called.load(Ordering::Relaxed), events: state.counters.events.get(py) }
    }
}

/// The loop is back at its queue. `due`: timers are.
fn note_wake(py: Python<'_>, state: &LoopState, left: Left, due: bool) {
    let (now, wakes) = (Left::now(py, state), &state.counters.wakes);
    let by = if now.called != left.called {
        &wakes.by_threads
    } else if now.events != left.events {
        &wakes.by_descriptors
    } else if due {
        &wakes.by_timers
    } else {
        &wakes.by_tokio
    };
    by.add(py, 1);
}
