//! How deep calls and deallocators may nest.
//!
//! **Calls.** Native code that comes back to itself by way of Python (an eager task's first step makes an eager task)
//! says so with `enter_call`, and gets a RecursionError where asyncio's would. CPython counts such calls, and from 3.14
//! on
//! looks at the stack itself. Before that its count knows nothing of how large the frames are, so the stack is looked
//! at here, too.
//!
//! **Deallocators.** What an object holds goes with it, and what that holds: of a chain of thousands each link would be
//! freed by a deallocator inside of the last one's. CPython's containers have a "trashcan" for that, whose macros end
//! in private functions; 3.14 has it for every object that the collector knows. Before that `deallocate` puts off what
//! is too deep until enough of the deallocators have returned.

use std::ffi::CStr;
use std::marker::PhantomData;

use pyo3::exceptions::PyRecursionError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::error;

/// A call that may come back to itself, until this is dropped.
pub struct Call<'py>(PhantomData<Python<'py>>);

impl Drop for Call<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: only `enter_call` makes a `Call`, when it has entered; it has Python's lifetime and so stays on its
        // thread.
        unsafe { ffi::Py_LeaveRecursiveCall() };
    }
}

/// Begin a call that may come back to itself. `place` is what the error's message ends with.
///
/// # Errors
/// RecursionError when it is too deep.
pub fn enter_call<'py>(py: Python<'py>, place: &CStr) -> PyResult<Call<'py>> {
    // SAFETY: the token says that the GIL is held; `place` ends with NUL, and CPython reads it for its message only.
    if unsafe { ffi::Py_EnterRecursiveCall(place.as_ptr()) } != 0 {
        return Err(error::fetch(py));
    }
    let call = Call(PhantomData);
    if cfg!(not(Py_3_14)) && stack::is_low() {
        return Err(PyRecursionError::new_err(format!("maximum recursion depth exceeded{}", place.to_string_lossy())));
    }
    Ok(call)
}

/// The stack of this thread.
mod stack {
    use std::cell::Cell;

    /// What must be left of it: a good deal more than one round of any recursion takes that is asked here. Of a small
    /// stack, a quarter.
    const RESERVE: usize = 256 * 1024;

    thread_local! {
        /// Below which address it is low, and where it ends above. (1, 0): not asked yet; (0, 0): not known.
        static LIMITS: Cell<(usize, usize)> = const { Cell::new((1, 0)) };
    }

    pub(super) fn is_low() -> bool {
        let here = std::ptr::from_ref(&0_u8).addr();
        let (low, high) = match LIMITS.get() {
            (1, 0) => {
                let limits = bounds().map_or((0, 0), |(low, high)| (low + RESERVE.min((high - low) / 4), high));
                LIMITS.set(limits);
                limits
            }
            known => known,
        };
        // A program may run Python on a stack of its own making: of that nothing is known.
        here < low && low - here <= RESERVE && here < high
    }

    /// Its lowest address and the one behind its highest.
    #[cfg(target_os = "linux")]
    fn bounds() -> Option<(usize, usize)> {
        let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
        let (mut low, mut size) = (std::ptr::null_mut(), 0);
        // SAFETY: places for the answers; the attributes are initialised by the first call and destroyed once.
        unsafe {
            if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
                return None;
            }
            let asked = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut low, &raw mut size);
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            if asked != 0 {
                return None;
            }
        }
        Some((low.addr(), low.addr().checked_add(size)?))
    }

    #[cfg(target_os = "macos")]
    fn bounds() -> Option<(usize, usize)> {
        // SAFETY: no preconditions.
        let (high, size) = unsafe {
            let this = libc::pthread_self();
            (libc::pthread_get_stackaddr_np(this).addr(), libc::pthread_get_stacksize_np(this))
        };
        Some((high.checked_sub(size)?, high))
    }

    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    fn bounds() -> Option<(usize, usize)> {
        None
    }
}

pub use dealloc::deallocate;

#[cfg(Py_3_14)]
mod dealloc {
    use pyo3::ffi;

