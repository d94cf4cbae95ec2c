//! Whether anybody may have put a function of their own in the place of one that asyncio calls by its name.
//!
//! asyncio looks `loop.call_soon` up for each step of a task, and `handle._run` for each callback. Our loop goes past
//! these names as long as what is found there is its own, or CPython's (`sched::replaced`). CPython tells when a class
//! changes, or one of its bases: the loops' and the handles' are watched (`PyType_Watch`), and a change makes every
//! loop look again. So is the dictionary of the module `time`, whose `monotonic` is asyncio's clock (`PyDict_Watch`).
//!
//! Plain path: by name, each time.

use std::ffi::c_int;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::{Acceleration, Probed, expect, raised};
use crate::py::call::Object;
use crate::py::cell::GilValue;
use crate::py::error;

pub static DIRECT_CALLS: Acceleration = Acceleration::new("direct_calls");

/// What happens, to which dictionary, at which key, with which value.
type DictionaryChanges =
    unsafe extern "C" fn(c_int, *mut ffi::PyObject, *mut ffi::PyObject, *mut ffi::PyObject) -> c_int;

// CPython's, which PyO3 does not name.
unsafe extern "C" {
    fn PyType_AddWatcher(callback: unsafe extern "C" fn(*mut ffi::PyTypeObject) -> c_int) -> c_int;
    fn PyType_Watch(watcher: c_int, class: *mut ffi::PyObject) -> c_int;
    fn PyUnstable_Type_AssignVersionTag(class: *mut ffi::PyTypeObject) -> c_int;
    fn PyDict_AddWatcher(callback: DictionaryChanges) -> c_int;
    fn PyDict_Watch(watcher: c_int, dictionary: *mut ffi::PyObject) -> c_int;
}

/// How often a watched class was changed, from 1.
static CHANGES: AtomicUsize = AtomicUsize::new(1);
/// CPython's number of our watcher.
static WATCHER: AtomicI32 = AtomicI32::new(-1);
/// The same of the one for dictionaries.
static DICTIONARIES: AtomicI32 = AtomicI32::new(-1);

/// A number that is another one when a watched class was, or is about to be, changed. Never 0.
#[inline(always)]
pub fn changes() -> usize {
    CHANGES.load(Ordering::Relaxed)
}

unsafe extern "C" fn changed(_class: *mut ffi::PyTypeObject) -> c_int {
    CHANGES.fetch_add(1, Ordering::Relaxed);
    0
}

unsafe extern "C" fn dictionary_changed(
    _what: c_int,
    _dictionary: *mut ffi::PyObject,
    _key: *mut ffi::PyObject,
    _value: *mut ffi::PyObject,
) -> c_int {
    CHANGES.fetch_add(1, Ordering::Relaxed);
    0
}

/// Have each change of this dictionary noticed, for good. False: they will not be.
pub fn watch_dictionary(dictionary: &Bound<'_, PyDict>) -> bool {
    let watcher = DICTIONARIES.load(Ordering::Relaxed);
    // SAFETY: the Bound holds the dictionary for the call; CPython gave the number, and knows it for good.
    watcher >= 0 && unsafe { error::answered(dictionary.py(), PyDict_Watch(watcher, dictionary.as_ptr())) }.is_ok()
}

/// Have the next change of this class noticed, or of one of its bases. To be called again after it: CPython tells once
/// until somebody has looked something up. False: it will not be noticed (a class that was changed a thousand times).
pub fn watch(class: &Bound<'_, PyType>) -> bool {
    let watcher = WATCHER.load(Ordering::Relaxed);
    if watcher < 0 {
        return false;
    }
    // SAFETY: the Bound holds the class for the call; CPython gave the number, and knows it for good.
    let watched = unsafe { error::answered(class.py(), PyType_Watch(watcher, class.as_ptr())) };
    // SAFETY: the Bound holds the class for the call.
    watched.is_ok() && unsafe { PyUnstable_Type_AssignVersionTag(class.as_type_ptr()) } == 1
}

/// What a look at some classes has found. It holds until one of them changes.
#[derive(Debug, Default)]
pub struct Finding<T: Copy>(GilValue<(usize, T)>);

impl<T: Copy> Finding<T> {
    pub const fn new(unused: T) -> Self {
        Self(GilValue::new((0, unused)))
    }

    /// None: look, again.
    #[inline(always)]
    pub fn get(&self, py: Python<'_>) -> Option<T> {
        let (at, found) = self.0.get(py);
        (at == changes()).then_some(found)
    }

    /// Keep what a look has found that began when `changes` gave this number.
    pub fn keep(&self, py: Python<'_>, began: usize, found: T) {
        self.0.set(py, (began, found));
    }

    /// Something may have changed that CPython does not tell of.
    pub fn doubt(&self, py: Python<'_>) {
        self.0.update(py, |(at, _)| *at = 0);
    }
}

fn class(bases: Bound<'_, PyTuple>) -> PyResult<Bound<'_, PyType>> {
    let py = bases.py();
    let made = py.get_type::<PyType>().try_call(("Scratch", bases, PyDict::new(py)))?;
    Ok(made.cast_into::<PyType>()?)
}

/// A class of its own and one below it: each change of the upper one is noticed.
pub(super) fn probe(py: Python<'_>) -> Probed {
    if WATCHER.load(Ordering::Relaxed) < 0 {
        // SAFETY: the GIL is held, and the function stays where it is.
        let watcher = unsafe { error::answered(py, PyType_AddWatcher(changed)) }.map_err(raised)?;
        WATCHER.store(watcher, Ordering::Relaxed);
    }
    if DICTIONARIES.load(Ordering::Relaxed) < 0 {
        // SAFETY: the GIL is held, and the function stays where it is.
        let watcher = unsafe { error::answered(py, PyDict_AddWatcher(dictionary_changed)) }.map_err(raised)?;
        DICTIONARIES.store(watcher, Ordering::Relaxed);
    }
    let dictionary = PyDict::new(py);
    expect(watch_dictionary(&dictionary), "a dictionary cannot be watched")?;
    for value in 0..2 {
        let before = changes();
        dictionary.set_item("name", value).map_err(raised)?;
        expect(changes() != before, "a change of a dictionary is not noticed")?;
    }
    let upper = class(PyTuple::empty(py)).map_err(raised)?;
    let lower = PyTuple::new(py, [&upper]).and_then(class).map_err(raised)?;
    for value in 0..3 {
        expect(watch(&lower), "a class cannot be watched")?;
        let before = changes();
        upper.try_setattr("name", value).map_err(raised)?;
        expect(changes() != before, "a change of a class is not noticed")?;
    }
    expect(watch(&lower), "a class cannot be watched")?;
    let before = changes();
    upper.as_any().delattr("name").map_err(raised)?;
    expect(changes() != before, "a change of a class is not noticed")
}
