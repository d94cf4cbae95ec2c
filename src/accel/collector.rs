//! The cycle collector, told what it need not look at.
//!
//! A loop that runs is alive, and so is what waits in its queues. Looking through thousands of waiting handles in each
//! young collection is a quarter of what a callback costs, so a handle made while its loop runs is untracked, and so
//! is the tuple of its arguments, until it has run or is cancelled (and somebody else holds it) or outlives the run. A
//! pending task of a running loop is kept alive by it: it is untracked too, with its coroutine, its context and the
//! future it waits for, until it is done or outlives the run; among very many, so is what its coroutine awaits, until
//! its second step. Looking through a million of them again and again was four fifths of what such a task cost. CPython
//! does the same to tuples and dictionaries that cannot be part of a cycle.
//!
//! PyO3's freelists hand out objects untracked (0.30), and so does our pool: such a class says here what is to be
//! tracked.

use pyo3::ffi;
use pyo3::prelude::*;

/// Take an object out of the collector's sight.
#[inline]
pub fn untrack(object: &Bound<'_, PyAny>) {
    // SAFETY: a live object of a class with `__traverse__` (the callers' are); untracking twice is allowed.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) }
}

/// Whether anybody but the caller can come by it: holds it, or has a weak reference to it.
#[inline]
pub fn is_reachable(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object; a positive `tp_weaklistoffset` is where it has its list of weak references, or NULL.
    unsafe {
        let weak_references = (*ffi::Py_TYPE(object.as_ptr())).tp_weaklistoffset;
        is_shared(object)
            || weak_references <= 0
            || !object.as_ptr().byte_offset(weak_references).cast::<*mut ffi::PyObject>().read().is_null()
    }
}

/// Whether anybody but the caller holds it.
#[inline]
pub fn is_shared(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) > 1 }
}

/// A coroutine, a generator or a context, of whatever class, held by a task. CPython frees only tracked ones, so one
/// that was hidden is put back before it is let go of.
#[derive(Debug)]
pub struct Hideable(Py<PyAny>);

impl Hideable {
    pub fn new(object: Py<PyAny>) -> Self {
        Self(object)
    }

    pub fn get(&self) -> &Py<PyAny> {
        &self.0
    }

    /// Take it out of the collector's sight, if it is CPython's own: nothing is known of others.
    #[inline]
    pub fn hide(&self, py: Python<'_>) {
        if Self::is_known(self.0.bind(py)) {
            untrack(self.0.bind(py));
        }
    }

    /// Put it back.
    #[inline]
    pub fn show(&self, py: Python<'_>) {
        if Self::is_known(self.0.bind(py)) {
            track(self.0.bind(py));
        }
    }

    #[inline]
    fn is_known(object: &Bound<'_, PyAny>) -> bool {
        is_instance(object, &raw mut ffi::PyCoro_Type)
            || is_instance(object, &raw mut ffi::PyContext_Type)
            || is_instance(object, &raw mut ffi::PyGen_Type)
    }
}

/// How many are hidden of what a coroutine awaits.
const DEPTH: usize = 4;

/// What a suspended coroutine awaits, what that awaits, and so on: held, and hidden until this is dropped.
#[derive(Debug, Default)]
pub struct Awaited([Option<Py<PyAny>>; DEPTH]);

impl Awaited {
    /// Hide what `coroutine` awaits, as far as it is known: CPython's own coroutines and generators, and what `is_ours`
    /// says (instances of pooled classes). None when nothing is.
    pub fn hide(coroutine: &Bound<'_, PyAny>, is_ours: impl Fn(&Bound<'_, PyAny>) -> bool) -> Option<Box<Self>> {
        let mut awaited = None::<Box<Self>>;
        let mut next = awaited_by(coroutine);
        for index in 0..DEPTH {
            let Some(known) = next.take_if(|next| Hideable::is_known(next) || is_ours(next)) else { break };
            untrack(&known);
            next = awaited_by(&known);
            awaited.get_or_insert_default().0[index] = Some(known.unbind());
        }
        awaited
    }

    pub fn iter(&self) -> impl Iterator<Item = &Py<PyAny>> {
        self.0.iter().flatten()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        Python::attach(|py| self.iter().for_each(|awaited| track(awaited.bind(py))));
    }
}

/// What a suspended coroutine or generator awaits.
fn awaited_by<'py>(suspended: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = suspended.py();
    let name = if is_instance(suspended, &raw mut ffi::PyCoro_Type) {
        pyo3::intern!(py, "cr_await")
    } else if is_instance(suspended, &raw mut ffi::PyGen_Type) {
        pyo3::intern!(py, "gi_yieldfrom")
    } else {
        return None;
    };
    suspended.getattr(name).ok()
}

/// For a class without subclasses.
#[inline]
fn is_instance(object: &Bound<'_, PyAny>, class: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::Py_TYPE(object.as_ptr()) == class }
}

impl Drop for Hideable {
    #[inline]
    fn drop(&mut self) {
        Python::attach(|py| self.show(py));
    }
}

/// Put it back.
#[inline]
pub fn track(object: &Bound<'_, PyAny>) {
    // SAFETY: a live object of a class with `__traverse__`, whole, and not tracked (asked first).
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}
