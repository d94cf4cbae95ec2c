//! The background runtime: tokio's multi-thread runtime of this crate copy, started at the first need. It runs what
//! was spawned away from the loop, and is the reactor of futures that are polled on a loop of somebody else's (asyncio,
//! uvloop, or a pyloop that is another extension module).
//!
//! Any thread. Its lock is held for look-ups only, never while Python runs or a thread is waited for.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::sync::Notify;

use super::process::{self, generation};
use crate::py::api::is_attached;
use crate::py::attach::attach_anywhere;
use crate::py::call::Object;
use crate::py::exit::outlast;
use crate::py::{error, is_main_interpreter};

/// How long the end of the interpreter waits for work that does not stop by itself (`spawn_blocking`).
const PATIENCE: Duration = Duration::from_secs(1);

/// What its threads are called.
const NAME: &str = "pyloop-background";

struct Background {
    /// None for one that somebody else owns. A forked child has its parent's without the threads: it is never dropped.
    runtime: Option<ManuallyDrop<Owned>>,
    handle: &'static Handle,
    generation: u32,
    /// The interpreter ends.
    stopped: bool,
}

impl Background {
    fn is_ours(&self) -> bool {
        self.generation == generation()
    }
}

/// A runtime that was made here.
enum Owned {
    Threads(Runtime),
    /// One of a current-thread builder: this thread drives it until it is told to stop.
    Driven(Arc<Notify>, JoinHandle<()>),
}

impl Owned {
    fn new(runtime: Runtime) -> std::io::Result<Self> {
        if runtime.handle().runtime_flavor() != RuntimeFlavor::CurrentThread {
            return Ok(Self::Threads(runtime));
        }
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let driver = std::thread::Builder::new().name(NAME.into()).spawn(move || {
            runtime.block_on(stopped.notified());
            runtime.shutdown_timeout(PATIENCE);
        })?;
        Ok(Self::Driven(stop, driver))
    }

    /// Wait for its threads.
    fn stop(self) {
        match self {
            Self::Threads(runtime) => runtime.shutdown_timeout(PATIENCE),
            Self::Driven(stop, driver) => {
                stop.notify_one();
                if let Err(panicked) = driver.join() {
                    std::panic::resume_unwind(panicked);
                }
            }
        }
    }
}

#[derive(Default)]
struct Slot {
    builder: Option<Builder>,
    made: Option<Background>,
}

fn slot() -> MutexGuard<'static, Slot> {
    static SLOT: Mutex<Slot> = Mutex::new(Slot { builder: None, made: None });
    SLOT.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static HELD: Cell<Option<MutexGuard<'static, Slot>>> = const { Cell::new(None) };
}

/// A fork is about to happen: no other thread has the lock then, as none will be in the child to give it back.
extern "C" fn hold() {
    HELD.set(Some(slot()));
}

/// The fork has happened.
extern "C" fn give_back() {
    drop(HELD.take());
}

/// Count forks from now on, with the lock in one piece on both sides of each.
pub fn count_forks() {
    process::count_forks(hold, give_back);
}

/// Configure the background runtime, which is made from it at the first need. The default is tokio's multi-thread
/// runtime with everything enabled; a current-thread runtime gets a thread that drives it. Without effect once it runs.
pub fn init(builder: Builder) {
    slot().builder = Some(builder);
}

/// Use this runtime as the background runtime.
///
/// # Errors
/// `Err(())` when there is one already.
#[expect(clippy::result_unit_err, reason = "the signature of pyo3_async_runtimes::tokio::init_with_runtime")]
pub fn init_with_runtime(runtime: &'static Runtime) -> Result<(), ()> {
    let mut slot = slot();
    if slot.made.as_ref().is_some_and(Background::is_ours) {
        return Err(());
    }
    count_forks();
    let handle = runtime.handle();
    slot.made = Some(Background { runtime: None, handle, generation: generation(), stopped: false });
    process::set_runtime(true);
    Ok(())
}

/// The background runtime of this process, started if it is not running.
///
/// # Errors
/// OSError when its threads cannot be started; RuntimeError in a forked child where they must not be, and when it has
/// stopped.
pub fn handle() -> PyResult<&'static Handle> {
    find(false)
}

/// `handle`; of one that has stopped, too: what is spawned there is dropped at once.
///
/// # Errors
/// As `handle`, but for that.
pub fn handle_at_last() -> PyResult<&'static Handle> {
    find(true)
}

