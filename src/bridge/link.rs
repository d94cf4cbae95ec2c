//! The client's side of the ABI: how a Rust future of this crate copy meets the loop, be that part of this copy or
//! another extension module's.

use std::ffi::{c_int, c_void};
use std::mem::{ManuallyDrop, MaybeUninit, offset_of};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::task::{RawWaker, RawWakerVTable, Waker};

use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::abi;
#[cfg(feature = "loop")]
use super::cx;
use crate::py::call::Object;
use crate::py::{error, names};

static API: AtomicPtr<abi::Api> = AtomicPtr::new(std::ptr::null_mut());

/// This copy has the loop in it: it needs no look-up.
#[cfg(feature = "loop")]
pub(super) fn set_own(api: &'static abi::Api) {
    API.store(std::ptr::from_ref(api).cast_mut(), Ordering::Release);
}

fn known() -> Option<&'static abi::Api> {
    // SAFETY: null, or what `set_own` and `look_up` stored: a static, a provider's table (which by the ABI lives as
    // long as the process), or a copy that is never freed.
    unsafe { API.load(Ordering::Acquire).as_ref() }
}

/// The loop's functions; None while no pyloop has been imported, or for one that speaks another ABI (its loops are
/// then used as any other's).
#[inline]
pub fn api(py: Python<'_>) -> Option<&'static abi::Api> {
    known().or_else(|| look_up(py))
}

fn look_up(py: Python<'_>) -> Option<&'static abi::Api> {
    // Not an import: without the module no loop of its kind can be running.
    let module = names::imported(pyo3::intern!(py, "pyloop._native"))?;
    let capsule = module.try_getattr(pyo3::intern!(py, "_bridge")).ok()?.cast_into::<PyCapsule>().ok()?;
    let pointer: NonNull<c_void> = capsule.pointer_checked(Some(abi::NAME)).ok()?;
    let provided = pointer.cast::<abi::Api>();
    // SAFETY: a capsule of this name holds a table that begins with these fields and lives as long as the process.
    let (size, major) = unsafe { ((*provided.as_ptr()).size, (*provided.as_ptr()).major) };
    if major != abi::MAJOR || size < NEEDED {
        return None;
    }
    let table = if size < size_of::<abi::Api>() {
        // SAFETY: the provider's table has the `size` bytes that it says, and these are `NEEDED` at least, which was
        // asked.
        Box::into_raw(Box::new(unsafe { completed(provided, size) }))
    } else {
        provided.as_ptr()
    };
    API.store(table, Ordering::Release);
    known()
}

/// What a provider must have for this client: all up to the timers, which it does not use. A field that is added to
/// the ABI later comes after these, and `completed` says what stands in for it.
const NEEDED: usize = offset_of!(abi::Api, loop_timer);

/// The table of a provider that is older than this client: what it lacks is there, and does nothing.
///
/// # Safety
/// `provided` has `size` bytes, `NEEDED` of them at least.
unsafe fn completed(provided: NonNull<abi::Api>, size: usize) -> abi::Api {
    unsafe extern "C" fn loop_timer(_: *const abi::RawLoop, _: u64, _: *const abi::RawWaker) -> *mut abi::RawTimer {
        std::ptr::null_mut()
    }
    unsafe extern "C" fn timer_drop(_: *mut abi::RawTimer) {}
    unsafe extern "C" fn note_pending() -> u64 {
        0
    }
    unsafe extern "C" fn current_task() -> abi::Object {
        std::ptr::null_mut()
    }
    let mut table = MaybeUninit::<abi::Api>::uninit();
    let at = table.as_mut_ptr();
    // SAFETY: the fields before `NEEDED` and those that `size` covers are copied, the others written: all are set.
    unsafe {
        (&raw mut (*at).loop_timer).write(loop_timer);
        (&raw mut (*at).timer_drop).write(timer_drop);
        (&raw mut (*at).note_pending).write(note_pending);
        (&raw mut (*at).current_task).write(current_task);
        provided.cast::<u8>().copy_to_nonoverlapping(NonNull::new_unchecked(at).cast(), size);
        table.assume_init()
    }
}

/// The step that is running on this thread.
pub struct Current<'a> {
    pub waker: &'a Waker,
    /// Slow polls are to be reported.
    pub debug: bool,
    whose: Whose<'a>,
}

/// Whose task makes the step.
enum Whose<'a> {
    /// This copy's.
    #[cfg(feature = "loop")]
    Own(&'a cx::Step),
    Providers(&'static abi::Api),
    /// There is no step of a pyloop task.
    Nobodys(std::marker::PhantomData<&'a ()>),
}

/// In which step a poll was pending.
#[derive(Clone, Copy)]
pub struct PendingIn {
    /// Never 0; None where it may be polled again at once.
    pub step: Option<NonZeroU32>,
    /// The task says so when it takes the awaitable up (`RustFuture::take_up`).
    pub is_taken_up: bool,
    pub awaiter: Awaiter,
}

/// The task that awaits, by its address; None: no task does. Of a task that is gone another may have the address: it
/// takes nothing away from anybody.
pub type Awaiter = Option<NonZeroUsize>;

/// The current task: one of another class may have started eagerly in a step of ours.
///
/// # Errors
/// What importing asyncio raises.
pub fn awaiter(py: Python<'_>) -> PyResult<Awaiter> {
    names::current_task(py).map(address)
}

/// The current task of the loop that runs in this thread.
///
/// # Errors
/// What importing asyncio raises.
pub fn awaiter_on(event_loop: &Bound<'_, PyAny>) -> PyResult<Awaiter> {
    names::task_of(event_loop).map(address)
}

fn address(task: Option<Bound<'_, PyAny>>) -> Awaiter {
    task.and_then(|task| NonZeroUsize::new(task.as_ptr().addr()))
}

/// The task of pyloop's whose step this thread makes: it awaits the Rust future that is being polled.
pub fn stepping(py: Python<'_>) -> Awaiter {
    with_current(py, |current| current.and_then(|current| current.task(py)))
}

impl<'a> Current<'a> {
    /// Poll with this waker, outside of any step.
    pub fn outside(waker: &'a Waker) -> Self {
        Self { waker, debug: false, whose: Whose::Nobodys(std::marker::PhantomData) }
    }

    /// A poll with it begins.
    #[inline(always)]
    pub fn note_poll(&self, _py: Python<'_>) {
        #[cfg(feature = "loop")]
        if let Whose::Own(step) = &self.whose {
            step.count_poll(_py);
        }
    }

    /// A poll with it is pending. None: in no step.
    #[inline(always)]
    pub fn note_pending(&self, py: Python<'_>) -> Option<PendingIn> {
        let (number, is_taken_up) = match &self.whose {
            #[cfg(feature = "loop")]
            Whose::Own(step) => (step.note_pending(), true),
            // SAFETY: the token says that the GIL is held, which is all that the ABI asks. A number is as good as its
            // lower half: the same one comes again after 2^31 steps.
            Whose::Providers(api) => (unsafe { (api.note_pending)() } as u32, false),
            Whose::Nobodys(_) => return None,
        };
        Some(PendingIn { step: NonZeroU32::new(number), is_taken_up, awaiter: self.task(py) })
    }

    /// Whose step it is. None: nobody's, or that of a provider that does not tell.
    #[inline(always)]
    fn task(&self, _py: Python<'_>) -> Awaiter {
        match &self.whose {
            #[cfg(feature = "loop")]
            Whose::Own(step) => step.task().and_then(|task| NonZeroUsize::new(task.as_ptr().addr())),
            // SAFETY: the token says that the GIL is held, which is all that the ABI asks.
            Whose::Providers(api) => NonZeroUsize::new(unsafe { (api.current_task)() }.addr()),
            Whose::Nobodys(_) => None,
        }
    }
}

/// The step that is running on this thread, of a task of this copy's, for as long as it runs.
#[inline(always)]
pub fn own_step<'a>() -> Option<Current<'a>> {
    #[cfg(feature = "loop")]
    if let Some(step) = cx::current() {
        return Some(Current { waker: step.waker(), debug: step.debug(), whose: Whose::Own(step) });
    }
    None
}

/// Give `f` the step of a pyloop task that is running on this thread.
#[inline]
pub fn with_current<R>(py: Python<'_>, f: impl FnOnce(Option<Current<'_>>) -> R) -> R {
    if let Some(own) = own_step() {
        return f(Some(own));
    }
    let Some(api) = api(py) else { return f(None) };
    let mut flags = 0;
    // SAFETY: the token says that the GIL is held, and `flags` is a place for the answer: the ABI asks for no more.
    let waker = unsafe { (api.current_waker)(&raw mut flags) };
    if waker.is_null() {
        return f(None);
    }
    // SAFETY: the vtable keeps the contract for a waker that is borrowed for the step that this thread is in, and `f`
    // ends before that; nothing is dropped.
    let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(waker.cast(), &BORROWED)) });
    f(Some(Current { waker: &waker, debug: flags & abi::DEBUG != 0, whose: Whose::Providers(api) }))
}

