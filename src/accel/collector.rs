//! The cycle collector, told what it need not look at.
//!
//! A loop that runs is alive, and so is what waits in its queues. Looking through thousands of waiting handles in each
//! young collection is a quarter of what a callback costs, so a handle made while its loop runs is hidden, and so is
//! the tuple of its arguments, until it has run or is cancelled (and somebody else holds it) or outlives the run. A
//! pending task of a running loop is kept alive by it: it is hidden too, with its coroutine, its context and the future
//! it waits for, until it is done or outlives the run; among very many, so is what its coroutine awaits, until its
//! second step. Looking through a million of them again and again was four fifths of what such a task cost. CPython
//! does the same to tuples and dictionaries that cannot be part of a cycle.
//!
//! What this rests on:
//!
//! 1. An object is hidden by a `Hidden` alone, or born hidden (`create_hidden`). Anybody may show it.
//! 2. A `Hidden` holds a reference. So an object that it hides is not freed meanwhile.
//! 3. A `Hidden` that goes shows its object before it lets go of it. CPython's deallocators of coroutines, generators
//!    and contexts unlink the object without asking whether it is linked. Those of tuples and of our own classes ask:
//!    when
//!    the reference is the last one, these are freed as they are.
//! 4. Only objects of known classes are hidden: CPython's own coroutines, generators, contexts and tuples (exactly
//!    these, none has a subclass here), and our own classes.
//! 5. What hides an object is held, directly or not, by a loop that runs; the end of the run shows all of it. So
//!    nothing that could be garbage is hidden for longer than a run.
//!
//! Plain path: nothing is hidden.

use std::fmt;
use std::mem::ManuallyDrop;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::pool::{self, Pooled};
use super::{Acceleration, Probed, expect, raised};
use crate::py::call::Object;
pub use crate::py::refs::show;

pub static COLLECTOR: Acceleration = Acceleration::new("collector");

/// A class whose instances may be hidden.
pub trait Hide: Sized {
    /// Whether its deallocator asks if the object is linked (3).
    const ASKS: bool;
    /// Whether this object may be hidden (4).
    fn is_known(object: &Bound<'_, Self>) -> bool;
}

/// A coroutine, a generator or a context, of whatever class, that somebody gave us.
impl Hide for PyAny {
    const ASKS: bool = false;

    #[inline]
    fn is_known(object: &Bound<'_, Self>) -> bool {
        is_exactly(object, &raw mut ffi::PyCoro_Type)
            || is_exactly(object, &raw mut ffi::PyContext_Type)
            || is_exactly(object, &raw mut ffi::PyGen_Type)
    }
}

impl Hide for PyTuple {
    const ASKS: bool = true;

    #[inline]
    fn is_known(object: &Bound<'_, Self>) -> bool {
        is_exactly(object, &raw mut ffi::PyTuple_Type)
    }
}

/// An instance of the class itself is PyO3's or the pool's to free, one of a Python subclass `subtype_dealloc`'s: all
/// three ask.
impl<T: Pooled> Hide for T {
    const ASKS: bool = true;

    #[inline]
    fn is_known(_object: &Bound<'_, Self>) -> bool {
        true
    }
}

#[inline]
fn is_exactly<T>(object: &Bound<'_, T>, class: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: the Bound `object` holds the object, whose class is only compared.
    unsafe { ffi::Py_TYPE(object.as_ptr()) == class }
}

/// A reference to an object that the collector may not see.
pub struct Hidden<T: Hide>(ManuallyDrop<Py<T>>);

impl<T: Hide> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hidden").field(&self.0.as_ptr()).finish()
    }
}

impl<T: Hide> Hidden<T> {
    /// Hold an object that is in sight, or that was born hidden.
    #[inline]
    pub fn new(object: Py<T>) -> Self {
        Self(ManuallyDrop::new(object))
    }

    pub fn get(&self) -> &Py<T> {
        &self.0
    }

    #[inline]
    pub fn bind<'py>(&self, py: Python<'py>) -> &Bound<'py, T> {
        self.0.bind(py)
    }

    /// Out of sight, from now on.
    #[inline]
    pub fn hide(&self, py: Python<'_>) {
        let object = self.bind(py);
        if COLLECTOR.is_on() && T::is_known(object) {
            untrack(object.as_any());
        }
    }

    /// In sight again.
    #[inline]
    pub fn show(&self, py: Python<'_>) {
        if T::is_known(self.bind(py)) {
            show(self.bind(py).as_any());
        }
    }

    #[inline]
    fn take(self) -> Py<T> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: taken once: `this` is forgotten, and so is never used or dropped again.
        unsafe { ManuallyDrop::take(&mut this.0) }
    }

    /// The reference, to an object in sight.
    #[inline]
    pub fn into_shown(self, py: Python<'_>) -> Py<T> {
        self.show(py);
        self.take()
    }

    /// The reference, to an object that is perhaps hidden: the caller frees it or shows it.
    #[inline]
    pub fn into_bound(self, py: Python<'_>) -> Bound<'_, T> {
        const { assert!(T::ASKS, "a hidden object of this class must not be freed") };
        self.take().into_bound(py)
    }

    /// As `drop`, for who has the GIL in hand: on a thread of Python's own, PyO3 would put the drop off.
    #[inline]
    pub fn let_go(self, py: Python<'_>) {
        if !T::ASKS || crate::py::refs::is_shared(self.bind(py).as_any()) {
            self.show(py);
        }
        self.take().drop_ref(py);
    }
}