fn find(at_last: bool) -> PyResult<&'static Handle> {
    let mut slot = slot();
    match slot.made.as_ref().filter(|made| made.is_ours()) {
        Some(made) if made.stopped && !at_last => {
            return Err(PyRuntimeError::new_err("the background runtime has stopped: the interpreter is ending"));
        }
        Some(made) => {
            let handle = made.handle;
            drop(slot);
            if UNREGISTERED.load(Ordering::Relaxed) {
                Python::try_attach(stop_at_exit).unwrap_or(Ok(()))?;
            }
            return Ok(handle);
        }
        None => {}
    }
    count_forks();
    if slot.made.as_ref().is_some_and(|made| made.runtime.is_some()) && parks_in_one_table() {
        return Err(PyRuntimeError::new_err(
            "this process was forked from one with Rust threads that tokio's feature `parking_lot` does not forget: \
             start it with multiprocessing's spawn or forkserver, or build the extension without that feature",
        ));
    }
    let default = || {
        let mut builder = Builder::new_multi_thread();
        builder.enable_all().thread_name(NAME).on_thread_start(outlast);
        builder
    };
    // Kept for the children that this process may fork.
    let builder = slot.builder.get_or_insert_with(default);
    let runtime = builder.build().map_err(|failed| error::os_error(&failed))?;
    // A handle is a reference count: one stays behind for each generation.
    let handle = &*Box::leak(Box::new(runtime.handle().clone()));
    let owned = Owned::new(runtime).map_err(|failed| error::os_error(&failed))?;
    let runtime = Some(ManuallyDrop::new(owned));
    slot.made = Some(Background { runtime, handle, generation: generation(), stopped: false });
    process::set_runtime(true);
    drop(slot);
    Python::try_attach(stop_at_exit).unwrap_or(Ok(()))?;
    Ok(handle)
}

/// Whether tokio was built with its feature `parking_lot` (a part of `full`): a table of all threads that wait, with
/// pointers to their stacks. A forked child that makes threads would follow those of its parent, which are gone, and
/// crash now and then. std's locks, the alternative, say in their debug text whether they are poisoned.
fn parks_in_one_table() -> bool {
    !format!("{:?}", tokio::sync::Notify::new()).contains("poisoned")
}

/// The background runtime if it is running.
pub fn running() -> Option<&'static Handle> {
    slot().made.as_ref().filter(|made| made.is_ours() && !made.stopped).map(|made| made.handle)
}

/// Run `f` with the GIL: here when this thread has it, else on a thread of the background runtime that may wait for
/// it (this one may be a worker of a runtime, whose other tasks must not wait). At interpreter exit `f` is dropped.
pub fn with_gil(f: impl FnOnce(Python<'_>) + Send + 'static) {
    let f = move |py: Python<'_>| error::unraisable_panic(py, || f(py));
    match running() {
        Some(runtime) if !is_attached() => drop(runtime.spawn_blocking(|| attach_anywhere(f))),
        _ => drop(attach_anywhere(f)),
    }
}

/// Stop the background runtime and wait for its threads: before the interpreter goes, as a wake that is under way
/// needs it.
fn stop(py: Python<'_>) {
    let runtime = {
        let mut slot = slot();
        slot.made.as_mut().filter(|made| made.is_ours()).and_then(|made| {
            let runtime = made.runtime.take()?;
            made.stopped = true;
            process::set_runtime(false);
            Some(runtime)
        })
    };
    if let Some(runtime) = runtime {
        py.detach(|| ManuallyDrop::into_inner(runtime).stop());
    }
}

/// What `atexit` has of ours. Its functions are called in the reverse order of their registration, and those of the
/// program that were registered before may need the runtime. When all have been called `atexit` lets go of them, and
/// Python is whole still: so the runtime is stopped when this is freed, once it has been called, or came too late for
/// that. One that was only unregistered stops nothing.
#[pyclass(frozen, module = "pyloop._native")]
struct AtExit(AtomicBool);

#[pymethods]
impl AtExit {
    fn __call__(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Drop for AtExit {
    fn drop(&mut self) {
        let called = *self.0.get_mut();
        Python::attach(|py| {
            let _preserved = error::PreserveError::new(py);
            match if called { Ok(true) } else { is_ending(py) } {
                Ok(true) => error::unraisable_panic(py, || stop(py)),
                Ok(false) => {}
                Err(raised) => error::unraisable(py, raised, None),
            }
        });
    }
}

/// The interpreter waits for Python's threads before it calls the functions of `atexit`, the main thread counted as
/// ended.
fn is_ending(py: Python<'_>) -> PyResult<bool> {
    let main = py.import("threading")?.try_call_method("main_thread", ())?;
    Ok(!main.try_call_method("is_alive", ())?.try_is_truthy()?)
}

/// The runtime runs, and the main interpreter does not know yet that it has to stop it: a subinterpreter has started
/// it, whose own end stops nothing.
static UNREGISTERED: AtomicBool = AtomicBool::new(false);

fn stop_at_exit(py: Python<'_>) -> PyResult<()> {
    if !is_main_interpreter(py) {
        UNREGISTERED.store(true, Ordering::Relaxed);
        return Ok(());
    }
    UNREGISTERED.store(false, Ordering::Relaxed);
    py.import("atexit")?.try_call_method("register", (AtExit(AtomicBool::new(false)),)).map(drop)
}
