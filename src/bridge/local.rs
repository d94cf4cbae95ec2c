//! `spawn_local` on loops that are not of this crate copy: each thread that polls futures there has a local set, and
//! the running loop is asked to poll it whenever it is woken.
//!
//! The tasks end with the loops they were spawned under: when the last of these closes (a loop of pyloop's), when the
//! thread next polls a future after that (any other), when the thread ends. What the main thread has left when the
//! interpreter is gone is not touched any more.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::mem::ManuallyDrop;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::prelude::*;
use tokio::task::{LocalEnterGuard, LocalSet};

use super::callback::callback_waker;
use super::link::NativeLoop;
use crate::py::attach::attach_anywhere;
use crate::py::call::Object;
use crate::py::exit::outlast;
use crate::py::refs::WeakRef;
use crate::py::{call, error, names};
use crate::rt::inside::{drop_inside, poll_inside};
#[cfg(feature = "pyo3-async-runtimes")]
use crate::rt::inside::{is_driving, is_inside_runtime};
use crate::rt::process::{ThreadNumber, generation, here, this_thread};

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
    /// A local task has been woken here: there is one.
    static USED: Cell<bool> = const { Cell::new(false) };
}

/// A thread's local set.
struct Local {
    /// Dropped with the GIL held, or never.
    set: ManuallyDrop<Rc<LocalSet>>,
    /// Not dropped when the thread ends: tokio's own thread-local may be gone.
    entered: ManuallyDrop<LocalEnterGuard>,
    driver: Arc<Driver>,
    /// Being polled.
    driven: bool,
    generation: u32,
}

impl Local {
    fn new() -> Self {
        let set = Rc::new(LocalSet::new());
        let entered = ManuallyDrop::new(set.enter());
        let driver =
            Arc::new(Driver { thread: this_thread(), loops: Mutex::default(), unclaimed: AtomicBool::new(false) });
        Self { set: ManuallyDrop::new(set), entered, driver, driven: false, generation: generation() }
    }
}

impl Local {
    /// Whether a forked child has it of its parent, whose tasks it leaves alone.
    fn is_inherited(&self) -> bool {
        self.generation != generation()
    }
}

impl Drop for Local {
    /// The thread ends.
    fn drop(&mut self) {
        // SAFETY: taken once, in the destructor.
        let set = ManuallyDrop::new(unsafe { ManuallyDrop::take(&mut self.set) });
        if self.is_inherited() {
            return;
        }
        attach_anywhere(|py| discard(py, ManuallyDrop::into_inner(set)));
    }
}

/// Drop the tasks of a set, which may do anything.
fn discard(py: Python<'_>, set: Rc<LocalSet>) {
    if let Err(raised) = error::catch_panic(|| drop_inside(|| drop(set))) {
        error::unraisable(py, raised, None);
    }
}

/// `tokio::task::spawn_local`, on the loop that runs in this thread or is the next to run in it.
///
/// # Panics
/// On a thread of another tokio runtime, outside of a `LocalSet`; when the background runtime cannot be started.
#[cfg(feature = "pyo3-async-runtimes")]
pub fn spawn_local(fut: impl Future<Output = ()> + 'static) -> tokio::task::JoinHandle<()> {
    match here(|here| poll_inside(here, enter, || tokio::task::spawn_local(fut))) {
        Ok(task) => task,
        Err(failed) => panic!("unable to build the tokio runtime: {failed}"),
    }
}

/// Whether a loop runs in this thread that [`spawn_local`] spawns on.
#[cfg(feature = "pyo3-async-runtimes")]
pub fn can_spawn_local() -> bool {
    let looped = || Python::try_attach(|py| names::running_loop(py).is_ok_and(|running| !running.is_none()));
    is_driving() || (!is_inside_runtime() && looped().unwrap_or(false))
}

/// Have this thread enter a tokio runtime for good, as the first future that it polls does: for code between two polls
/// that looks for one (`Handle::current()`). The background runtime is started if it is not running, with its threads:
/// so this is not for a module's import. It holds for this thread of this process, and no forked child. What others
/// poll, as PyO3 does its own `async fn`, finds a runtime everywhere by [`in_runtime`](crate::in_runtime).
///
/// # Errors
/// OSError when the runtime cannot be started.
pub fn enter_runtime(_py: Python<'_>) -> PyResult<()> {
    here(|here| poll_inside(here, enter, || ())).map_err(|raised| *raised)
}

/// This thread has entered the background runtime: `spawn_local` works from now on.
pub(super) fn enter() {
    let entered = LOCAL.with_borrow_mut(|local| {
        if local.as_ref().is_some_and(|local| !local.is_inherited()) {
            return false;
        }
        // The tasks of a forked child's parent are not touched.
        std::mem::forget(local.replace(Local::new()));
        true
    });
    if entered {
        USED.set(false);
        // The set learns who to wake.
        drive();
    }
}

