//! Threads that are still at work when the interpreter ends.
//!
//! CPython before 3.14 ends such a thread where it next asks for the GIL, in the middle of whatever it does, by
//! `pthread_exit`. glibc then unwinds the thread's stack: frames of Rust would drop Python objects without the GIL, and
//! a function that must not unwind aborts the process. A thread that has said [`outlast`] sleeps instead until the
//! process is gone, as every thread does from CPython 3.14 on, if there are frames of ours. It is the thread's cleanup
//! handler that sleeps (pthread_cleanup_push(3)): it is called before the first frame is unwound.
//!
//! So a thread says `outlast` before code of ours may run Python code, or wait for the GIL: where it calls Python
//! (`py::call`), where it takes the GIL or gives it up, where the module is made, and where what an object held is
//! dropped. Once is enough for a thread. Not covered is what PyO3 runs before a function of ours is reached, as the
//! `__index__` of an argument, in a thread that has never been here before.
//!
//! Any thread, with or without the GIL.

#[cfg(all(target_os = "linux", not(Py_3_14)))]
pub use forced::outlast;

/// From now on nobody ends this thread by force while it is in a function of ours.
///
/// Nothing has to be done here: CPython 3.14 and later do not end threads, and where the C library's `pthread_exit`
/// does not unwind the stack (macOS) the frames of Rust are never looked at again.
#[cfg(not(all(target_os = "linux", not(Py_3_14))))]
#[inline(always)]
pub fn outlast() {}

#[cfg(all(target_os = "linux", not(Py_3_14)))]
mod forced {
    use std::cell::Cell;
    use std::ffi::{c_int, c_void};
    use std::mem::MaybeUninit;
    use std::ptr::null_mut;

    use pyo3::ffi;

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

    // The unwinder that `pthread_exit` asks, and that Rust's own panics need: it is loaded.
    unsafe extern "C" {
        fn _Unwind_Backtrace(look: extern "C" fn(*mut c_void, *mut c_void) -> c_int, found: *mut c_void) -> c_int;
        fn _Unwind_GetIP(frame: *mut c_void) -> usize;
        fn _Unwind_FindEnclosingFunction(place: *mut c_void) -> *mut c_void;
    }

    /// The unwinder goes on, or does not.
    const GO_ON: c_int = 0;
    const STOP: c_int = 5;

    /// Whether the interpreter is ending, or has ended. For any thread, with or without the GIL.
    #[cfg(not(Py_LIMITED_API))]
    fn is_finalizing() -> bool {
        #[cfg(not(Py_3_13))]
        unsafe extern "C" {
            #[link_name = "_Py_IsFinalizing"]
            fn is_finalizing() -> c_int;
        }
        #[cfg(Py_3_13)]
        use ffi::Py_IsFinalizing as is_finalizing;
        // SAFETY: both may be asked at any time, without the GIL.
        unsafe { is_finalizing() != 0 || ffi::Py_IsInitialized() == 0 }
    }

    /// The same. CPython says that it ends and, next, that it is not initialized any more. The limited API has the
    /// second only; a thread that is ended in between waits for it.
    #[cfg(Py_LIMITED_API)]
    fn is_finalizing() -> bool {
        // SAFETY: it may be asked at any time, without the GIL.
        let has_ended = || unsafe { ffi::Py_IsInitialized() == 0 };
        has_ended() || {
            std::thread::sleep(std::time::Duration::from_millis(1));
            has_ended()
        }
    }

    /// The thread is being ended.
    extern "C" fn sleep(_: *mut c_void) {
        // Ended by somebody else, or outside of our code, it goes as it would without us.
        while is_finalizing() && has_frames_of_ours() {
            // SAFETY: a plain system call.
            unsafe { libc::pause() };
        }
    }

    /// What a look at the stack has come to, from the last frame to the first.
    struct Seen {
        handler: bool,
        ours: bool,
    }

    /// Whether the handler's thread has a function of this library (or program) on its stack, besides the handler.
    fn has_frames_of_ours() -> bool {
        extern "C" fn look(frame: *mut c_void, seen: *mut c_void) -> c_int {
            // SAFETY: the `Seen` below, which nobody else has while the stack is looked at.
            let seen = unsafe { &mut *seen.cast::<Seen>() };
            // SAFETY: the unwinder's own frame; any address may be asked for.
            let (place, function) = unsafe {
                let place = _Unwind_GetIP(frame) as *mut c_void;
                (place, _Unwind_FindEnclosingFunction(place))
            };
            seen.ours = seen.handler && library_of(place) == library_of(sleep as *mut c_void);
            seen.handler |= function == sleep as *mut c_void;
            if seen.ours { STOP } else { GO_ON }
        }
        let mut seen = Seen { handler: false, ours: false };
        // SAFETY: `look` is called before this returns, with the address of `seen`.
        unsafe { _Unwind_Backtrace(look, (&raw mut seen).cast()) };
        seen.ours
    }

    /// Where the library begins that has this place. None: nobody knows, as in a program without libraries.
    fn library_of(place: *const c_void) -> Option<usize> {
        let mut known = MaybeUninit::<libc::Dl_info>::zeroed();
        // SAFETY: any address may be asked for. What is written to is a C struct, of which all zeros are a value.
        let known = unsafe { (libc::dladdr(place, known.as_mut_ptr()) != 0).then(|| known.assume_init()) };
        known.map(|known| known.dli_fbase as usize)
    }

    thread_local! {
        /// Whether the thread has said `outlast`.
        static OUTLASTS: Cell<bool> = const { Cell::new(false) };
        static HERE: Outlasting = const { Outlasting(Cell::new(null_mut())) };
    }

    /// A thread's note, in force as long as the thread lives. The thread is ended by force only where it asks for the
    /// GIL, so one handler serves all of its code, whatever it does to its stack meanwhile (greenlets).
    struct Outlasting(Cell<*mut Note>);

    impl Drop for Outlasting {
        /// The thread ends by itself.
        fn drop(&mut self) {
            let note = self.0.replace(null_mut());
            if !note.is_null() {
                // SAFETY: `begin` made it and put it in force, once. Now it is not in force, and nobody has it.
                unsafe {
                    _pthread_cleanup_pop(note, 0);
                    drop(Box::from_raw(note));
                }
            }
        }
    }

    #[cold]
    fn begin() {
        OUTLASTS.set(true);
        // A thread at its very end (a destructor of a thread-local) has no room for a note any more.
        let _no_room = HERE.try_with(|here| {
            let note = Box::into_raw(Box::new(Note([0; 8])));
            here.0.set(note);
            // SAFETY: the note stays where it is until the thread's end has taken it back.
            unsafe { _pthread_cleanup_push(note, sleep, null_mut()) };
        });
    }

    /// From now on nobody ends this thread by force while it is in a function of ours.
    #[inline]
    pub fn outlast() {
        if !OUTLASTS.get() {
            begin();
        }
    }
}
