//! The provider's side of the ABI (`abi`): the functions behind the capsule of a module that has the loop in it.
//!
//! A `RawLoop` is an `Arc<LoopShared>`; a `RawWaker` is a `Waker`, borrowed from whoever has it or boxed for the
//! client. Each function ends a panic here: unwinding into another module's frames is undefined.

use std::ffi::{c_int, c_void};
use std::pin::Pin;
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyType};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::{abi, cx, link};
use crate::core::inbox::Sent;
use crate::py::attach::attach_anywhere;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::error;
use crate::rt::driver_use::DriverUse;
use crate::sched::entry::Entry;
use crate::sched::state::ours;
use crate::sched::{Deliver, LoopShared, LoopState};

/// What a client wants called when a task that waits for its awaitable is cancelled.
pub type Cancel = unsafe extern "C" fn(abi::Object);

static API: abi::Api = abi::Api {
    size: size_of::<abi::Api>(),
    major: abi::MAJOR,
    minor: abi::MINOR,
    current_waker,
    waker_clone,
    waker_wake,
    waker_wake_by_ref,
    waker_drop,
    register_awaitable,
    loop_acquire,
    loop_of_thread,
    loop_release,
    loop_is_current,
    loop_callback,
    loop_spawn,
    loop_timer,
    timer_drop,
    note_pending,
    current_task,
};

/// Put the capsule into the module.
///
/// # Errors
/// MemoryError.
pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    link::set_own(&API);
    let pointer = std::ptr::NonNull::from(&API).cast::<c_void>();
    // SAFETY: the table is a static; the name is that of the attribute.
    let capsule = unsafe { PyCapsule::new_with_pointer(module.py(), pointer, abi::NAME)? };
    module.try_setattr("_bridge", capsule)
}

/// Run the body of an ABI function; `otherwise` is the answer of one that panicked, which `sys.unraisablehook` is told.
fn guarded<R>(otherwise: R, body: impl FnOnce() -> R) -> R {
    error::catch_panic(body).unwrap_or_else(|panicked| {
        attach_anywhere(|py| error::unraisable(py, panicked, None));
        otherwise
    })
}

unsafe extern "C" fn current_waker(flags: *mut u32) -> *const abi::RawWaker {
    let Some(step) = cx::current() else { return null() };
    if !flags.is_null() {
        // SAFETY: by the ABI, what is not NULL is the client's place for the answer, which it does not use during the
        // call.
        unsafe { *flags = if step.debug() { abi::DEBUG } else { 0 } };
    }
    // SAFETY: by the ABI, the client holds the GIL.
    step.count_poll(unsafe { Python::assume_attached() });
    std::ptr::from_ref(step.ask_for_waker()).cast()
}

unsafe extern "C" fn note_pending() -> u64 {
    cx::current().map_or(0, |step| step.note_pending().into())
}

unsafe extern "C" fn current_task() -> abi::Object {
    cx::current().and_then(cx::Step::task).map_or(null_mut(), |task| task.as_ptr().cast())
}

/// # Safety
/// `waker` is a live waker of this provider's.
unsafe fn waker<'a>(waker: *const abi::RawWaker) -> &'a Waker {
    // SAFETY: the caller promises that it is one of ours, and alive: it is a `Waker`, as `current_waker` and `give`
    // hand them out.
    unsafe { &*waker.cast::<Waker>() }
}

fn give(waker: Waker) -> *mut abi::RawWaker {
    Box::into_raw(Box::new(waker)).cast()
}

unsafe extern "C" fn waker_clone(borrowed: *const abi::RawWaker) -> *mut abi::RawWaker {
    // SAFETY: by the ABI the client's waker is one that we gave it, alive for the call.
    guarded(null_mut(), || give(unsafe { waker(borrowed) }.clone()))
}

unsafe extern "C" fn waker_wake(owned: *mut abi::RawWaker) {
    // SAFETY: by the ABI the client owned this waker, which `give` boxed, and gives it back once.
    guarded((), || unsafe { Box::from_raw(owned.cast::<Waker>()) }.wake());
}

unsafe extern "C" fn waker_wake_by_ref(borrowed: *const abi::RawWaker) {
    // SAFETY: by the ABI the client's waker is one that we gave it, alive for the call.
    guarded((), || unsafe { waker(borrowed) }.wake_by_ref());
}

unsafe extern "C" fn waker_drop(owned: *mut abi::RawWaker) {
    // SAFETY: by the ABI the client owned this waker, which `give` boxed, and gives it back once.
    guarded((), || drop(unsafe { Box::from_raw(owned.cast::<Waker>()) }));
}

