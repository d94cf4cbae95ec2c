//! Whether the current context has the variables that a snapshot has, without a copy of it.
//!
//! asyncio copies the current context for each callback. `sched::snapshots` saves nearly all of these copies, and must
//! know for that whether anything was set since the last one. A context refers to one immutable map of its variables;
//! that map's address tells. Two words are read for it: the context in the thread's state, and the map in the context.
//! Where they are is found by experiment (`probe`).
//!
//! Plain path: nothing is known of any context, and each callback gets a copy of its own.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

use super::{Acceleration, Probed, Why, raised};
use crate::py::answer::owned;
use crate::py::context::{enter, exit};

pub static CONTEXTS: Acceleration = Acceleration::new("contexts");

/// The identity of a context's variables: a context refers to one immutable map, and has another as soon as a variable
/// is set. It means something as long as a context that has the map is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables(usize);

/// The variables of a context (exactly `contextvars.Context`) that is not entered. None if it does not say, or where
/// contexts are copied for each callback.
///
/// It is asked as the cycle collector asks: what a context refers to is its map, when it is not entered.
#[inline(always)]
pub fn variables(context: &Bound<'_, PyAny>) -> Option<Variables> {
    if !CONTEXTS.is_on() {
        return None;
    }
    map_of(context)
}

#[inline(always)]
fn map_of(context: &Bound<'_, PyAny>) -> Option<Variables> {
    let mut found = Found::default();
    // SAFETY: the Bound holds the context, and it its class. A traversal runs no code but `note`, for which `found` is
    // the place.
    unsafe {
        let traverse = (*ffi::Py_TYPE(context.as_ptr())).tp_traverse?;
        traverse(context.as_ptr(), note, (&raw mut found).cast());
    }
    (found.count == 1).then_some(Variables(found.map))
}

#[derive(Default)]
struct Found {
    map: usize,
    count: usize,
}
unsafe extern "C" fn note(object: *mut ffi::PyObject, found: *mut c_void) -> c_int {
    // SAFETY: `found` is the place given below.
    let found = unsafe { &mut *found.cast::<Found>() };
    found.map = object as usize;
    found.count += 1;
    0
}

/// The current context of a thread and its variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    context: usize,
    pub variables: Variables,
}

impl Current {
    /// Whether `context` is the current one.
    #[inline(always)]
    pub fn is(&self, context: &Py<PyAny>) -> bool {
        self.context == context.as_ptr() as usize
    }
}

/// Where a `PyThreadState` has its context and a context its variables, in bytes: set before `CONTEXTS` is on.
static IN_THREAD_STATE: AtomicUsize = AtomicUsize::new(0);
static IN_CONTEXT: AtomicUsize = AtomicUsize::new(0);

/// The least size of a `PyThreadState` (3.12), in bytes.
const THREAD_STATE_SIZE: usize = 288;

/// The word at `offset`.
///
/// # Safety
/// It is a word of a live object, and aligned.
#[inline(always)]
unsafe fn word<T>(object: *const T, offset: usize) -> usize {
    // SAFETY: the caller promises a word of an object that is alive, and aligned.
    unsafe { object.byte_add(offset).cast::<usize>().read() }
}

/// The current context, without a copy of it. None if there is none yet, or where it is not known how to look
/// (`probe`).
#[inline(always)]
pub fn current(_py: Python<'_>) -> Option<Current> {
    if !CONTEXTS.is_on() {
        return None;
    }
    let (in_thread_state, in_context) = (IN_THREAD_STATE.load(Ordering::Relaxed), IN_CONTEXT.load(Ordering::Relaxed));
    // SAFETY: the GIL is held, so there is a thread state; `probe` has found these words.
    unsafe {
        let context = word(ffi::PyThreadState_Get(), in_thread_state);
        (context != 0)
            .then(|| Current { context, variables: Variables(word(context as *const ffi::PyObject, in_context)) })
    }
}

/// Find out where `current` is to look. `PyThreadState` is public and the same in all releases of a version, but its
/// offsets are a C compiler's to know (3.12 to 3.14: 208, 3.15: 232), and a context's are CPython's own. So a context
/// is made, entered and looked for, and what is found counts only if it changes as it should.
pub(super) fn probe(py: Python<'_>) -> Probed {
    // SAFETY: new references or NULL with an exception set; the words looked at are within the thread's state and the
    // context, whose size its class says.
    unsafe {
        let context = owned(py, ffi::PyContext_New()).map_err(raised)?;
        let variable = ffi::PyContextVar_New(c"pyloop".as_ptr(), std::ptr::null_mut());
        let variable = owned(py, variable).map_err(raised)?;
        let state = ffi::PyThreadState_Get();
        let is_current = |&at: &usize| word(state, at) == context.as_ptr() as usize;
        let has_variables = |&at: &usize| map_of(&context) == Some(Variables(word(context.as_ptr(), at)));
        let size = (*ffi::Py_TYPE(context.as_ptr())).tp_basicsize as usize;
        let in_context = only((size_of::<ffi::PyObject>()..size).step_by(size_of::<usize>()).filter(has_variables));
        let before = map_of(&context);
        enter(&context).map_err(raised)?;
        let in_thread_state = only((8..THREAD_STATE_SIZE).step_by(size_of::<usize>()).filter(is_current));
        let token = owned(py, ffi::PyContextVar_Set(variable.as_ptr(), variable.as_ptr()));
        exit(&context).map_err(raised)?;
        token.map_err(raised)?;
        let in_context = in_context.ok_or("a context's variables are in no one place")?;
        let in_thread_state = in_thread_state.ok_or("the current context is in no one place")?;
        let left = !is_current(&in_thread_state);
        if !left || !has_variables(&in_context) || map_of(&context) == before {
            return Err(Why::from("the current context is not where it was found"));
        }
        IN_CONTEXT.store(in_context, Ordering::Relaxed);
        IN_THREAD_STATE.store(in_thread_state, Ordering::Relaxed);
    }
    Ok(())
}

/// The only one.
fn only(mut some: impl Iterator<Item = usize>) -> Option<usize> {
    let first = some.next();
    first.filter(|_| some.next().is_none())
}
