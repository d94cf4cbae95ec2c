//! `spawn_local` on loops that are not of this crate copy: each thread that polls futures there has a local set, and
//! the running loop is asked to poll it whenever it is woken.
//!
//! The set is never dropped: its tasks may hold what must not be touched when a thread ends or the interpreter is gone.

use std::cell::OnceCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::prelude::*;
use tokio::task::LocalSet;

use super::callback::callback_waker;
use crate::py::{error, names};
#[cfg(feature = "pyo3-async-runtimes")]
use crate::rt::context::{in_context, is_driving, is_inside_runtime};
#[cfg(feature = "pyo3-async-runtimes")]
use crate::rt::process::here;
use crate::rt::process::{ThreadNumber, this_thread};

thread_local! {
    static LOCAL: OnceCell<(&'static LocalSet, Arc<Driver>)> = const { OnceCell::new() };
}

/// `tokio::task::spawn_local`, on the loop that runs in this thread or is the next to run in it.
///
/// # Panics
/// On a thread of another tokio runtime, outside of a `LocalSet`; when the background runtime cannot be started.
#[cfg(feature = "pyo3-async-runtimes")]
pub fn spawn_local(fut: impl Future<Output = ()> + 'static) -> tokio::task::JoinHandle<()> {
    match here(|here| in_context(here, enter, || tokio::task::spawn_local(fut))) {
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

/// This thread has entered the background runtime: `spawn_local` works from now on.
pub(super) fn enter() {
    LOCAL.with(|local| {
        local.get_or_init(|| {
            let set: &'static LocalSet = Box::leak(Box::new(LocalSet::new()));
            std::mem::forget(set.enter());
            (set, Arc::new(Driver { thread: this_thread(), last: Mutex::default() }))
        });
    });
    // The set learns who to wake.
    drive();
}

/// Poll the local tasks of this thread.
#[pyfunction]
fn drive() {
    LOCAL.with(|local| {
        let Some((set, driver)) = local.get() else { return };
        let waker = Waker::from(Arc::clone(driver));
        let never = poll_fn(|_| Poll::<()>::Pending);
        let polled = error::catch_panic(|| pin!(set.run_until(never)).poll(&mut Context::from_waker(&waker)));
        if let Err(raised) = polled {
            Python::attach(|py| error::unraisable(py, raised, None));
        }
    });
}

/// Has the loop of its thread poll the local set.
struct Driver {
    thread: ThreadNumber,
    /// Reaches the loop that ran in the thread when one was last looked for.
    last: Mutex<Option<Waker>>,
}

impl Driver {
    /// On the thread itself: the loop that runs there now.
    fn look_for_loop(&self, py: Python<'_>) -> PyResult<()> {
        let running = names::running_loop(py)?;
        if running.is_none() {
            return Ok(());
        }
        let waker = callback_waker(&running, pyo3::wrap_pyfunction!(drive, py)?.into_any());
        let old = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(waker);
        drop(old);
        Ok(())
    }
}

impl Wake for Driver {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.thread == this_thread()
            && let Some(Err(raised)) = Python::try_attach(|py| self.look_for_loop(py))
        {
            Python::attach(|py| error::unraisable(py, raised, None));
        }
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(last) = last {
            last.wake();
        }
    }
}
