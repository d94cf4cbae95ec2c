//! The tokio runtime of a loop, its LocalSet, and the GIL around its sleep.
//!
//! A runtime belongs to a loop and is made at its first run. A LocalSet belongs to the thread that runs the loop: it
//! is kept in a thread-local, so a `!Send` task never leaves its thread, whatever becomes of the loop. A loop that is
//! run by another thread later gets a LocalSet of that thread; the Rust tasks of the first wait for the loop to come
//! back, or end with the loop or the thread.
//!
//! tokio calls `on_thread_park` before it sleeps and `on_thread_unpark` after: the GIL is given up exactly between the
//! two (`py::attach`). Looking for events without waiting keeps it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, ThreadId};

use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::LocalSet;

use super::shared::{generation, this_thread};
use crate::py::attach::{park, unpark};
use crate::py::error;

/// What drives a loop.
#[derive(Debug)]
pub struct Engine {
    runtime: Mutex<Option<Runtime>>,
    handle: Handle,
    id: u64,
    /// The threads that hold a LocalSet for this loop.
    homes: Mutex<Vec<ThreadId>>,
}

thread_local! {
    static LOCAL_SETS: RefCell<HashMap<u64, Rc<LocalSet>>> = RefCell::default();
}

impl Engine {
    pub(super) fn new(id: u64) -> PyResult<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .thread_name("pyloop-blocking")
            .on_thread_park(park)
            .on_thread_unpark(unpark)
            .build()
            .map_err(|failed| error::os_error(&failed))?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Mutex::new(Some(runtime)), handle, id, homes: Mutex::default() })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// This thread's LocalSet for this loop.
    fn local_set(&self) -> Rc<LocalSet> {
        LOCAL_SETS.with_borrow_mut(|sets| {
            Rc::clone(sets.entry(self.id).or_insert_with(|| {
                self.homes.lock().unwrap_or_else(PoisonError::into_inner).push(this_thread());
                Rc::new(LocalSet::new())
            }))
        })
    }

    /// Block on `root`, and run the loop's Rust tasks beside it.
    pub(super) fn block_on<F: Future>(&self, root: F) -> F::Output {
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
        let guard = PutBack(self, Some(runtime));
        let Some(runtime) = &guard.1 else { unreachable!("put in above") };
        let outer = DRIVING.replace(generation());
        let output = if Handle::try_current().is_ok() {
            block_on_beside(runtime, local_set.run_until(root))
        } else {
            runtime.block_on(local_set.run_until(root))
        };
        DRIVING.set(outer);
        // The set keeps the waker it was polled with, and that keeps the runtime: this one keeps nothing.
        let nothing = std::pin::pin!(local_set.run_until(std::future::ready(())));
        let polled = nothing.poll(&mut Context::from_waker(Waker::noop()));
        debug_assert!(polled.is_ready(), "a ready future");
        output
    }

    /// Drop the Rust tasks and the runtime; the caller holds the GIL. The LocalSet of another thread is dropped by
    /// that thread: when it ends, or when it next makes one.
    pub fn shut_down(&self) {
        let set = LOCAL_SETS.try_with(|sets| sets.try_borrow_mut().ok().and_then(|mut sets| sets.remove(&self.id)));
        {
            let _context = self.handle.enter();
            drop(set);
        }
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            // Not `drop`: a loop may die inside another loop's callback, where tokio refuses to wait for its threads.
            runtime.shutdown_background();
        }
    }
}

/// The runtime that Rust futures meet when the loop that awaits them is not ours (asyncio, uvloop): one thread, started
/// at the first use, that runs timers and I/O; the futures themselves are polled by the loop.
struct Background {
    handle: Handle,
    /// A forked child has the parent's runtime without its thread: it starts one of its own.
    generation: u32,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

static BACKGROUND: Mutex<Option<Background>> = Mutex::new(None);

/// The background runtime of this process.
///
/// # Errors
/// The thread or its runtime could not be made.
fn background() -> PyResult<Handle> {
    let mut slot = BACKGROUND.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = slot.as_ref().filter(|known| known.generation == generation()) {
        return Ok(known.handle.clone());
    }
    let runtime =
        Builder::new_current_thread().enable_io().enable_time().build().map_err(|failed| error::os_error(&failed))?;
    let handle = runtime.handle().clone();
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("pyloop-background".to_owned())
        .spawn(move || runtime.block_on(stopped.notified()))
        .map_err(|failed| error::os_error(&failed))?;
    let made = Background { handle: handle.clone(), generation: generation(), stop, thread: Some(thread) };
    // The one of a parent process is not dropped: its thread is not there to be joined.
    std::mem::forget(slot.replace(made));
    Ok(handle)
}

/// Stop the background runtime and wait for its thread: before the interpreter goes, as a wake that is under way needs
/// it. Registered with `atexit` when the package is imported.
#[pyfunction]
pub fn stop_background(py: Python<'_>) {
    let taken = BACKGROUND.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut known) = taken else { return };
    if known.generation != generation() {
        std::mem::forget(known);
        return;
    }
    known.stop.notify_one();
    if let Some(thread) = known.thread.take() {
        py.detach(|| drop(thread.join()));
    }
}

/// Enter a runtime for one poll: the loop's own when this thread is driving one, else the background one.
pub fn in_context<R>(f: impl FnOnce() -> R) -> PyResult<R> {
    if DRIVING.get() == generation() {
        return Ok(f());
    }
    let handle = background()?;
    let _guard = handle.enter();
    Ok(f())
}

/// As `in_context`, for a drop: without a runtime at hand none is started.
pub fn drop_in_context(f: impl FnOnce()) {
    let known = if DRIVING.get() == generation() {
        None
    } else {
        let slot = BACKGROUND.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().filter(|known| known.generation == generation()).map(|known| known.handle.clone())
    };
    let _guard = known.as_ref().map(Handle::enter);
    f();
}

thread_local! {
    /// The generation in which this thread drives a loop of ours; a forked child finds its parent's.
    static DRIVING: Cell<u32> = const { Cell::new(0) };
}

/// Drive `root` on this thread, which is inside a runtime already and may not enter a second one: a child forked by a
/// coroutine, or a program whose Rust main is on tokio. The runtime's driver runs in a thread of its own meanwhile.
fn block_on_beside<F: Future>(runtime: &Runtime, root: F) -> F::Output {
    struct Unpark(std::thread::Thread, AtomicBool);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.1.store(true, Ordering::SeqCst);
            self.0.unpark();
        }
    }
    struct Stop<'a>(&'a Notify);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let stop = Notify::new();
    std::thread::scope(|scope| {
        let driver = scope.spawn(|| runtime.block_on(stop.notified()));
        let output = {
            let _stop = Stop(&stop);
            let _context = runtime.enter();
            let unpark = Arc::new(Unpark(std::thread::current(), AtomicBool::new(false)));
            let waker = Waker::from(Arc::clone(&unpark));
            let mut root = std::pin::pin!(root);
            loop {
                if let Poll::Ready(output) = root.as_mut().poll(&mut Context::from_waker(&waker)) {
                    break output;
                }
                park();
                while !unpark.1.swap(false, Ordering::SeqCst) {
                    std::thread::park();
                }
                self::unpark();
            }
        };
        // A Rust task there may need the GIL to end.
        park();
        drop(driver.join());
        self::unpark();
        output
    })
}

/// The engine for a loop, shared with nobody but its runs.
pub(super) type EngineRef = Arc<Engine>;