/// A waker of the provider's that this copy owns.
fn owned(waker: *mut abi::RawWaker) -> Option<Waker> {
    // SAFETY: the provider gave it to us to wake or drop once, which the vtable does.
    (!waker.is_null()).then(|| unsafe { Waker::from_raw(RawWaker::new(waker.cast_const().cast(), &OWNED)) })
}

/// The table behind a waker: there is one, or the waker could not have been made.
fn provider() -> &'static abi::Api {
    match known() {
        Some(api) => api,
        None => unreachable!("a provider's waker without a provider"),
    }
}

static BORROWED: RawWakerVTable = RawWakerVTable::new(clone, wake_by_ref, wake_by_ref, ignore);
static OWNED: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, release);

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: both vtables are given wakers of the provider's only, in `with_current` and `owned`; std calls this while
    // the waker that is cloned is alive, and so the provider's is.
    let made = unsafe { (provider().waker_clone)(data.cast()) };
    RawWaker::new(made.cast_const().cast(), &OWNED)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: only `OWNED` has this, and its wakers own one of the provider's, as `owned` and `clone` make them; std
    // calls it for the last use of the waker.
    unsafe { (provider().waker_wake)(data.cast_mut().cast()) };
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: both vtables are given wakers of the provider's only, in `with_current` and `owned`; std calls this while
    // the waker is alive, and so the provider's is.
    unsafe { (provider().waker_wake_by_ref)(data.cast()) };
}