impl<T: Pooled> Hidden<T> {
    /// The same where the class is not known. It is shown in any case when it goes.
    #[inline]
    pub fn into_any(self) -> HiddenAny {
        HiddenAny(self.take().into_any())
    }
}

impl<T: Hide> Drop for Hidden<T> {
    #[inline]
    fn drop(&mut self) {
        Python::attach(|py| {
            if !T::ASKS || crate::py::refs::is_shared(self.bind(py).as_any()) {
                self.show(py);
            }
            // SAFETY: dropped once, in the destructor.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        });
    }
}

/// A hidden instance of one of our classes, of which a lower layer knows only that it is an object.
#[derive(Debug)]
pub struct HiddenAny(Py<PyAny>);

impl HiddenAny {
    pub fn get(&self) -> &Py<PyAny> {
        &self.0
    }

    /// The reference, to an object in sight.
    #[inline]
    pub fn into_shown(self, py: Python<'_>) -> Py<PyAny> {
        show(self.0.bind(py));
        let this = ManuallyDrop::new(self);
        // SAFETY: read once: `this` is forgotten.
        unsafe { std::ptr::read(&raw const this.0) }
    }
}

impl Drop for HiddenAny {
    fn drop(&mut self) {
        Python::attach(|py| show(self.0.bind(py)));
    }
}

/// Take an object out of the collector's sight.
#[inline]
fn untrack(object: &Bound<'_, PyAny>) {
    // SAFETY: the Bound `object` holds the object, whose class has `__traverse__` (`Hide::is_known`): it has a
    // collector's head. CPython allows untracking twice.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) }
}

/// As `pool::create`, out of the cycle collector's sight: until `show`, it does not see what the instance holds.
///
/// # Errors
/// MemoryError.
#[inline(always)]
pub fn create_hidden<T: Pooled>(py: Python<'_>, make: impl FnOnce() -> T::Values) -> PyResult<Bound<'_, T>> {
    let (object, tracked) = pool::allocate(py, make)?;
    match (COLLECTOR.is_on(), tracked) {
        (true, true) => untrack(object.as_any()),
        (false, false) => show(object.as_any()),
        _ => {}
    }
    Ok(object)
}

/// How many are hidden of what a coroutine awaits.
const DEPTH: usize = 4;

/// What a suspended coroutine awaits, what that awaits, and so on: held, and hidden until this is dropped.
#[derive(Debug, Default)]
pub struct AwaitChain([Option<HiddenAny>; DEPTH]);

impl AwaitChain {
    /// Hide what `coroutine` awaits, as far as it is known: CPython's own coroutines and generators, and what `is_ours`
    /// says (instances of pooled classes). None when nothing is.
    pub fn hide(coroutine: &Bound<'_, PyAny>, is_ours: impl Fn(&Bound<'_, PyAny>) -> bool) -> Option<Box<Self>> {
        if !COLLECTOR.is_on() {
            return None;
        }
        let mut chain = None::<Box<Self>>;
        let mut next = awaited_by(coroutine);
        for index in 0..DEPTH {
            let Some(known) = next.take_if(|next| PyAny::is_known(next) || is_ours(next)) else { break };
            untrack(&known);
            next = awaited_by(&known);
            chain.get_or_insert_default().0[index] = Some(HiddenAny(known.unbind()));
        }
        chain
    }

    pub fn iter(&self) -> impl Iterator<Item = &Py<PyAny>> {
        self.0.iter().flatten().map(HiddenAny::get)
    }
}

/// What a suspended coroutine or generator awaits.
fn awaited_by<'py>(suspended: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let py = suspended.py();
    let name = if is_exactly(suspended, &raw mut ffi::PyCoro_Type) {
        pyo3::intern!(py, "cr_await")
    } else if is_exactly(suspended, &raw mut ffi::PyGen_Type) {
        pyo3::intern!(py, "gi_yieldfrom")
    } else {
        return None;
    };
    suspended.try_getattr(name).ok()
}

/// A coroutine, a generator, a context and a tuple of our own are hidden, shown and freed; a tuple is freed hidden.
pub(super) fn probe(py: Python<'_>) -> Probed {
    // SAFETY: the Bound `object` holds the object; these have a collector's head, being of classes with `__traverse__`.
    let is_tracked = |object: &Bound<'_, PyAny>| unsafe { ffi::PyObject_GC_IsTracked(object.as_ptr()) != 0 };
    let scope = pyo3::types::PyDict::new(py);
    py.run(c"async def coroutine(): pass\ndef generator(): yield\n", Some(&scope), None).map_err(raised)?;
    let called = |name: &str| scope.get_item(name)?.map_or_else(|| Ok(py.None().into_bound(py)), |f| f.try_call(()));
    let (coroutine, generator) = (called("coroutine").map_err(raised)?, called("generator").map_err(raised)?);
    coroutine.try_call_method("close", ()).map_err(raised)?;
    let context = crate::py::context::copy_current(py).map_err(raised)?;
    for object in [coroutine, generator, context] {
        expect(PyAny::is_known(&object), "an object is of another class than its kind has")?;
        expect(is_tracked(&object), "a new object is not tracked")?;
        untrack(&object);
        expect(!is_tracked(&object), "an untracked object is tracked")?;
        drop(HiddenAny(object.clone().unbind()));
        expect(is_tracked(&object), "a tracked object is not tracked")?;
    }
    let tuple = PyTuple::new(py, [pyo3::types::PyList::empty(py)]).map_err(raised)?;
    untrack(tuple.as_any());
    expect(!is_tracked(tuple.as_any()), "an untracked tuple is tracked")
}
