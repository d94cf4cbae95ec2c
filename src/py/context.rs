//! `contextvars`: copying contexts, telling whether two have the same variables, and running inside one.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

/// `contextvars.copy_context()`.
#[inline]
pub fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: gives a new reference, or NULL with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// `context.copy()`.
///
/// # Errors
/// TypeError for what is no context.
#[inline]
pub fn copy<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: a live object, whose type CPython checks; gives a new reference, or NULL with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())) }
}

/// The identity of a context's variables: a context refers to one immutable map, and has another as soon as a variable
/// is set. It means something as long as a context that has the map is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables(usize);

/// The variables of a context (exactly `contextvars.Context`) that is not entered. None if it does not say.
///
/// It is asked as the cycle collector asks: what a context refers to is its map, when it is not entered.
#[inline(always)]
pub fn variables(context: &Bound<'_, PyAny>) -> Option<Variables> {
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
    let mut found = Found::default();
    // SAFETY: a live object; a traversal calls nothing but `note`.
    unsafe {
        let traverse = (*ffi::Py_TYPE(context.as_ptr())).tp_traverse?;
        traverse(context.as_ptr(), note, (&raw mut found).cast());
    }
    (found.count == 1).then_some(Variables(found.map))
}

/// Whether this is a `contextvars.Context` (the class has no subclasses).
#[inline]
pub fn is_context(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::PyContext_CheckExact(object.as_ptr()) != 0 }
}

/// `Context.__enter__`, were there one.
///
/// # Errors
/// RuntimeError when the context is entered already, TypeError when it is none.
#[inline]
pub fn enter(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: a live object, whose type CPython checks.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } == 0 { Ok(()) } else { Err(PyErr::fetch(context.py())) }
}

/// The end of an `enter`.
///
/// # Errors
/// RuntimeError when it is not the current context.
#[inline]
pub fn exit(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: as for `enter`.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } == 0 { Ok(()) } else { Err(PyErr::fetch(context.py())) }
}

/// A context that is entered while this lives.
#[derive(Debug)]
pub struct Inside<'a, 'py>(&'a Bound<'py, PyAny>);

impl Drop for Inside<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: entered by this thread; what ran since has left every context that it entered. It can only fail when
        // that is not so, and then the exception stays for the caller's caller to see.
        unsafe { ffi::PyContext_Exit(self.0.as_ptr()) };
    }
}

/// Enter a context until the guard goes, as `Context.run` does.
///
/// # Errors
/// RuntimeError when the context is entered already, TypeError when it is none.
#[inline(always)]
pub fn inside<'a, 'py>(context: &'a Bound<'py, PyAny>) -> PyResult<Inside<'a, 'py>> {
    enter(context).map(|()| Inside(context))
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

/// Where a `PyThreadState` has its context and a context its variables, in bytes. 0: not known.
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
    // SAFETY: the caller's word.
    unsafe { object.byte_add(offset).cast::<usize>().read() }
}

/// The current context, without a copy of it. None if there is none yet, or where it is not known how to look
/// (`find_current`).
#[inline(always)]
pub fn current(_py: Python<'_>) -> Option<Current> {
    let (in_thread_state, in_context) = (IN_THREAD_STATE.load(Ordering::Relaxed), IN_CONTEXT.load(Ordering::Relaxed));
    if in_thread_state == 0 {
        return None;
    }
    // SAFETY: the GIL is held, so there is a thread state; `find_current` has found these words.
    unsafe {
        let context = word(ffi::PyThreadState_Get(), in_thread_state);
        (context != 0)
            .then(|| Current { context, variables: Variables(word(context as *const ffi::PyObject, in_context)) })
    }
}

/// Find out where `current` is to look. `PyThreadState` is public and the same in all releases of a version, but its
/// offsets are a C compiler's to know (3.12 to 3.14: 208, 3.15: 232), and a context's are CPython's own. So a context
/// is made, entered and looked for, and what is found counts only if it changes as it should. Once, when the module is
/// made.
///
/// # Errors
/// MemoryError.
pub fn find_current(py: Python<'_>) -> PyResult<()> {
    // SAFETY: new references or NULL with an exception set; the words looked at are within the thread's state and the
    // context, whose size its class says.
    unsafe {
        let context = Bound::from_owned_ptr_or_err(py, ffi::PyContext_New())?;
        let variable = ffi::PyContextVar_New(c"pyloop".as_ptr(), std::ptr::null_mut());
        let variable = Bound::from_owned_ptr_or_err(py, variable)?;
        let state = ffi::PyThreadState_Get();
        let is_current = |&at: &usize| word(state, at) == context.as_ptr() as usize;
        let has_variables = |&at: &usize| variables(&context) == Some(Variables(word(context.as_ptr(), at)));
        let size = (*ffi::Py_TYPE(context.as_ptr())).tp_basicsize as usize;
        let in_context = only((size_of::<ffi::PyObject>()..size).step_by(size_of::<usize>()).filter(has_variables));
        enter(&context)?;
        let in_thread_state = only((8..THREAD_STATE_SIZE).step_by(size_of::<usize>()).filter(is_current));
        let token = Bound::from_owned_ptr_or_err(py, ffi::PyContextVar_Set(variable.as_ptr(), variable.as_ptr()));
        exit(&context)?;
        token?;
        let (Some(in_thread_state), Some(in_context)) = (in_thread_state, in_context) else { return Ok(()) };
        if has_variables(&in_context) && !is_current(&in_thread_state) {
            IN_CONTEXT.store(in_context, Ordering::Relaxed);
            IN_THREAD_STATE.store(in_thread_state, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// The only one.
fn only(mut some: impl Iterator<Item = usize>) -> Option<usize> {
    let first = some.next();
    first.filter(|_| some.next().is_none())
}