unsafe fn release(data: *const ()) {
    // SAFETY: only `OWNED` has this, and its wakers own one of the provider's, as `owned` and `clone` make them; std
    // calls it for the last use of the waker.
    unsafe { (provider().waker_drop)(data.cast_mut().cast()) };
}

unsafe fn ignore(_data: *const ()) {}

/// Tell the loop, once it is there, that a class of this copy keeps the task's waker when it is yielded.
pub fn register_awaitable(py: Python<'_>, class: *mut c_void, cancel: unsafe extern "C" fn(*mut c_void)) -> bool {
    // SAFETY: the token says that the GIL is held; the callers' classes are those of this crate, which are never freed,
    // with a `cancel` that takes instances of them.
    api(py).is_some_and(|api| unsafe { (api.register_awaitable)(class, Some(cancel)) } == 0)
}

/// A loop of pyloop's, reachable from any thread without the GIL.
#[derive(Debug)]
pub struct NativeLoop(NonNull<abi::RawLoop>);

// SAFETY: the ABI allows every function that is called here from any thread; those that need the GIL take a token.
unsafe impl Send for NativeLoop {}
// SAFETY: what is called through a shared one may be called by several threads at once, as said for Send.
unsafe impl Sync for NativeLoop {}

impl NativeLoop {
    /// The loop behind a Python object; None when it is not one of pyloop's.
    pub fn of(event_loop: &Bound<'_, PyAny>) -> Option<Self> {
        let api = api(event_loop.py())?;
        // SAFETY: the Bound holds the object for the call, and the GIL.
        NonNull::new(unsafe { (api.loop_acquire)(event_loop.as_ptr().cast()) }).map(Self)
    }

