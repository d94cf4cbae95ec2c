//! A clock that jumps: while a loop has nothing to do it is moved to the next timer (`pyloop.testing`). And what a turn
//! does on a loop whose timers are compared with another clock than the real one.
//!
//! A jump is made when the loop has been asleep and was woken by nothing but the alarm that was set for the jump: so
//! tokio has run its tasks, the kernel has been asked for events, and both have been given another chance after that.
//! Jobs of threads and child processes (`LoopShared::hold_time`) take real time: as long as there are any, the clock
//! goes as the real one goes while the loop sleeps, and stands still while it does not.
//!
//! Loop thread, GIL held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

use super::clock::{VirtualTime, clock};
use super::reactor::Reactor;
use super::replaced::Name;
use super::shared::LoopShared;
use super::state::LoopState;
use crate::core::timers::nanos;
use crate::py::attach::sleeps;
use crate::py::call::Object;

/// How long a loop that watches descriptors has nothing to do before a jump, in nanoseconds: what the kernel has on its
/// way from one of the process's sockets to another arrives meanwhile.
const GRACE: u64 = 1_000_000;

/// Whether any loop of this process has, or had, virtual time.
static USED: AtomicBool = AtomicBool::new(false);

/// See `USED`: one load, for those who would have to look for the loop.
#[inline]
pub fn is_used() -> bool {
    USED.load(Ordering::Relaxed)
}

/// Begin: the clock stands still.
pub fn begin(py: Python<'_>, state: &LoopState, threshold: Option<u64>) {
    USED.store(true, Ordering::Relaxed);
    state.clock.stop(py);
    state.virtual_time.update(py, |it| *it = VirtualTime { is_on: true, threshold, jumps: it.jumps });
}

/// End: the clock goes on from where it is.
pub fn end(py: Python<'_>, state: &LoopState) {
    state.virtual_time.update(py, |it| it.is_on = false);
    state.clock.go(py);
}

/// A loop's clock goes while it sleeps, as long as somebody has this.
pub struct Held(Arc<LoopShared>);

impl Held {
    /// For the loop that this thread runs. None: it runs none, or no loop has virtual time.
    #[inline]
    pub fn here() -> Option<Self> {
        if is_used() { LoopShared::of_this_thread().map(Self::new) } else { None }
    }

    fn new(shared: Arc<LoopShared>) -> Self {
        shared.hold_time();
        Self(shared)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.release_time();
    }
}

/// What a loop that has nothing to do waits for.
pub(super) enum Wait {
    /// A timer is due.
    Over,
    /// Nothing but what comes from elsewhere.
    Long,
    /// A timer, at this time of the real clock.
    Until(u64),
    /// This time of the real clock: if nothing has come by then, the clock may jump.
    Quiet(u64),
    /// Another look at the runtime, without sleeping.
    Look,
}

/// Since when a loop has had nothing to do.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// What had been done by then (`done`), and by the real clock.
    done: u64,
    since: u64,
    /// How often the thread had slept.
    sleeps: u64,
    /// It has slept since, and was woken by its alarm.
    asked_again: bool,
}

/// A poll begins: a clock that went while the loop slept stands again.
#[cold]
pub(super) fn woken(py: Python<'_>, state: &LoopState) {
    if state.virtual_time.get(py).is_on {
        state.clock.stop(py);
    }
}

/// Timers up to this time are due, on a loop whose clock is not the real one, or may not be.
///
/// # Errors
/// What the loop's `time` raises, or is: TypeError when it is no number.
#[cold]
pub(super) fn due_by(event_loop: &Bound<'_, LoopState>) -> PyResult<u64> {
    let (py, state) = (event_loop.py(), event_loop.get());
    if !is_by_name(event_loop)? {
        return Ok(state.clock.now(py));
    }
    let now = seconds(event_loop)?;
    // `BaseEventLoop._run_once`: due is what is earlier than the end of the clock's tick.
    let tick = event_loop.try_getattr(pyo3::intern!(py, "_clock_resolution"))?.try_float()?;
    Ok(nanos(now).max(nanos(now + tick).saturating_sub(1)))
}

