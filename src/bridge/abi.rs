//! The C ABI through which an extension module meets the loop that runs it: `pyloop.h` in Rust's words.
//!
//! Each extension module has a copy of this crate and of tokio of its own. What they have in common is one capsule,
//! `pyloop._native._bridge`, that holds a pointer to an [`Api`]. It begins with its size: a client reads no field that
//! the provider does not have, and a provider adds fields at the end only. No function unwinds; none blocks.

use std::ffi::{CStr, c_int, c_void};

/// The capsule's name: the module and the attribute it is found under.
pub const NAME: &CStr = c"pyloop._native._bridge";

/// Raised when the meaning of an existing field changes: a client refuses a provider of another major version.
pub const MAJOR: u32 = 1;
/// Raised when a field is added.
#[cfg(feature = "loop")]
pub const MINOR: u32 = 2;

/// A waker: of a task, of a callback, or of a spawned future. Opaque to a client.
#[repr(C)]
pub struct RawWaker {
    _opaque: [u8; 0],
}

/// An event loop, kept alive for wakes from any thread. Opaque to a client.
#[repr(C)]
pub struct RawLoop {
    _opaque: [u8; 0],
}

/// A running timer. Opaque to a client.
#[repr(C)]
pub struct RawTimer {
    _opaque: [u8; 0],
}

/// A `PyObject *` or `PyTypeObject *`.
pub type Object = *mut c_void;

/// `Api::current_waker` sets this in its flags when the loop is in debug mode: slow polls are to be reported.
pub const DEBUG: u32 = 1;

/// The functions of the loop. The GIL must be held for those marked (GIL); the others may be called by any thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Api {
    /// Bytes of this struct that the provider has filled in.
    pub size: usize,
    pub major: u32,
    pub minor: u32,
    /// (GIL) The waker of the task whose step is running on this thread, borrowed for the length of that step; NULL
    /// outside of a step of a pyloop task. `flags` is set as well unless NULL.
    pub current_waker: unsafe extern "C" fn(flags: *mut u32) -> *const RawWaker,
    /// A waker of one's own: woken or dropped once.
    pub waker_clone: unsafe extern "C" fn(*const RawWaker) -> *mut RawWaker,
    /// Wake and drop.
    pub waker_wake: unsafe extern "C" fn(*mut RawWaker),
    pub waker_wake_by_ref: unsafe extern "C" fn(*const RawWaker),
    pub waker_drop: unsafe extern "C" fn(*mut RawWaker),
    /// (GIL) Awaitables of this type may be yielded to a pyloop task when they keep its waker: the task waits for the
    /// waker. `cancel`, if not NULL, is called when that task is cancelled, before CancelledError is thrown in. 0, or
    /// -1 without an exception set. The type must never be freed.
    pub register_awaitable: unsafe extern "C" fn(class: Object, cancel: Option<unsafe extern "C" fn(Object)>) -> c_int,
    /// (GIL) The loop behind a Python event loop object; NULL, without an exception, when it is none of pyloop's.
    pub loop_acquire: unsafe extern "C" fn(event_loop: Object) -> *mut RawLoop,
    /// The loop that a thread (`PyThread_get_thread_ident`) is running; NULL when it runs none of pyloop's.
    pub loop_of_thread: unsafe extern "C" fn(thread_ident: u64) -> *mut RawLoop,
    pub loop_release: unsafe extern "C" fn(*mut RawLoop),
    /// 1 when this thread is running this loop, else 0.
    pub loop_is_current: unsafe extern "C" fn(*const RawLoop) -> c_int,
    /// (GIL) A waker that has the loop call `callable()` in its next turn, each time it is woken.
    pub loop_callback: unsafe extern "C" fn(*const RawLoop, callable: Object) -> *mut RawWaker,
    /// Have the loop poll a future of the caller's until `poll` gives other than 0. `poll` is called on the loop's
    /// thread with the GIL held, `drop` once, at the end or when the loop closes.
    pub loop_spawn: unsafe extern "C" fn(
        *const RawLoop,
        data: *mut c_void,
        poll: unsafe extern "C" fn(*mut c_void, *const RawWaker) -> c_int,
        drop: unsafe extern "C" fn(*mut c_void),
    ) -> c_int,
    /// Wake `waker` once, after so many nanoseconds (millisecond resolution, never early), unless the timer is dropped
    /// before.
    pub loop_timer: unsafe extern "C" fn(*const RawLoop, nanoseconds: u64, waker: *const RawWaker) -> *mut RawTimer,
    pub timer_drop: unsafe extern "C" fn(*mut RawTimer),
    /// Since 1.1 (GIL): to be called after a poll that is pending. The number of the step that made it; 0 when its
    /// waker has been woken meanwhile (the awaitable gave way), and outside of a step. One that is pending again in a
    /// step of the same number is iterated, not awaited.
    pub note_pending: unsafe extern "C" fn() -> u64,
    /// Since 1.2 (GIL): the task whose step is running on this thread, borrowed for the length of that step; NULL
    /// outside of a step of a pyloop task.
    pub current_task: unsafe extern "C" fn() -> Object,
}