    /// The loop that a thread runs.
    pub fn of_thread(py: Python<'_>, thread_ident: u64) -> Option<Self> {
        // SAFETY: the ABI asks for nothing: any number may be asked about.
        NonNull::new(unsafe { (api(py)?.loop_of_thread)(thread_ident) }).map(Self)
    }

    /// Whether this thread is running it.
    pub fn is_current(&self) -> bool {
        // SAFETY: `of` and `of_thread` have acquired the loop, and only the destructor releases it.
        unsafe { (provider().loop_is_current)(self.0.as_ptr()) != 0 }
    }

    /// Have the loop run `f` on its thread, with the GIL held; from any thread, without it. A closed loop drops it.
    pub fn run(&self, f: impl FnOnce() + Send + 'static) {
        let errand: Option<Errand> = Some(Box::new(f));
        let data = Box::into_raw(Box::new(errand)).cast();
        // SAFETY: `of` and `of_thread` have acquired the loop, and only the destructor releases it. `data` is what both
        // functions take, and nobody else has it.
        if unsafe { (provider().loop_spawn)(self.0.as_ptr(), data, run_errand, drop_errand) } != 0 {
            // SAFETY: a provider that refuses has kept nothing, so `data` is still ours, and is given up here.
            unsafe { drop_errand(data) };
        }
    }

    /// Run `f` with the GIL held when the loop closes, on the closing thread if that is the loop's; a thread that ends
    /// closes its part.
    pub fn at_close(&self, f: impl FnOnce() + Send + 'static) {
        unsafe extern "C" fn wait(_data: *mut c_void, _waker: *const abi::RawWaker) -> std::ffi::c_int {
            0
        }
        unsafe extern "C" fn end(data: *mut c_void) {
            // SAFETY: `data` is the pointer that `at_close` makes below; the ABI has `drop` called once, or it was
            // refused and is called once here.
            let errand = unsafe { Box::from_raw(data.cast::<Errand>()) };
            contained(errand);
        }
        let errand: Errand = Box::new(f);
        let data = Box::into_raw(Box::new(errand)).cast();
        // SAFETY: `of` and `of_thread` have acquired the loop, and only the destructor releases it. `data` is what both
        // functions take, and nobody else has it.
        if unsafe { (provider().loop_spawn)(self.0.as_ptr(), data, wait, end) } != 0 {
            // SAFETY: a provider that refuses has kept nothing, so `data` is still ours, and is given up here.
            unsafe { end(data) };
        }
    }

    /// A waker that has the loop call `callable()`.
    pub fn callback(&self, callable: &Bound<'_, PyAny>) -> Option<Waker> {
        // SAFETY: `of` and `of_thread` have acquired the loop, and only the destructor releases it. The Bound holds the
        // callable for the call, and the GIL.
        owned(unsafe { (provider().loop_callback)(self.0.as_ptr(), callable.as_ptr().cast()) })
    }
}

/// A closure on its way to the loop, as a future that is ready at its first poll.
type Errand = Box<dyn FnOnce() + Send>;

/// Run it; a panic does not unwind into the loop's module, and is told to `sys.unraisablehook`.
fn contained(errand: Errand) {
    if let Err(panicked) = error::catch_panic(errand) {
        Python::try_attach(|py| error::unraisable(py, panicked, None));
    }
}

unsafe extern "C" fn run_errand(data: *mut c_void, _waker: *const abi::RawWaker) -> c_int {
    // SAFETY: `data` is the pointer that `run` made and gave away; by the ABI the provider polls it on one thread at a
    // time, and not after `drop`.
    let errand = unsafe { &mut *data.cast::<Option<Errand>>() };
    if let Some(errand) = errand.take() {
        contained(errand);
    }
    1
}

unsafe extern "C" fn drop_errand(data: *mut c_void) {
    // SAFETY: `data` is the pointer that `run` made and gave away; by the ABI the provider calls this once and last, or
    // it refused, and `run` does.
    drop(unsafe { Box::from_raw(data.cast::<Option<Errand>>()) });
}

impl Drop for NativeLoop {
    fn drop(&mut self) {
        // SAFETY: `of` and `of_thread` have acquired the loop, once for this value, whose destructor this is.
        unsafe { (provider().loop_release)(self.0.as_ptr()) };
    }
}