/// A class of awaitables.
#[derive(Clone, Copy)]
pub struct Registered {
    class: usize,
    pub cancel: Option<Cancel>,
    /// Its objects are coroutines (`collections.abc.Coroutine`) as well.
    pub is_coroutine: bool,
}

static REGISTERED: GilCell<Vec<Registered>> = GilCell::new(Vec::new());

unsafe extern "C" fn register_awaitable(class: abi::Object, cancel: Option<Cancel>) -> c_int {
    guarded(-1, || {
        Python::attach(|py| {
            // SAFETY: by the ABI the client passes a type object, which it holds for the call, and has the GIL.
            let object = unsafe { Bound::from_borrowed_ptr(py, class.cast()) };
            let Ok(is_coroutine) = is_coroutine_class(&object) else { return -1 };
            let address = class as usize;
            let is_new = REGISTERED.with(py, |known| {
                let is_new = !known.iter().any(|known| known.class == address);
                if is_new {
                    known.push(Registered { class: address, cancel, is_coroutine });
                }
                is_new
            });
            if is_new {
                // A reference for ever: no other class may come to have the address.
                std::mem::forget(object.unbind());
            }
            0
        })
    })
}

fn is_coroutine_class(class: &Bound<'_, PyAny>) -> PyResult<bool> {
    let abstract_class = class.py().import("collections.abc")?.try_getattr("Coroutine")?;
    class.cast::<PyType>()?.is_subclass(&abstract_class)
}

/// What was registered for the type of this object.
#[inline]
pub fn registered(object: &Bound<'_, PyAny>) -> Option<Registered> {
    REGISTERED.with(object.py(), |known| {
        if known.is_empty() {
            return None;
        }
        let class = object.get_type_ptr() as usize;
        known.iter().find(|known| known.class == class).copied()
    })
}

unsafe extern "C" fn loop_acquire(event_loop: abi::Object) -> *mut abi::RawLoop {
    guarded(null_mut(), || {
        Python::attach(|py| {
            // SAFETY: by the ABI the client passes an object, which it holds for the call, and has the GIL.
            let event_loop = unsafe { Bound::from_borrowed_ptr(py, event_loop.cast()) };
            ours(&event_loop).map_or(null_mut(), |state| into_raw(Arc::clone(&state.get().shared)))
        })
    })
}

fn into_raw(shared: Arc<LoopShared>) -> *mut abi::RawLoop {
    Arc::into_raw(shared).cast_mut().cast()
}

unsafe extern "C" fn loop_of_thread(thread_ident: u64) -> *mut abi::RawLoop {
    guarded(null_mut(), || LoopShared::of_thread_ident(thread_ident).map_or(null_mut(), into_raw))
}

unsafe extern "C" fn loop_release(event_loop: *mut abi::RawLoop) {
    // SAFETY: by the ABI the client owned this loop, which `into_raw` gave it, and gives it back once.
    guarded((), || drop(unsafe { Arc::from_raw(event_loop.cast::<LoopShared>()) }));
}

/// # Safety
/// `event_loop` has been acquired and not released.
unsafe fn shared(event_loop: *const abi::RawLoop) -> Arc<LoopShared> {
    let pointer = event_loop.cast::<LoopShared>();
    // SAFETY: the caller promises a loop that `into_raw` gave and nobody has released: that count keeps the pointer
    // valid while another is added, which the Arc takes.
    unsafe {
        Arc::increment_strong_count(pointer);
        Arc::from_raw(pointer)
    }
}

unsafe extern "C" fn loop_is_current(event_loop: *const abi::RawLoop) -> c_int {
    // SAFETY: by the ABI the client has acquired the loop and not released it.
    guarded(0, || c_int::from(unsafe { shared(event_loop) }.runs_here()))
}

/// Has its loop call something, once for each wake that finds it not on its way already.
struct Callback {
    shared: Arc<LoopShared>,
    callable: Py<PyAny>,
    queued: Sent,
}

impl Wake for Callback {
    fn wake(self: Arc<Self>) {
        if self.queued.raise() {
            Arc::clone(&self.shared).send(self);
        }
    }
}

impl Deliver for Callback {
    fn deliver(self: Arc<Self>, py: Python<'_>, state: &LoopState) {
        self.queued.lower();
        state.push(py, Entry::Native(self.callable.clone_ref(py)));
    }
}

unsafe extern "C" fn loop_callback(event_loop: *const abi::RawLoop, callable: abi::Object) -> *mut abi::RawWaker {
    guarded(null_mut(), || {
        // SAFETY: by the ABI the client has acquired the loop and not released it, passes an object that it holds for
        // the call, and has the GIL.
        let (shared, callable) = Python::attach(|py| unsafe {
            (shared(event_loop), Bound::from_borrowed_ptr(py, callable.cast()).unbind())
        });
        give(Waker::from(Arc::new(Callback { shared, callable, queued: Sent::default() })))
    })
}

