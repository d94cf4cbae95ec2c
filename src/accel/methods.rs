//! Methods that Python calls without PyO3's wrapper around them.
//!
//! PyO3's wrapper unpacks arguments into a tuple and counts itself in and out of a thread-local: a tenth of what a
//! callback costs. A fast method gets the arguments as CPython has them (METH_FASTCALL | METH_KEYWORDS), does the plain
//! cases and hands every other back: PyO3's method of the same name, which it stands before, then does the call.
//!
//! PyO3 does not count a fast method as attached, so a `Py<_>` that it drops on a thread of Python's own is dropped
//! later: it drops `Bound`s.
//!
//! Plain path: PyO3's methods.

use std::ffi::CString;
use std::marker::PhantomData;

use pyo3::Borrowed;
use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};

use super::slots::Scratch;
use super::{Acceleration, Probed, expect, raised};
use crate::py::call::{self, Object};
use crate::py::error;

pub static METHODS: Acceleration = Acceleration::new("methods");

/// The arguments of one call.
#[derive(Clone, Copy)]
pub struct Args<'a, 'py> {
    py: Python<'py>,
    /// The positional ones, then the values of the keywords.
    values: *const *mut ffi::PyObject,
    count: usize,
    /// A tuple of strings, or null.
    names: *mut ffi::PyObject,
    life: PhantomData<&'a ()>,
}

impl<'a, 'py> Args<'a, 'py> {
    pub fn py(&self) -> Python<'py> {
        self.py
    }

    /// How many positional arguments there are.
    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    /// A positional argument.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    pub fn get(&self, index: usize) -> Borrowed<'a, 'py, PyAny> {
        assert!(index < self.count, "no such argument");
        // SAFETY: the caller of the method keeps `count` live objects at `values` for the length of the call.
        unsafe { Borrowed::from_ptr(self.py, *self.values.add(index)) }
    }

    /// Whether there are no keyword arguments.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.names.is_null()
    }

    /// The value of the keyword `name` (interned), if there are no other keywords: `Some(None)` without any.
    #[inline]
    pub fn only_keyword(&self, name: &Bound<'py, PyString>) -> Option<Option<Borrowed<'a, 'py, PyAny>>> {
        if self.names.is_null() {
            return Some(None);
        }
        // SAFETY: a tuple of strings, with a value for each behind the positional ones.
        unsafe {
            let known = ffi::PyTuple_GET_SIZE(self.names) == 1 && ffi::PyTuple_GET_ITEM(self.names, 0) == name.as_ptr();
            known.then(|| Some(Borrowed::from_ptr(self.py, *self.values.add(self.count))))
        }
    }

    /// The positional arguments from `first` on as a tuple; None when there are none left.
    ///
    /// # Errors
    /// MemoryError.
    #[inline]
    pub fn rest(&self, first: usize) -> PyResult<Option<Bound<'py, PyTuple>>> {
        if self.count <= first {
            return Ok(None);
        }
        // SAFETY: the items of a new tuple, each set once to a live object with a count of its own.
        unsafe {
            let tuple = ffi::PyTuple_New((self.count - first) as ffi::Py_ssize_t);
            let tuple = error::owned(self.py, tuple)?;
            for index in first..self.count {
                let value = *self.values.add(index);
                ffi::Py_INCREF(value);
                ffi::PyTuple_SET_ITEM(tuple.as_ptr(), (index - first) as ffi::Py_ssize_t, value);
            }
            Ok(Some(call::cast_into(tuple)))
        }
    }
}

/// A fast method.
pub trait Fast {
    /// The class whose method it is.
    type Class: PyClass;
    /// The name of PyO3's method that it stands before.
    const NAME: &'static str;
    /// Do the call. None: not a plain case, and nothing has been done.
    fn call<'py>(slf: &Bound<'py, Self::Class>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>>;
    /// Where PyO3's method is kept.
    fn usual() -> &'static PyOnceLock<Py<PyAny>>;
}

