//! The tokio runtime of a loop, its LocalSet, and the GIL around its sleep.
//!
//! A runtime belongs to a loop and is made at its first run. A LocalSet belongs to the thread that runs the loop: it
//! is kept in a thread-local, so a `!Send` task never leaves its thread, whatever becomes of the loop. A loop that is
//! run by another thread later gets a LocalSet of that thread; the Rust tasks of the first wait for the loop to come
//! back, or end with the loop or the thread.
//!
//! The loop's sleep is in tokio's driver, or in the loop's own poller while nobody waits for the driver (`turn`).
//! tokio calls `on_thread_park` before it sleeps and `on_thread_unpark` after: the GIL is given up exactly between the
//! two (`py::attach`). Looking for events without waiting keeps it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;

use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::alarm::Alarm;
use super::reactor::Reactor;
use super::shared::LoopShared;
use super::sleep::{fall_asleep, wake_up};
use crate::accel;
use crate::py::attach::attach_anywhere;
use crate::py::cell::GilCell;
use crate::py::error;
use crate::py::exit::outlast;
use crate::rt::driver_use::{Counting, Uses};
use crate::rt::inside::{Driving, is_inside_runtime};
use crate::rt::process::{ProcessBound, generation};

/// What drives a loop, for the process that made it: a forked child has the descriptors, but no use for them.
pub(super) type EngineRef = Arc<ProcessBound<Engine>>;

/// See [`EngineRef`].
#[derive(Debug)]
pub struct Engine {
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    pub(super) alarm: GilCell<Alarm>,
    raised: Raised,
    /// Who waits for the runtime's driver.
    uses: Uses,
    /// Whether the loop may sleep in its own poller when nobody does. False before the first run.
    may_sleep_by_bell: AtomicBool,
    shared: Arc<LoopShared>,
    id: u64,
}

/// What a signal's handler has raised when it ran in the middle of the loop's sleep.
type Raised = Arc<GilCell<Option<Box<PyErr>>>>;

/// A signal has ended the sleep for a moment, perhaps. The descriptor that would end it for good may be somebody else's
/// (`signal.set_wakeup_fd`), so the handlers run here, as they do in the middle of asyncio's `select()`.
fn run_signal_handlers(raised: &Raised, shared: &LoopShared) {
    Python::attach(|py| {
        if let Err(error) = error::check_signals(py) {
            drop(raised.replace(py, Some(Box::new(error))));
            shared.wake();
        }
    });
}

thread_local! {
    static LOCAL_SETS: LocalSets = LocalSets::default();
}

/// By the loops' ids.
#[derive(Default)]
struct LocalSets(RefCell<HashMap<u64, Rc<ProcessBound<LocalSet>>>>);

impl Drop for LocalSets {
    /// The thread ends. Rust tasks hold what is Python's; those that the main thread has when the interpreter is gone
    /// are not touched any more.
    fn drop(&mut self) {
        let sets = ManuallyDrop::new(std::mem::take(self.0.get_mut()));
        attach_anywhere(|py| {
            if let Err(raised) = error::catch_panic(|| drop(ManuallyDrop::into_inner(sets))) {
                error::unraisable(py, raised, None);
            }
        });
    }
}

impl Engine {
    pub(super) fn new(shared: &Arc<LoopShared>) -> PyResult<EngineRef> {
        let made_in = generation();
        let sleeps = Arc::clone(shared);
        let park = move || {
            // A Rust task forked, and this is the child on its way to sleep in an epoll that is its parent's.
            assert!(made_in == generation(), "the event loop was made before a fork");
            fall_asleep(&sleeps.times);
        };
        let raised = Raised::default();
        let (raises, wakes) = (Arc::clone(&raised), Arc::clone(shared));
        let unpark = move || {
            if wake_up(&wakes.times) {
                run_signal_handlers(&raises, &wakes);
            }
        };
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .thread_name("pyloop-blocking")
            .on_thread_start(outlast)
            .on_thread_park(park)
            .on_thread_unpark(unpark)
            .build()
            .map_err(|failed| error::os_error(&failed))?;
        let handle = runtime.handle().clone();
        let (id, alarm, uses, shared) = (shared.id(), GilCell::default(), Uses::default(), Arc::clone(shared));
        let may_sleep_by_bell = AtomicBool::new(false);
        let engine =
            Self { runtime: Mutex::new(Some(runtime)), handle, alarm, raised, uses, may_sleep_by_bell, shared, id };
        Ok(Arc::new(ProcessBound::new(engine)))
    }