/// Poll the local tasks of this thread.
#[pyfunction]
fn drive() {
    outlast();
    let begun = LOCAL.with_borrow_mut(|local| {
        let local = local.as_mut().filter(|local| !local.is_inherited())?;
        let begins = !std::mem::replace(&mut local.driven, true);
        begins.then(|| (Rc::clone(&*local.set), Arc::clone(&local.driver)))
    });
    let Some((set, driver)) = begun else { return };
    let waker = Waker::from(driver);
    let never = poll_fn(|_| Poll::<()>::Pending);
    let poll = || pin!(set.run_until(never)).poll(&mut Context::from_waker(&waker));
    let polled = error::catch_panic_slim(|| here(|here| poll_inside(here, enter, poll)));
    LOCAL.with_borrow_mut(|local| {
        if let Some(local) = local {
            local.driven = false;
        }
    });
    if let Err(raised) = polled {
        Python::attach(|py| error::unraisable(py, *raised, None));
    }
}

/// Before a poll on a loop that does not tell when it closes.
#[inline]
pub(super) fn sweep(py: Python<'_>) {
    if USED.get() {
        sweep_used(py);
    }
}

/// Drop the local tasks of this thread if all loops that they were spawned under are closed.
#[cold]
fn sweep_used(py: Python<'_>) {
    // The thread may be at its end.
    let driver = LOCAL.try_with(|local| {
        let local = local.try_borrow().ok()?;
        local.as_ref().filter(|local| !local.driven && !local.is_inherited()).map(|local| Arc::clone(&local.driver))
    });
    let Ok(Some(driver)) = driver else { return };
    if !driver.forget_closed_loops(py) {
        return;
    }
    USED.set(false);
    let old = LOCAL.with_borrow_mut(|local| {
        let local = local.as_mut()?;
        // SAFETY: replaced below, and not used in between.
        unsafe { ManuallyDrop::drop(&mut local.entered) };
        // The guard before the set that replaces it: each puts back what it found.
        let set = Rc::new(LocalSet::new());
        local.entered = ManuallyDrop::new(set.enter());
        Some(ManuallyDrop::into_inner(std::mem::replace(&mut local.set, ManuallyDrop::new(set))))
    });
    if let Some(old) = old {
        discard(py, old);
    }
    drive();
}

/// Has the loops of its thread poll the local set.
struct Driver {
    thread: ThreadNumber,
    /// The loops that ran in the thread when a local task was woken there.
    loops: Mutex<Vec<Known>>,
    /// A task was woken there last while no loop ran: it is for the next one.
    unclaimed: AtomicBool,
}

struct Known {
    event_loop: WeakRef,
    waker: Waker,
}

/// Whether a loop can still run.
fn is_open(py: Python<'_>, event_loop: &WeakRef) -> bool {
    let Some(event_loop) = event_loop.get(py) else { return false };
    let closed = event_loop.try_call_method(pyo3::intern!(py, "is_closed"), ());
    match closed.and_then(|closed| closed.try_is_truthy()) {
        Ok(closed) => !closed,
        Err(raised) => {
            error::unraisable(py, raised, Some(&event_loop));
            true
        }
    }
}

impl Driver {
    fn loops(&self) -> MutexGuard<'_, Vec<Known>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the thread itself: the loop that runs there now.
    fn look_for_loop(&self, py: Python<'_>) -> PyResult<()> {
        USED.set(true);
        let running = names::running_loop(py)?;
        self.unclaimed.store(running.is_none(), Ordering::Relaxed);
        let known = |known: &Known| known.event_loop.get(py).is_some_and(|known| call::same(&known, &running));
        if running.is_none() || self.loops().iter().any(known) {
            return Ok(());
        }
        let waker = callback_waker(&running, pyo3::wrap_pyfunction!(drive, py)?.into_any());
        if let Some(native) = NativeLoop::of(&running) {
            native.at_close(|| {
                Python::attach(sweep_used);
            });
        }
        self.loops().push(Known { event_loop: WeakRef::of(&running), waker });
        Ok(())
    }

    /// True: there was one at least, and all are closed.
    fn forget_closed_loops(&self, py: Python<'_>) -> bool {
        if self.unclaimed.load(Ordering::Relaxed) {
            return false;
        }
        let mut closed: Vec<_> = self.loops().iter().map(|known| known.event_loop.clone_ref(py)).collect();
        closed.retain(|event_loop| !is_open(py, event_loop));
        let (gone, rest) = {
            let mut loops = self.loops();
            let is_closed = |known: &Known| closed.iter().any(|closed| closed.is(&known.event_loop));
            let (gone, rest) = loops.drain(..).partition(is_closed);
            *loops = rest;
            (gone, loops.is_empty())
        };
        let _: Vec<Known> = gone;
        rest && !closed.is_empty()
    }
}

impl Wake for Driver {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.thread == this_thread()
            && let Some(Err(raised)) = attach_anywhere(|py| self.look_for_loop(py))
        {
            Python::attach(|py| error::unraisable(py, raised, None));
        }
        let wakers: Vec<Waker> = self.loops().iter().map(|known| known.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}
