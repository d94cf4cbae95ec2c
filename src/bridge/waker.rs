//! A waker that names a task: clone it, send it anywhere, wake it from any thread without the GIL.
//!
//! During a step the task lends a waker that costs nothing (`lend`); only a future that keeps a clone makes the task's
//! `TaskShared`. A wake puts that into the loop's inbox, once until the loop has taken it out; the loop's thread then
//! finds the task, if it is still there, and queues its step. A waker may outlive its task.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::task::{RawWaker, RawWakerVTable, Wake, Waker};

use once_cell::race::OnceBox;
use pyo3::prelude::*;

use super::callback;
use crate::core::inbox::Sent;
use crate::py::attach::Address;
use crate::py::cell::GilCell;
use crate::py::error;
use crate::rt::background;
use crate::sched::hooks::WakeTask;
use crate::sched::{Deliver, LoopShared, LoopState};

/// How a wake reaches the task's loop.
pub enum Home {
    /// A loop of ours: through its inbox.
    Ours(Arc<LoopShared>),
    /// Any other loop: `call_soon_threadsafe(step)`, which needs the GIL.
    Other(Py<PyAny>),
    /// No loop: wakes go nowhere.
    Nowhere,
}

/// The part of a task that its wakers share.
pub struct TaskShared {
    home: Home,
    queued: Sent,
    /// The task while it lives; not a reference of its own. Cleared by the destructor of the task's Rust value, which
    /// every deallocator runs before the memory goes: the pooled one, PyO3's, and that of a Python subclass through it.
    task: GilCell<Option<Address>>,
    wake: WakeTask,
}

impl TaskShared {
    /// `wake` queues the step of the task, when a wake finds it waiting for a Rust future.
    pub fn new(home: Home, task: Address, wake: WakeTask) -> Self {
        Self { home, queued: Sent::default(), task: GilCell::new(Some(task)), wake }
    }

    /// The task is going away.
    pub fn forget_task(&self, py: Python<'_>) {
        self.task.set(py, None);
    }

    fn run(&self, py: Python<'_>) -> PyResult<()> {
        self.queued.lower();
        let task = self.task.with(py, |task| {
            // SAFETY: the task clears this field before its memory goes.
            task.and_then(|task| unsafe { task.upgrade(py) })
        });
        match task {
            Some(task) => (self.wake)(py, &task),
            None => Ok(()),
        }
    }
}

impl Deliver for TaskShared {
    fn deliver(self: Arc<Self>, py: Python<'_>, _state: &LoopState) {
        if let Err(raised) = self.run(py) {
            error::unraisable(py, raised, None);
        }
    }
}

/// `call_soon_threadsafe` takes a Python callable: this one.
#[pyclass(frozen, module = "pyloop._native")]
struct WakeCall(Arc<TaskShared>);

#[pymethods]
impl WakeCall {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.0.run(py)
    }
}

impl Wake for TaskShared {
    fn wake(self: Arc<Self>) {
        if !self.queued.raise() {
            return;
        }
        match &self.home {
            Home::Ours(shared) => {
                let shared = Arc::clone(shared);
                shared.send(self);
            }
            Home::Other(_) => wake_elsewhere(self),
            Home::Nowhere => {}
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.is_raised() {
            Arc::clone(self).wake();
        }
    }
}

fn wake_elsewhere(shared: Arc<TaskShared>) {
    background::with_gil(move |py| {
        let Home::Other(event_loop) = &shared.home else { return };
        let event_loop = event_loop.bind(py);
        let woken = Bound::new(py, WakeCall(Arc::clone(&shared)))
            .and_then(|call| callback::call_soon_threadsafe(event_loop, call.as_any()));
        if let Err(raised) = woken {
            error::unraisable(py, raised, None);
        }
    });
}

/// A task that lends wakers.
pub trait Lender: Sync {
    /// The shared part, made at the first call. Any thread may call it (a future may hand `&Waker` to another thread
    /// for the length of its poll).
    fn shared(&self) -> &Arc<TaskShared>;
    /// The lent waker itself was woken (by any thread, as for `shared`): a future that gives way. The step that lends
    /// it goes on by itself.
    fn woken(&self);
}

/// Where a task keeps its shared part: one word, as few tasks have one.
pub type SharedSlot = OnceBox<Arc<TaskShared>>;

/// Give `f` a waker of this task that costs nothing unless it is cloned.
#[inline]
pub fn lend<L: Lender, R>(lender: &L, f: impl FnOnce(&Waker) -> R) -> R {
    let data = std::ptr::from_ref(lender).cast::<()>();
    // SAFETY: the vtable below keeps RawWaker's contract for a `&L` that outlives this call; the waker is never
    // dropped (its drop would do nothing) and only a shared reference leaves here, for the length of `f`.
    let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(data, Lent::<L>::VTABLE)) });
    f(&waker)
}

struct Lent<L>(std::marker::PhantomData<L>);

impl<L: Lender> Lent<L> {
    const VTABLE: &'static RawWakerVTable =
        &RawWakerVTable::new(Self::clone, Self::wake_by_ref, Self::wake_by_ref, Self::drop);

    unsafe fn clone(data: *const ()) -> RawWaker {
        // SAFETY: `data` is the `&L` of `lend`, alive while its waker is.
        let lender = unsafe { &*data.cast::<L>() };
        let waker = ManuallyDrop::new(Waker::from(Arc::clone(lender.shared())));
        // The clone's own vtable is std's for Arc<TaskShared>; `waker` gave its count to it.
        RawWaker::new(waker.data(), waker.vtable())
    }

    unsafe fn wake_by_ref(data: *const ()) {
        // SAFETY: as in `clone`.
        let lender = unsafe { &*data.cast::<L>() };
        lender.woken();
    }

    unsafe fn drop(_data: *const ()) {}
}
