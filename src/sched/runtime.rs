//! The tokio runtime of a loop, its LocalSet, and the GIL around its sleep.
//!
//! A runtime belongs to a loop and is made at its first run. A LocalSet belongs to the thread that runs the loop: it
//! is kept in a thread-local, so a `!Send` task never leaves its thread, whatever becomes of the loop. A loop that is
//! run by another thread later gets a LocalSet of that thread; the Rust tasks of the first wait for the loop to come
//! back, or end with the loop or the thread.
//!
//! tokio calls `on_thread_park` before it sleeps and `on_thread_unpark` after: the GIL is given up exactly between the
//! two (`py::attach`). Looking for events without waiting keeps it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::ThreadId;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::LocalSet;

use super::shared::this_thread;
use crate::py::attach::{park, unpark};

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
            .map_err(PyOSError::new_err)?;
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
        runtime.block_on(local_set.run_until(root))
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
///
/// # Errors
/// The thread or its runtime could not be made.
pub fn background() -> PyResult<Handle> {
    static BACKGROUND: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = BACKGROUND.get() {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(PyOSError::new_err)?;
    let handle = runtime.handle().clone();
    if BACKGROUND.set(handle.clone()).is_ok() {
        std::thread::Builder::new()
            .name("pyloop-background".to_owned())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .map_err(PyOSError::new_err)?;
    }
    Ok(BACKGROUND.get().cloned().unwrap_or(handle))
}

/// Enter a runtime for one poll: the loop's own when the thread is inside it, else the background one.
pub fn in_context<R>(f: impl FnOnce() -> R) -> PyResult<R> {
    if Handle::try_current().is_ok() {
        return Ok(f());
    }
    let handle = background()?;
    let _guard = handle.enter();
    Ok(f())
}

/// The engine for a loop, shared with nobody but its runs.
pub(super) type EngineRef = Arc<Engine>;
