//! Threads that are still at work when the interpreter ends.
//!
//! CPython before 3.14 ends such a thread where it next asks for the GIL, in the middle of whatever it does, by
//! `pthread_exit`. glibc then unwinds the thread's stack: frames of Rust would drop Python objects without the GIL, and
//! a function that must not unwind aborts the process. A thread that is inside [`outlast`] sleeps instead until the
//! process is gone, as every thread does from CPython 3.14 on. It is the thread's cleanup handler that sleeps
//! (pthread_cleanup_push(3)): it is called before the first frame is unwound.
//!
//! Any thread, with or without the GIL.

#[cfg(all(target_os = "linux", not(Py_3_14)))]
pub use forced::outlast;

/// Run `f` in a thread that nobody ends by force.
///
/// Nothing has to be done here: CPython 3.14 and later do not end threads, and where the C library's `pthread_exit` does
/// not unwind the stack (macOS) the frames of Rust are never looked at again.
#[cfg(not(all(target_os = "linux", not(Py_3_14))))]
#[inline]
pub fn outlast<R>(f: impl FnOnce() -> R) -> R {
    f()
}

#[cfg(all(target_os = "linux", not(Py_3_14)))]
mod forced {
    use std::cell::Cell;
    use std::ffi::{c_int, c_void};
    use std::ptr::null_mut;

    use crate::py::api::is_finalizing;

    /// Room for the C library's note of a handler: `struct _pthread_cleanup_buffer` of glibc (four words),
    /// `struct __ptcb` of musl (three).
    #[repr(C)]
    struct Note([usize; 8]);

    // What the macros `pthread_cleanup_push` and `pthread_cleanup_pop` call (musl), or called in the C library's first
    // years (glibc, which serves such programs for good). glibc compares the note's address with each frame's and
    // calls the handler when the frame that has the note is left. A note that is in no frame counts as left at once.
    unsafe extern "C" {
        fn _pthread_cleanup_push(note: *mut Note, handler: extern "C" fn(*mut c_void), argument: *mut c_void);
        fn _pthread_cleanup_pop(note: *mut Note, execute: c_int);
    }

    /// The thread is being ended.
    extern "C" fn sleep(_: *mut c_void) {
        // Ended by somebody else, it goes as it would without us.
        while is_finalizing() {
            // SAFETY: a plain system call.
            unsafe { libc::pause() };
        }
    }

    /// A thread's note. Its handler is in force while the thread is inside of `outlast`, however often: the calls need
    /// not end in the order in which they began (greenlets), which handlers of their own would have to.
    struct Outlasting {
        depth: Cell<usize>,
        note: Cell<*mut Note>,
    }

    impl Drop for Outlasting {
        /// The thread ends by itself.
        fn drop(&mut self) {
            let note = self.note.replace(null_mut());
            if self.depth.get() == 0 && !note.is_null() {
                // SAFETY: made by `begin`, and not in force: nobody has it.
                drop(unsafe { Box::from_raw(note) });
            }
        }
    }

    thread_local! {
        static HERE: Outlasting = const { Outlasting { depth: Cell::new(0), note: Cell::new(null_mut()) } };
    }

    fn begin(here: &Outlasting) {
        if here.depth.replace(here.depth.get() + 1) == 0 {
            if here.note.get().is_null() {
                here.note.set(Box::into_raw(Box::new(Note([0; 8]))));
            }
            // SAFETY: the note stays where it is until `end` has taken it back: it is freed with the thread's own
            // memory, when its depth is 0.
            unsafe { _pthread_cleanup_push(here.note.get(), sleep, null_mut()) };
        }
    }

    fn end(here: &Outlasting) {
        here.depth.set(here.depth.get() - 1);
        if here.depth.get() == 0 {
            // SAFETY: the note that `begin` has put in force, once.
            unsafe { _pthread_cleanup_pop(here.note.get(), 0) };
        }
    }

    /// Run `f` in a thread that nobody ends by force.
    #[inline]
    pub fn outlast<R>(f: impl FnOnce() -> R) -> R {
        struct End;
        impl Drop for End {
            fn drop(&mut self) {
                HERE.with(end);
            }
        }
        // A thread at its very end (a destructor of a thread-local) has no room for a note any more.
        // (Not `then_some`, which would make and drop an `End` in any case.)
        let _end = HERE.try_with(begin).ok().map(|()| End);
        f()
    }
}