    /// Free an object: at once, as CPython asked before it called the deallocator.
    ///
    /// # Safety
    /// As for older versions.
    #[inline(always)]
    pub unsafe fn deallocate(
        object: *mut ffi::PyObject,
        _again: ffi::destructor,
        _free_apart: unsafe fn(*mut ffi::PyObject),
        free: impl FnOnce(*mut ffi::PyObject),
    ) {
        free(object);
    }
}

#[cfg(not(Py_3_14))]
mod dealloc {
    use std::cell::{Cell, RefCell};
    use std::sync::atomic::{AtomicU32, Ordering};

    use pyo3::ffi;

    /// How many deallocators nest before anybody asks on which thread.
    const FEW: u32 = 32;
    /// How many more may nest on one thread.
    const MORE: u32 = 32;

    /// Of all threads together, guarded by the GIL: one thread's are more than a few as a rule. That is all that the
    /// free path of an object looks at.
    static DEPTH: AtomicU32 = AtomicU32::new(0);

    /// What one thread has to do with it.
    #[derive(Default)]
    struct Here {
        depth: Cell<u32>,
        put_off: RefCell<Vec<(*mut ffi::PyObject, ffi::destructor)>>,
    }

    thread_local! {
        static HERE: Here = Here::default();
    }

    /// The deallocator of an object: frees it, or puts that off. Then `again` will be called with the object later, on
    /// this thread. What frees it does not panic, and is given twice: in line, and as the function that does it where
    /// many deallocators nest.
    ///
    /// # Safety
    /// The GIL is held. The object's count is zero, the collector does not see it, and nobody does anything more with
    /// it.
    #[inline(always)]
    pub unsafe fn deallocate(
        object: *mut ffi::PyObject,
        again: ffi::destructor,
        free_apart: unsafe fn(*mut ffi::PyObject),
        free: impl FnOnce(*mut ffi::PyObject),
    ) {
        if DEPTH.load(Ordering::Relaxed) >= FEW {
            // SAFETY: the caller promises what `deallocate_deep` asks for, which is the same.
            return unsafe { deallocate_deep(object, again, free_apart) };
        }
        change_depth(1);
        free(object);
        change_depth(-1);
    }

    /// No two threads at a time: a load and a store are enough.
    #[inline(always)]
    fn change_depth(by: i32) {
        DEPTH.store(DEPTH.load(Ordering::Relaxed).wrapping_add_signed(by), Ordering::Relaxed);
    }

    /// # Safety
    /// As for `deallocate`.
    #[cold]
    unsafe fn deallocate_deep(object: *mut ffi::PyObject, again: ffi::destructor, free: unsafe fn(*mut ffi::PyObject)) {
        let Some(counts_here) = count_here(object, again) else { return };
        change_depth(1);
        // SAFETY: the caller promises that nobody has the object any more; `free` frees what `again` is the deallocator
        // of, and is called once: an object that was put off has returned above.
        unsafe { free(object) };
        if counts_here {
            make_up();
        }
        change_depth(-1);
    }

    /// Whether it was counted. None: it was put off.
    fn count_here(object: *mut ffi::PyObject, again: ffi::destructor) -> Option<bool> {
        let counted = HERE.try_with(|here| {
            if here.depth.get() < MORE {
                here.depth.set(here.depth.get() + 1);
                return Some(true);
            }
            here.put_off.borrow_mut().push((object, again));
            None
        });
        // The thread is going.
        counted.unwrap_or(Some(false))
    }

    /// A deallocator that was counted ends; the outermost of them first frees what was put off.
    fn make_up() {
        let next = |here: &Here| (here.depth.get() == 1).then(|| here.put_off.borrow_mut().pop()).flatten();
        let made_up = HERE.try_with(|here| {
            while let Some((object, again)) = next(here) {
                // SAFETY: an object whose deallocator was put off, and which nobody has touched since; the GIL is held.
                unsafe { again(object) };
            }
            here.depth.set(here.depth.get() - 1);
        });
        debug_assert!(made_up.is_ok(), "it was there when the deallocator began");
    }
}
