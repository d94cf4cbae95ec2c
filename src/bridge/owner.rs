//! The thread that owns a future which is not `Send`: it alone polls and drops it. One that is let go of on another
//! thread is sent back to its owner, or never dropped.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use pyo3::prelude::*;

use super::link::NativeLoop;
use crate::py::attach::attach_anywhere;
use crate::py::error::{self, Slim};
use crate::rt::process::{Here, ProcessBound, ThreadNumber, here, this_thread};

type LocalFuture = Pin<Box<dyn Future<Output = Slim<Py<PyAny>>>>>;

/// A thread: its number is never used twice, its ident is what a loop knows its thread by.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnerThread {
    number: ThreadNumber,
    ident: u64,
}

impl OwnerThread {
    pub(super) fn here() -> Self {
        here(|here| Self { number: here.number(), ident: here.ident() })
    }

    #[inline]
    pub(super) fn is_at(self, here: &Here) -> bool {
        self.number == here.number()
    }
}

struct Parcel(#[expect(dead_code, reason = "only dropped")] ProcessBound<LocalFuture>);
// SAFETY: a parcel is not opened on the way: it is dropped on the thread it is addressed to, or never.
unsafe impl Send for Parcel {}

static PARCELS: LazyLock<Mutex<HashMap<ThreadNumber, Vec<Parcel>>>> = LazyLock::new(Mutex::default);
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Send a future back to its owner, and have the loop of its thread, if one of pyloop's runs there, drop it.
pub(super) fn send(owner: OwnerThread, future: LocalFuture) {
    PARCELS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(owner.number)
        .or_default()
        .push(Parcel(ProcessBound::new(future)));
    WAITING.fetch_add(1, Ordering::SeqCst);
    // At interpreter exit there is no loop.
    let told = attach_anywhere(|py| -> PyResult<()> {
        if let Some(event_loop) = NativeLoop::of_thread(py, owner.ident)
            && let Some(waker) = event_loop.callback(pyo3::wrap_pyfunction!(receive_parcels, py)?.as_any())
        {
            waker.wake();
        }
        Ok(())
    });
    if let Some(Err(raised)) = told {
        Python::attach(|py| error::unraisable(py, raised, None));
    }
}

#[pyfunction]
fn receive_parcels() {
    receive();
}

/// Drop what has come back. A thread that has ended never asks: its parcels are never dropped, which is the one
/// safe thing to do with a value of a thread that is gone.
#[inline]
pub fn receive() {
    if WAITING.load(Ordering::Relaxed) != 0 {
        open();
    }
}

#[cold]
fn open() {
    let mine = PARCELS.lock().unwrap_or_else(PoisonError::into_inner).remove(&this_thread());
    if let Some(mine) = mine {
        WAITING.fetch_sub(mine.len(), Ordering::SeqCst);
        for parcel in mine {
            let dropped = error::catch_panic(|| crate::rt::inside::drop_inside(|| drop(parcel)));
            if let Err(raised) = dropped {
                Python::attach(|py| error::unraisable(py, raised, None));
            }
        }
    }
}