unsafe extern "C" fn entry<F: Fast>(
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the descriptor made in `install`, with the GIL held: it has compared the class of `slf`, and
    // the arguments are as METH_FASTCALL | METH_KEYWORDS says.
    unsafe {
        let py = Python::assume_attached();
        let args = Args { py, values, count: count as usize, names, life: PhantomData };
        let this = Borrowed::from_ptr(py, slf);
        let this = call::cast::<F::Class>(&this);
        let raise = |raised: PyErr| {
            raised.restore(py);
            std::ptr::null_mut()
        };
        let called =
            error::catch_panic_slim(|| Ok(F::call(this, args).map(|done| done.map_or_else(raise, Bound::into_ptr))));
        match called {
            Ok(Some(value)) => value,
            Ok(None) => usual::<F>(py, slf, values, count as usize, names),
            Err(panicked) => raise(*panicked),
        }
    }
}

/// PyO3's method.
#[cold]
unsafe fn usual<F: Fast>(
    py: Python<'_>,
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's arguments, with the receiver before them.
    unsafe {
        let keywords = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names) as usize };
        let mut all = Vec::with_capacity(1 + count + keywords);
        all.push(slf);
        if count + keywords > 0 {
            all.extend_from_slice(std::slice::from_raw_parts(values, count + keywords));
        }
        match F::usual().get(py) {
            Some(usual) => ffi::PyObject_Vectorcall(usual.as_ptr(), all.as_ptr(), 1 + count, names),
            None => std::ptr::null_mut(),
        }
    }
}

/// Put the fast method before PyO3's, with its signature and its words: into `class`, which is `F::Class` or a subclass
/// without one of its own. CPython calls it without further ado on instances of exactly this class.
///
/// # Errors
/// MemoryError; AttributeError when PyO3 has no such method.
pub fn install<F: Fast>(class: &Bound<'_, PyType>) -> PyResult<()> {
    if METHODS.is_on() { put::<F>(class) } else { Ok(()) }
}

fn put<F: Fast>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let usual = py.get_type::<F::Class>().try_getattr(F::NAME)?;
    let text = |name: &str| usual.try_getattr(name).and_then(|text| text.extract::<String>()).unwrap_or_default();
    let (signature, words) = (text("__text_signature__"), text("__doc__"));
    let words = CString::new(format!("{}{signature}\n--\n\n{words}", F::NAME))?;
    let name = CString::new(F::NAME)?;
    // The descriptor points at its definition for as long as the class lives, which is to the end.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: CString::into_raw(name),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: entry::<F> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: CString::into_raw(words),
    }));
    F::usual().get_or_init(py, || usual.unbind());
    // SAFETY: a live class, and a definition that outlives it; `entry` gets instances of `class` only.
    let fast = unsafe { error::owned(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.try_setattr(F::NAME, fast)
}

/// `Scratch.add` for one argument; the sum tells which method was called.
struct Add;

impl Fast for Add {
    type Class = Scratch;
    const NAME: &'static str = "add";

    fn call<'py>(_slf: &Bound<'py, Scratch>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let plain = args.count() == 1 && args.is_plain();
        plain.then(|| args.get(0).add(100))
    }

    fn usual() -> &'static PyOnceLock<Py<PyAny>> {
        static USUAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        &USUAL
    }
}

/// A plain call comes to the fast method, every other to PyO3's, with its arguments.
pub(super) fn probe(py: Python<'_>) -> Probed {
    let class = py.get_type::<Scratch>();
    put::<Add>(&class).map_err(raised)?;
    let scratch = Scratch::new(py).map_err(raised)?;
    let sum = |called: PyResult<Bound<'_, PyAny>>| called.and_then(|sum| sum.extract::<u64>()).map_err(raised);
    expect(sum(scratch.try_call_method("add", (1,)))? == 101, "a plain call does not come to the fast method")?;
    expect(
        sum(scratch.try_call_method("add", (1, 3)))? == 4,
        "a call with two arguments does not come to PyO3's method",
    )?;
    let keywords = pyo3::types::PyDict::new(py);
    keywords.set_item("other", 4).map_err(raised)?;
    let sum = sum(scratch.try_call_method_with("add", (1,), &keywords))?;
    expect(sum == 5, "a call with a keyword does not come to PyO3's method")
}
