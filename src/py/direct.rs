//! Methods that Python calls directly: without PyO3's wrapper around them.
//!
//! PyO3's wrapper counts itself in and out of a number that the *thread* has (how often it is attached). So nothing
//! that is wrapped may be left in the middle by a greenlet: what runs meanwhile is counted wrong, up to an attached
//! thread that PyO3 takes for one that is not. What runs a program's code for which that is usual stands before PyO3's
//! method here. `accel::methods` has others do so for speed.
//!
//! A direct method gets the arguments as CPython has them (METH_FASTCALL | METH_KEYWORDS). What it does not do itself
//! it hands back: PyO3's method of the same name, which it stands before, then does the call.
//!
//! As PyO3 does not count a direct method as attached, a `Py<_>` that it drops on a thread of Python's own is dropped
//! later: it drops `Bound`s.

use std::ffi::CString;
use std::marker::PhantomData;

use pyo3::exceptions::PySystemError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};
use pyo3::{Borrowed, PyTypeInfo};

use super::answer::owned;
use super::call::{self, Object};
use super::error;

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
    /// # Safety
    /// `values` are `count` objects, with a value for each of `names` (a tuple of strings, or null) behind them, and
    /// live for `'a`.
    #[inline(always)]
    pub unsafe fn new(
        py: Python<'py>,
        values: *const *mut ffi::PyObject,
        count: usize,
        names: *mut ffi::PyObject,
    ) -> Self {
        Self { py, values, count, names, life: PhantomData }
    }

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
        // SAFETY: the caller of the method keeps `count` objects alive at `values` for the length of the call.
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
        // SAFETY: the caller of the method gives a tuple of strings, with a value for each of them behind the
        // positional ones.
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
        // SAFETY: nobody else knows the new tuple yet. Each of its items is set once, to an argument (which the caller
        // of the method keeps alive) with a count of the tuple's own.
        unsafe {
            let tuple = ffi::PyTuple_New((self.count - first) as ffi::Py_ssize_t);
            let tuple = owned(self.py, tuple)?;
            for index in first..self.count {
                let value = *self.values.add(index);
                ffi::Py_INCREF(value);
                ffi::PyTuple_SET_ITEM(tuple.as_ptr(), (index - first) as ffi::Py_ssize_t, value);
            }
            Ok(Some(call::cast_into(tuple)))
        }
    }
}

/// A direct method. What it stands before may be a Python function, too.
pub trait Direct {
    /// The class whose method it is.
    type Class: PyTypeInfo;
    /// The name of PyO3's method that it stands before.
    const NAME: &'static str;
    /// What Python is told of its parameters. None: what PyO3's method tells.
    const SIGNATURE: Option<&'static str> = None;
    /// Do the call. None: nothing has been done, and PyO3's method does it.
    fn call<'py>(slf: &Bound<'py, Self::Class>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>>;
    /// Where PyO3's method is kept: `keeps_usual!()`.
    fn usual() -> &'static PyOnceLock<Py<PyAny>>;
}

/// Each direct method's own `usual`.
macro_rules! keeps_usual {
    () => {
        fn usual() -> &'static pyo3::sync::PyOnceLock<pyo3::Py<pyo3::PyAny>> {
            static USUAL: pyo3::sync::PyOnceLock<pyo3::Py<pyo3::PyAny>> = pyo3::sync::PyOnceLock::new();
            &USUAL
        }
    };
}
pub(crate) use keeps_usual;

unsafe extern "C" fn entry<M: Direct>(
    slf: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: only the descriptor made in `stand_before` has this: CPython calls it with the GIL held, after it has
    // compared the class of `slf`, and with the arguments of METH_FASTCALL | METH_KEYWORDS, which it holds for the
    // call.
    unsafe {
        let py = Python::assume_attached();
        let args = Args::new(py, values, count as usize, names);
        let this = Borrowed::from_ptr(py, slf);
        let this = call::cast::<M::Class>(&this);
        let raise = |raised: PyErr| {
            raised.restore(py);
            std::ptr::null_mut()
        };
        let called = error::catch_panic_slim(|| match M::call(this, args) {
            Some(Ok(value)) => Ok(value.into_ptr()),
            Some(Err(raised)) => Err(Box::new(raised)),
            None => Ok(usual::<M>(this, args)?.into_ptr()),
        });
        called.unwrap_or_else(|raised| raise(*raised))
    }
}

/// PyO3's method.
///
/// # Errors
/// What it raises.
#[cold]
pub fn usual<'py, M: Direct>(slf: &Bound<'py, M::Class>, args: Args<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
    let py = args.py;
    let Some(usual) = M::usual().get(py) else { return Err(PySystemError::new_err("a method without PyO3's")) };
    // SAFETY: the caller of the method keeps the arguments, and a value for each of `names` behind them, for the length
    // of the call; `all` has them with the receiver before them. The result is a new reference or an exception is set.
    unsafe {
        let keywords = if args.names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(args.names) as usize };
        let mut all = Vec::with_capacity(1 + args.count + keywords);
        all.push(slf.as_ptr());
        if args.count + keywords > 0 {
            all.extend_from_slice(std::slice::from_raw_parts(args.values, args.count + keywords));
        }
        owned(py, ffi::PyObject_Vectorcall(usual.as_ptr(), all.as_ptr(), 1 + args.count, args.names))
    }
}

/// Put the direct method before PyO3's, with its signature and its words: into `class`, which is `M::Class` or a
/// subclass without one of its own. CPython calls it without further ado on instances of exactly this class.
///
/// # Errors
/// MemoryError; AttributeError when PyO3 has no such method.
pub fn stand_before<M: Direct>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let usual = class.try_getattr(M::NAME)?;
    let text = |name: &str| usual.try_getattr(name).and_then(|text| text.extract::<String>()).unwrap_or_default();
    let signature = M::SIGNATURE.map_or_else(|| text("__text_signature__"), str::to_owned);
    let words = CString::new(format!("{}{signature}\n--\n\n{}", M::NAME, text("__doc__")))?;
    let name = CString::new(M::NAME)?;
    // The descriptor points at its definition for as long as the class lives, which is to the end.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: CString::into_raw(name),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: entry::<M> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: CString::into_raw(words),
    }));
    M::usual().get_or_init(py, || usual.unbind());
    // SAFETY: `class` holds the type, and the definition is never freed; `entry` gets instances of `class` only.
    let direct = unsafe { owned(py, ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.try_setattr(M::NAME, direct)
}