    /// What a signal's handler raised while the loop slept.
    #[inline]
    pub(super) fn raised_asleep(&self, py: Python<'_>) -> Option<Box<PyErr>> {
        self.raised.take(py)
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// This thread's LocalSet for this loop.
    fn local_set(&self) -> Rc<ProcessBound<LocalSet>> {
        LOCAL_SETS.with(|sets| {
            let mut sets = sets.0.borrow_mut();
            Rc::clone(sets.entry(self.id).or_insert_with(|| Rc::new(ProcessBound::new(LocalSet::new()))))
        })
    }

    /// Block on `root`, and run the loop's Rust tasks beside it.
    ///
    /// # Errors
    /// A thread is needed, and cannot be started.
    pub(super) fn drive<F: Future>(&self, root: F) -> std::io::Result<F::Output> {
        let local_set = self.local_set();
        // Taken out for the run: a loop that is closed by force meanwhile does not pull the runtime from under it.
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        let runtime = runtime.expect("a loop that is not closed has a runtime, and one run at a time");
        struct PutBack<'a>(&'a Engine, Option<Runtime>);
        impl Drop for PutBack<'_> {
            fn drop(&mut self) {
                *self.0.runtime.lock().unwrap_or_else(PoisonError::into_inner) = self.1.take();
            }
        }
        let mut guard = PutBack(self, Some(runtime));
        let output = {
            let inside = is_inside_runtime();
            let (_driving, _counting) = (Driving::begin(), Counting::begin(&self.uses));
            match &guard.1 {
                Some(runtime) if !inside => runtime.block_on(local_set.run_until(to_the_end(root))),
                _ => drive_beside(&mut guard.1, &self.shared, local_set.run_until(root))?,
            }
        };
        // The set keeps the waker it was polled with, and that keeps the runtime: this one keeps nothing.
        let nothing = std::pin::pin!(local_set.run_until(std::future::ready(())));
        let polled = nothing.poll(&mut Context::from_waker(Waker::noop()));
        debug_assert!(polled.is_ready(), "a ready future");
        Ok(output)
    }

    /// Before a run: what its turns will need of the system.
    ///
    /// # Errors
    /// OSError when there is not enough of it left.
    pub(super) fn prepare(&self, py: Python<'_>, shared: &LoopShared, reactor: Option<&dyn Reactor>) -> PyResult<()> {
        let _inside = self.handle.enter();
        let timer = self.alarm.with(py, Alarm::prepare);
        let Some(reactor) = reactor else { return Ok(()) };
        // A process without a descriptor for the bell is no reason not to run.
        let hung = || -> std::io::Result<()> {
            let bell = shared.bell.hang()?;
            timer.into_iter().chain([bell]).try_for_each(|fd| reactor.end_sleep_by(py, fd))
        };
        let by_bell = accel::OWN_SLEEP.is_on() && hung().is_ok();
        self.may_sleep_by_bell.store(by_bell, Ordering::Relaxed);
        if by_bell { Ok(()) } else { reactor.watch_by_driver(py).map(drop) }
    }

    /// Whether the loop may sleep in its own poller.
    #[inline]
    pub(super) fn may_sleep_by_bell(&self) -> bool {
        self.may_sleep_by_bell.load(Ordering::Relaxed)
    }

    /// There is no alarm for a sleep in the poller.
    #[cold]
    pub(super) fn sleep_in_driver(&self) {
        self.may_sleep_by_bell.store(false, Ordering::Relaxed);
    }

    /// Whether somebody waits for the runtime's driver.
    #[inline]
    pub(super) fn is_driver_used(&self) -> bool {
        self.uses.load(Ordering::SeqCst) > 0
    }

    /// Drop the Rust tasks and the runtime. The LocalSet of another thread is dropped by that thread: when it ends, or
    /// when it next makes one.
    pub fn shut_down(&self, py: Python<'_>) {
        drop(self.alarm.take(py));
        let set = LOCAL_SETS.try_with(|sets| sets.0.try_borrow_mut().ok().and_then(|mut sets| sets.remove(&self.id)));
        {
            let _inside = self.handle.enter();
            drop(set);
        }
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            // Not `drop`: a loop may die inside another loop's callback, where tokio refuses to wait for its threads.
            runtime.shutdown_background();
        }
    }
}

