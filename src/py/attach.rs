//! The GIL around a loop's sleep, and the identity of Python objects and threads where no reference is held.
//!
//! A running loop holds the GIL in fact but not in PyO3's count (`hold_while`): tokio's internals may drop a `Py<_>`
//! while the thread sleeps, and PyO3 must not believe that it may touch Python then. Whoever runs Python inside says
//! `Python::attach`, which costs two counters there. `park` and `unpark` are tokio's hooks around a sleep.

use std::cell::Cell;
use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::prelude::*;

use super::exit::outlast;

thread_local! {
    /// This thread's Python state while it sleeps without the GIL.
    static PARKED: Cell<*mut ffi::PyThreadState> = const { Cell::new(std::ptr::null_mut()) };
    /// Whether the thread runs a loop: only then is the GIL ours to give up.
    static HOLDS_GIL: Cell<bool> = const { Cell::new(false) };
    static SLEEPS: Cell<u64> = const { Cell::new(0) };
}

/// The thread is about to sleep: give the GIL up, after `before`, if it is to be given up.
pub fn park(before: impl FnOnce()) {
    if HOLDS_GIL.get() && PARKED.get().is_null() {
        before();
        // SAFETY: HOLDS_GIL says that `hold_while` attached this thread; nothing Python runs until `unpark`.
        PARKED.set(unsafe { ffi::PyEval_SaveThread() });
    }
}

/// The thread has slept: take the GIL back, after `woken`. False: it had not been given up.
pub fn unpark(woken: impl FnOnce()) -> bool {
    let state = PARKED.replace(std::ptr::null_mut());
    if state.is_null() {
        return false;
    }
    woken();
    // SAFETY: `park` saved the state on this thread (it is a thread-local), and has given the GIL up.
    unsafe { ffi::PyEval_RestoreThread(state) };
    SLEEPS.set(SLEEPS.get().wrapping_add(1));
    true
}

/// How often this thread has given the GIL up and taken it back.
pub fn sleeps() -> u64 {
    SLEEPS.get()
}

/// Run `f` with the GIL held, except between `park` and `unpark`, and with PyO3's count at "detached".
pub fn hold_while<R: Send>(py: Python<'_>, f: impl FnOnce() -> R + Send) -> R {
    struct Release(bool);
    impl Drop for Release {
        fn drop(&mut self) {
            unpark(|| {});
            HOLDS_GIL.set(self.0);
            // SAFETY: the GIL is held here; the surrounding `detach` takes it back at once.
            unsafe { ffi::PyEval_SaveThread() };
        }
    }
    outlast();
    // SAFETY: the token says that the GIL is held, so there is a state, and it is this thread's own.
    let state = State(unsafe { ffi::PyThreadState_Get() });
    py.detach(move || {
        let state = state;
        // SAFETY: `detach` has just released exactly this state on this thread.
        unsafe { ffi::PyEval_RestoreThread(state.0) };
        let _release = Release(HOLDS_GIL.replace(true));
        f()
    })
}

/// Run `f` with the GIL, in a thread that may be anybody's; not at all at the end of the interpreter.
pub fn attach_anywhere<R>(f: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    outlast();
    Python::try_attach(f)
}

/// A pointer that only looks as if it went to another thread (`detach` asks for `Send`).
struct State(*mut ffi::PyThreadState);
// SAFETY: `detach` runs its closure on the calling thread.
unsafe impl Send for State {}

/// `threading.get_ident()`.
pub fn thread_ident() -> u64 {
    // SAFETY: no preconditions.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}

/// The address of an object that somebody else keeps alive, and that may be going away: a weak reference without the
/// list that the collector clears.
#[derive(Clone, Copy, Debug)]
pub struct Address(NonNull<ffi::PyObject>);

// SAFETY: an address is followed only by `upgrade`, whose caller holds the GIL and answers for the object's memory.
unsafe impl Send for Address {}
// SAFETY: there is nothing behind a shared address but `upgrade`, as said for Send.
unsafe impl Sync for Address {}

impl Address {
    pub fn of(object: &Bound<'_, PyAny>) -> Self {
        // SAFETY: a Bound is never null.
        Self(unsafe { NonNull::new_unchecked(object.as_ptr()) })
    }

    /// What is told apart by it, and nothing else.
    #[inline]
    pub fn as_ptr(self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }

    /// A reference to the object; None once it is being freed. A deallocator runs Python code with the count at zero
    /// (weak references, `__del__` of what the object held), and that code may give the GIL to whoever has the address.
    ///
    /// # Safety
    /// The memory is that of the object still: whoever owns the address forgets it before the memory goes, in the
    /// destructor of the object's Rust value.
    pub unsafe fn upgrade<'py>(self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let object = self.0.as_ptr();
        // SAFETY: the caller promises that the memory is the object's still. The GIL is held, so that nobody changes
        // the count between the look and the reference; CPython's own weak references are followed in the same way.
        unsafe { (ffi::Py_REFCNT(object) > 0).then(|| Bound::from_borrowed_ptr(py, object)) }
    }
}