/// A client's future, on its way to its loop or running there.
struct Spawned {
    data: *mut c_void,
    poll: unsafe extern "C" fn(*mut c_void, *const abi::RawWaker) -> c_int,
    drop: unsafe extern "C" fn(*mut c_void),
}

// SAFETY: by the ABI the loop's thread calls `poll` and `drop`, whichever thread spawns: the client answers for `data`
// going there.
unsafe impl Send for Spawned {}

impl Future for Spawned {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: by the ABI `poll` takes the `data` that came with it until `drop` is called, which is not before this
        // is dropped. The GIL is held by the loop that polls; the waker is one that outlives the call, and is not kept
        // beyond it.
        let done = unsafe { (self.poll)(self.data, std::ptr::from_ref(cx.waker()).cast()) };
        if done == 0 { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // SAFETY: by the ABI `drop` takes the `data` that came with it, once: this is the destructor of its only owner.
        unsafe { (self.drop)(self.data) };
    }
}

/// A Rust future for a loop's local set.
struct Spawn<F>(Mutex<Option<F>>);

impl<F: Future<Output = ()> + Send + 'static> Deliver for Spawn<F> {
    fn deliver(self: Arc<Self>, _py: Python<'_>, _state: &LoopState) {
        if let Some(future) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Whatever it waits for, its wakes go through the driver.
            let used = DriverUse::begin();
            drop(tokio::task::spawn_local(async move {
                let _used = used;
                future.await;
            }));
        }
    }
}

unsafe extern "C" fn loop_spawn(
    event_loop: *const abi::RawLoop,
    data: *mut c_void,
    poll: unsafe extern "C" fn(*mut c_void, *const abi::RawWaker) -> c_int,
    drop: unsafe extern "C" fn(*mut c_void),
) -> c_int {
    guarded(-1, || {
        // SAFETY: by the ABI the client has acquired the loop and not released it.
        let shared = unsafe { shared(event_loop) };
        if shared.lifecycle.is_closed() {
            return -1;
        }
        shared.send(Arc::new(Spawn(Mutex::new(Some(Spawned { data, poll, drop })))));
        0
    })
}

/// A timer, between its maker and its loop.
#[derive(Default)]
struct Timer(Mutex<TimerState>);

#[derive(Default)]
enum TimerState {
    #[default]
    OnItsWay,
    Running(AbortHandle),
    Dropped,
}

struct StartTimer {
    timer: Arc<Timer>,
    deadline: Instant,
    waker: Waker,
}

impl Deliver for StartTimer {
    fn deliver(self: Arc<Self>, _py: Python<'_>, _state: &LoopState) {
        let mut timer = self.timer.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*timer, TimerState::OnItsWay) {
            let (deadline, waker, used) = (self.deadline, self.waker.clone(), DriverUse::begin());
            let task = tokio::task::spawn_local(async move {
                let _used = used;
                tokio::time::sleep_until(deadline).await;
                waker.wake();
            });
            *timer = TimerState::Running(task.abort_handle());
        }
    }
}

unsafe extern "C" fn loop_timer(
    event_loop: *const abi::RawLoop,
    nanoseconds: u64,
    borrowed: *const abi::RawWaker,
) -> *mut abi::RawTimer {
    guarded(null_mut(), || {
        // SAFETY: by the ABI the client has acquired the loop and not released it, and its waker is one that we gave
        // it, alive for the call.
        let (shared, waker) = unsafe { (shared(event_loop), waker(borrowed).clone()) };
        let now = Instant::now();
        // Beyond what the clock can say is some centuries.
        let deadline = now.checked_add(Duration::from_nanos(nanoseconds)).unwrap_or(now);
        let timer = Arc::<Timer>::default();
        shared.send(Arc::new(StartTimer { timer: Arc::clone(&timer), deadline, waker }));
        Arc::into_raw(timer).cast_mut().cast()
    })
}

unsafe extern "C" fn timer_drop(timer: *mut abi::RawTimer) {
    guarded((), || {
        // SAFETY: by the ABI the client owned this timer, which `loop_timer` gave it, and gives it back once.
        let timer = unsafe { Arc::from_raw(timer.cast::<Timer>()) };
        let state = {
            let mut state = timer.0.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *state, TimerState::Dropped)
        };
        if let TimerState::Running(task) = state {
            task.abort();
        }
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_does_not_cross_the_abi() {
        assert_eq!(super::guarded(7, || panic!("on purpose")), 7);
    }
}