/// What to wait for, on such a loop.
///
/// # Errors
/// As `due_by`.
#[cold]
pub(super) fn wait_for(
    event_loop: &Bound<'_, LoopState>,
    idle: &mut Idle,
    reactor: Option<&dyn Reactor>,
) -> PyResult<Wait> {
    let (py, state) = (event_loop.py(), event_loop.get());
    if is_by_name(event_loop)? {
        let Some(when) = state.timers.with(py, |timers| timers.earliest()) else { return Ok(Wait::Long) };
        let now = nanos(seconds(event_loop)?);
        // What was called may have queued something.
        let is_over = when <= now || !state.ready.with(py, |ready| ready.is_empty());
        return Ok(if is_over { Wait::Over } else { Wait::Until(clock().saturating_add(when - now)) });
    }
    if state.virtual_time.get(py).is_on && state.shared.is_time_held() {
        state.clock.go(py);
    }
    let Some((when, seconds)) = earliest(py, state) else { return Ok(Wait::Long) };
    if when <= state.clock.now(py) {
        return Ok(Wait::Over);
    }
    let VirtualTime { is_on, threshold, .. } = state.virtual_time.get(py);
    if !is_on || state.shared.is_time_held() {
        return Ok(Wait::Until(state.clock.to_real(py, when)));
    }
    let (done, now) = (state.counters.entries(py) + state.counters.messages.get(py), clock());
    if idle.since == 0 || idle.done != done {
        *idle = Idle { done, since: now, sleeps: sleeps(), asked_again: false };
    }
    let watches = || reactor.is_some_and(|reactor| reactor.is_watching(py));
    let quiet = idle.since.saturating_add(threshold.unwrap_or_else(|| if watches() { GRACE } else { 0 }));
    if now < quiet || sleeps() == idle.sleeps {
        return Ok(Wait::Quiet(quiet));
    }
    if !std::mem::replace(&mut idle.asked_again, true) {
        return Ok(Wait::Look);
    }
    // Nobody is told of "never".
    if when == u64::MAX {
        return Ok(Wait::Long);
    }
    idle.since = 0;
    state.clock.move_to(py, seconds);
    state.virtual_time.update(py, |it| it.jumps += 1);
    Ok(Wait::Over)
}

/// Whether the loop's clock is what its `time` says, and no other.
fn is_by_name(event_loop: &Bound<'_, LoopState>) -> PyResult<bool> {
    let state = event_loop.get();
    Ok(!state.virtual_time.get(event_loop.py()).is_on && state.replaced.has(event_loop.as_any(), Name::Time)?)
}

/// `event_loop.time()`, as asyncio's turn calls it: in no callback's context, and no task's.
fn seconds(event_loop: &Bound<'_, LoopState>) -> PyResult<f64> {
    let (py, state) = (event_loop.py(), event_loop.get());
    state.snapshots.leave(py);
    state.leave_task(py, event_loop.as_any())?;
    event_loop.try_call_method(pyo3::intern!(event_loop.py(), "time"), ())?.try_float()
}

/// When the earliest timer is due that is not cancelled.
fn earliest(py: Python<'_>, state: &LoopState) -> Option<(u64, f64)> {
    loop {
        let (when, seconds, is_cancelled) = state.timers.with(py, |timers| {
            let (when, timer) = timers.first()?;
            let timer = timer.bind(py);
            Some((when, timer.get().seconds(), timer.as_super().get().is_cancelled(py)))
        })?;
        if !is_cancelled {
            return Some((when, seconds));
        }
        let cancelled = state.timers.with(py, |timers| {
            timers.forget_cancelled();
            timers.pop_due(when)
        })?;
        cancelled.bind(py).get().forget(py);
        cancelled.let_go(py);
    }
}