/// `root`, and one more look at the driver. tokio wakes what gave way (`yield_now`) after such a look, and forgets what
/// it has not woken when `block_on` ends: that would never be polled again. Not in a child that was forked in this run:
/// it shares the epoll with its parent, and a look would take the parent's events.
async fn to_the_end<F: Future>(root: F) -> F::Output {
    let begun_in = generation();
    let output = root.await;
    if begun_in == generation() {
        tokio::task::yield_now().await;
    }
    output
}

/// A thread that runs a runtime's driver, while another one polls.
struct Driver<'a> {
    /// The thread, and its share of the runtime.
    running: Option<ProcessBound<(JoinHandle<()>, Arc<Runtime>)>>,
    stop: Arc<Notify>,
    home: &'a mut Option<Runtime>,
    /// The loop's.
    shared: &'a LoopShared,
}

impl<'a> Driver<'a> {
    fn start(home: &'a mut Option<Runtime>, shared: &'a LoopShared) -> std::io::Result<Self> {
        let runtime = Arc::new(home.take().expect("a runtime that is not running"));
        let stop = Arc::new(Notify::new());
        let driven = (Arc::clone(&runtime), Arc::clone(&stop));
        let started = std::thread::Builder::new().spawn(move || driven.0.block_on(driven.1.notified()));
        match started {
            Ok(thread) => Ok(Self { running: Some(ProcessBound::new((thread, runtime))), stop, home, shared }),
            Err(refused) => {
                *home = Arc::into_inner(runtime);
                Err(refused)
            }
        }
    }
}

impl Driver<'_> {
    /// Stop the thread and wait for its end. The error is the panic of a Rust task there.
    fn join(&mut self) -> std::thread::Result<()> {
        // None in a child that was forked by what the other thread polled: it does not have the thread.
        let Some((thread, runtime)) = self.running.take().and_then(ProcessBound::into_inner) else { return Ok(()) };
        self.stop.notify_one();
        // A Rust task there may need the GIL to end.
        fall_asleep(&self.shared.times);
        let driven = thread.join();
        wake_up(&self.shared.times);
        *self.home = Arc::into_inner(runtime);
        driven
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        // Nothing is left to do here, unless the other thread unwinds with a panic of its own.
        drop(self.join());
    }
}

/// Drive `root` on this thread, which is inside a runtime already and may not enter a second one: a child forked by a
/// coroutine, or a program whose Rust main is on tokio. The runtime's driver runs in a thread of its own meanwhile.
fn drive_beside<F: Future>(runtime: &mut Option<Runtime>, shared: &LoopShared, root: F) -> std::io::Result<F::Output> {
    struct Unpark(std::thread::Thread, AtomicBool);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::SeqCst);
            self.0.unpark();
        }
    }
    let handle = runtime.as_ref().map(|runtime| runtime.handle().clone());
    let mut driver = Driver::start(runtime, shared)?;
    let output = {
        let _inside = handle.as_ref().map(Handle::enter);
        let unpark = Arc::new(Unpark(std::thread::current(), AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&unpark));
        let mut root = std::pin::pin!(root);
        loop {
            if let Poll::Ready(output) = root.as_mut().poll(&mut Context::from_waker(&waker)) {
                break output;
            }
            fall_asleep(&shared.times);
            while !unpark.1.swap(false, Ordering::SeqCst) {
                std::thread::park();
            }
            wake_up(&shared.times);
        }
    };
    match driver.join() {
        Ok(()) => Ok(output),
        Err(panicked) => std::panic::resume_unwind(panicked),
    }
}
