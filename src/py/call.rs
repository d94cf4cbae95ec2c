//! Calls of Python: whatever may run a program's own code, whose errors, a PanicException among them, come back as
//! errors (`py::answer`). The names are PyO3's with `try_` before them.
//!
//! What the loop calls for each callback and each step is called without argument tuples, dictionaries or attribute
//! look-ups by string.

use std::ffi::{c_int, c_void};

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString, PyTuple, PyType};
use pyo3::{Borrowed, BoundObject, IntoPyObject, IntoPyObjectExt, PyTypeCheck};

use super::answer::{answered, fetch, owned};
use super::exit::outlast;

type Pointer = *mut ffi::PyObject;

/// The arguments of a call: a tuple of what becomes Python objects.
pub trait Arguments<'py> {
    /// Give `f` the arguments, with a place before the first that is `f`'s to use.
    ///
    /// # Errors
    /// What a conversion raises.
    fn with<R>(self, py: Python<'py>, f: impl FnOnce(&mut [Pointer]) -> R) -> PyResult<R>;
}

macro_rules! arguments {
    ($($part:ident),*) => {
        impl<'py, $($part: IntoPyObject<'py>),*> Arguments<'py> for ($($part,)*) {
            #[inline]
            #[allow(non_snake_case, unused_variables, reason = "one implementation for each number of arguments")]
            fn with<R>(self, py: Python<'py>, f: impl FnOnce(&mut [Pointer]) -> R) -> PyResult<R> {
                let ($($part,)*) = self;
                $(let $part = $part.into_bound_py_any(py)?;)*
                Ok(f(&mut [std::ptr::null_mut() $(, $part.as_ptr())*]))
            }
        }
    };
}

arguments!();
arguments!(A);
arguments!(A, B);
arguments!(A, B, C);
arguments!(A, B, C, D);

/// What Python is asked of an object.
pub trait Object<'py> {
    /// `getattr(self, name)`.
    ///
    /// # Errors
    /// AttributeError; what a property raises.
    fn try_getattr(&self, name: impl Name<'py>) -> PyResult<Bound<'py, PyAny>>;
    /// `getattr(self, name)`; None for what is not there.
    ///
    /// # Errors
    /// What a property raises that is no AttributeError.
    fn try_getattr_opt(&self, name: impl Name<'py>) -> PyResult<Option<Bound<'py, PyAny>>>;
    /// `self.name = value`.
    ///
    /// # Errors
    /// AttributeError; what a property raises.
    fn try_setattr(&self, name: impl Name<'py>, value: impl IntoPyObject<'py>) -> PyResult<()>;
    /// `bool(self)`.
    ///
    /// # Errors
    /// What `__bool__` raises.
    fn try_is_truthy(&self) -> PyResult<bool>;
    /// `repr(self)`.
    ///
    /// # Errors
    /// What `__repr__` raises.
    fn try_repr(&self) -> PyResult<Bound<'py, PyString>>;
    /// `str(self)`.
    ///
    /// # Errors
    /// What `__str__` raises.
    fn try_str(&self) -> PyResult<Bound<'py, PyString>>;
    /// `self == other`.
    ///
    /// # Errors
    /// What `__eq__` raises, or the `__bool__` of its answer.
    fn try_eq(&self, other: &Bound<'py, PyAny>) -> PyResult<bool>;
    /// `isinstance(self, class)`.
    ///
    /// # Errors
    /// What `__instancecheck__` raises.
    fn try_is_instance(&self, class: &Bound<'py, PyAny>) -> PyResult<bool>;
    /// `len(self)`.
    ///
    /// # Errors
    /// What `__len__` raises.
    fn try_len(&self) -> PyResult<usize>;
    /// `float(self)`, for what is one or has `__float__` or `__index__`.
    ///
    /// # Errors
    /// TypeError; what those raise.
    fn try_float(&self) -> PyResult<f64>;
    /// `self(*args)`.
    ///
    /// # Errors
    /// What it raises.
    fn try_call(&self, args: impl Arguments<'py>) -> PyResult<Bound<'py, PyAny>>;
    /// `self(*args, **keywords)`.
    ///
    /// # Errors
    /// What it raises.
    fn try_call_with(&self, args: impl Arguments<'py>, keywords: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>>;
    /// `self.name(*args)`.
    ///
    /// # Errors
    /// What it raises.
    fn try_call_method(&self, name: impl Name<'py>, args: impl Arguments<'py>) -> PyResult<Bound<'py, PyAny>>;
    /// `self.name(*args, **keywords)`.
    ///
    /// # Errors
    /// What it raises.
    fn try_call_method_with(
        &self,
        name: impl Name<'py>,
        args: impl Arguments<'py>,
        keywords: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>>;
}

/// A parameter that takes what `float()` takes of numbers.
#[derive(Debug)]
pub struct Number(pub f64);

impl<'py> FromPyObject<'_, 'py> for Number {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        number(&object).map(Self)
    }
}

/// `float(object)` of a number.
///
/// # Errors
/// TypeError for what is no number; what its `__float__` or `__index__` raises.
#[inline]
pub fn number(object: &Bound<'_, PyAny>) -> PyResult<f64> {
    // No code of Python's runs for these two.
    let plain = object.is_exact_instance_of::<PyFloat>() || object.is_exact_instance_of::<PyInt>();
    if plain { object.extract() } else { object.try_float() }
}

/// What becomes a Python string: an interned one, best.
pub trait Name<'py>: IntoPyObject<'py, Target = PyString> {}

impl<'py, T: IntoPyObject<'py, Target = PyString>> Name<'py> for T {}

/// The callee may use the place before the first argument.
const AND_THE_ONE_BEFORE: usize = ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;

impl<'py> Object<'py> for Bound<'py, PyAny> {
    #[inline]
    fn try_getattr(&self, name: impl Name<'py>) -> PyResult<Bound<'py, PyAny>> {
        outlast();
        let name = name.into_pyobject_or_pyerr(self.py())?;
        // SAFETY: the Bounds `self` and `name` hold their objects for the call, and the GIL. CPython answers with a new
        // reference, or with NULL and an exception, which is what `owned` takes.
        unsafe { owned(self.py(), ffi::PyObject_GetAttr(self.as_ptr(), name.as_borrowed().as_ptr())) }
    }

    fn try_getattr_opt(&self, name: impl Name<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.try_getattr(name) {
            Ok(value) => Ok(Some(value)),
            Err(raised) if raised.is_instance_of::<PyAttributeError>(self.py()) => Ok(None),
            Err(raised) => Err(raised),
        }
    }

    fn try_setattr(&self, name: impl Name<'py>, value: impl IntoPyObject<'py>) -> PyResult<()> {
        outlast();
        let name = name.into_pyobject_or_pyerr(self.py())?;
        let value = value.into_bound_py_any(self.py())?;
        // SAFETY: the Bounds `self`, `name` and `value` hold their objects for the call, and the GIL.
        let set = unsafe { ffi::PyObject_SetAttr(self.as_ptr(), name.as_borrowed().as_ptr(), value.as_ptr()) };
        answered(self.py(), set).map(drop)
    }

    #[inline]
    fn try_is_truthy(&self) -> PyResult<bool> {
        outlast();
        // SAFETY: the Bound `self` holds the object for the call, and the GIL.
        answered(self.py(), unsafe { ffi::PyObject_IsTrue(self.as_ptr()) }).map(is_true)
    }

    fn try_repr(&self) -> PyResult<Bound<'py, PyString>> {
        outlast();
        // SAFETY: the Bound `self` holds the object for the call, and the GIL. CPython answers with a new reference to
        // a string (it checks what `__repr__` gave), or with NULL and an exception.
        unsafe { owned(self.py(), ffi::PyObject_Repr(self.as_ptr())).map(|text| cast_into(text)) }
    }

    fn try_str(&self) -> PyResult<Bound<'py, PyString>> {
        outlast();
        // SAFETY: the Bound `self` holds the object for the call, and the GIL. CPython answers with a new reference to
        // a string (it checks what `__str__` gave), or with NULL and an exception.
        unsafe { owned(self.py(), ffi::PyObject_Str(self.as_ptr())).map(|text| cast_into(text)) }
    }

    fn try_eq(&self, other: &Bound<'py, PyAny>) -> PyResult<bool> {
        outlast();
        // SAFETY: the Bounds `self` and `other` hold their objects for the call, and the GIL.
        let answer = unsafe { ffi::PyObject_RichCompare(self.as_ptr(), other.as_ptr(), ffi::Py_EQ) };
        // SAFETY: PyObject_RichCompare has answered with a new reference, or with NULL and an exception.
        unsafe { owned(self.py(), answer)? }.try_is_truthy()
    }

    fn try_is_instance(&self, class: &Bound<'py, PyAny>) -> PyResult<bool> {
        outlast();
        // SAFETY: the Bounds `self` and `class` hold their objects for the call, and the GIL.
        answered(self.py(), unsafe { ffi::PyObject_IsInstance(self.as_ptr(), class.as_ptr()) }).map(is_true)
    }

    fn try_len(&self) -> PyResult<usize> {
        outlast();
        // SAFETY: the Bound `self` holds the object for the call, and the GIL.
        let length = unsafe { ffi::PyObject_Size(self.as_ptr()) };
        usize::try_from(length).map_err(|_negative| fetch(self.py()))
    }

    fn try_float(&self) -> PyResult<f64> {
        outlast();
        // SAFETY: the Bound `self` holds the object for the call, and the GIL.
        let value = unsafe { ffi::PyFloat_AsDouble(self.as_ptr()) };
        // -1.0 may be an answer: then there is no exception.
        let failed = value.to_bits() == (-1.0_f64).to_bits() && PyErr::occurred(self.py());
        if failed { Err(fetch(self.py())) } else { Ok(value) }
    }

    #[inline]
    fn try_call(&self, args: impl Arguments<'py>) -> PyResult<Bound<'py, PyAny>> {
        outlast();
        args.with(self.py(), |args| {
            let count = (args.len() - 1) | AND_THE_ONE_BEFORE;
            // SAFETY: `Arguments::with` holds the arguments until this closure returns, and gives the place before them
            // to it; `self` holds the callable, and the GIL. CPython answers with a new reference, or with NULL and an
            // exception.
            unsafe {
                let first = args.as_mut_ptr().add(1);
                owned(self.py(), ffi::PyObject_Vectorcall(self.as_ptr(), first, count, std::ptr::null_mut()))
            }
        })?
    }

    fn try_call_with(&self, args: impl Arguments<'py>, keywords: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: `Arguments::with` holds the arguments until this closure returns, and gives the place before them to
        // it.
        args.with(self.py(), |args| unsafe { call_with(self, args, keywords) })?
    }

    #[inline]
    fn try_call_method(&self, name: impl Name<'py>, args: impl Arguments<'py>) -> PyResult<Bound<'py, PyAny>> {
        outlast();
        let name = name.into_pyobject_or_pyerr(self.py())?;
        args.with(self.py(), |args| {
            args[0] = self.as_ptr();
            let (name, all, count) = (name.as_borrowed().as_ptr(), args.as_ptr(), args.len());
            // SAFETY: `Arguments::with` holds the arguments until this closure returns, `self` the receiver before them
            // and `name` the name; the GIL is held. CPython answers with a new reference, or with NULL and an
            // exception.
            unsafe { owned(self.py(), ffi::PyObject_VectorcallMethod(name, all, count, std::ptr::null_mut())) }
        })?
    }

    fn try_call_method_with(
        &self,
        name: impl Name<'py>,
        args: impl Arguments<'py>,
        keywords: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.try_getattr(name)?.try_call_with(args, keywords)
    }
}

/// `callable(*args, **keywords)`; the arguments are those after the first place, which is the callee's to use.
///
/// # Safety
/// Who calls holds the arguments until this returns.
#[cfg(not(Py_LIMITED_API))]
unsafe fn call_with<'py>(
    callable: &Bound<'py, PyAny>,
    args: &mut [Pointer],
    keywords: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    outlast();
    let count = (args.len() - 1) | AND_THE_ONE_BEFORE;
    // SAFETY: the caller holds the arguments, and gives the place before them away; the Bounds hold the callable and a
    // dictionary, and the GIL. CPython answers with a new reference, or with NULL and an exception.
    unsafe {
        let first = args.as_mut_ptr().add(1);
        owned(callable.py(), ffi::PyObject_VectorcallDict(callable.as_ptr(), first, count, keywords.as_ptr()))
    }
}

/// The same with a tuple, which is all that the limited API has.
///
/// # Safety
/// Who calls holds the arguments until this returns.
#[cfg(Py_LIMITED_API)]
unsafe fn call_with<'py>(
    callable: &Bound<'py, PyAny>,
    args: &mut [Pointer],
    keywords: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = callable.py();
    // SAFETY: the caller holds the arguments, which are objects.
    let args = args[1..].iter().map(|&arg| unsafe { pyo3::Borrowed::from_ptr(py, arg) });
    let args = PyTuple::new(py, args.collect::<Vec<_>>())?;
    call_all(callable, &args, Some(keywords))
}

fn is_true(answer: c_int) -> bool {
    answer != 0
}

/// `class(*args, **keywords)` in its two parts: one whose `__init__` has raised is there all the same.
///
/// # Errors
/// What `__new__` raises.
pub fn create<'py>(
    class: &Bound<'py, PyType>,
    args: &Bound<'py, PyTuple>,
    keywords: &Bound<'py, PyDict>,
) -> PyResult<(Bound<'py, PyAny>, PyResult<()>)> {
    outlast();
    let py = class.py();
    let class = class.as_type_ptr();
    // SAFETY: the Bounds hold class and arguments for the calls, and the GIL. Every class that can be called has these
    // two slots, of these types; the first gives a new reference, or NULL with an exception. That is how CPython's
    // `type` calls them (`type_call`), for an object of the class itself.
    unsafe {
        let new = std::mem::transmute::<*mut c_void, ffi::newfunc>(ffi::PyType_GetSlot(class, ffi::Py_tp_new));
        let init = std::mem::transmute::<*mut c_void, ffi::initproc>(ffi::PyType_GetSlot(class, ffi::Py_tp_init));
        let object = owned(py, new(class, args.as_ptr(), keywords.as_ptr()))?;
        let begun = answered(py, init(object.as_ptr(), args.as_ptr(), keywords.as_ptr())).map(drop);
        Ok((object, begun))
    }
}

/// `callable(*args, **keywords)`.
///
/// # Errors
/// What it raises.
pub fn call_all<'py>(
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    keywords: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    outlast();
    let keywords = keywords.map_or(std::ptr::null_mut(), |keywords| keywords.as_ptr());
    // SAFETY: the Bounds hold the callable, the tuple and the dictionary (or it is NULL) for the call, which gives a
    // new reference, or NULL with an exception set.
    unsafe { owned(callable.py(), ffi::PyObject_Call(callable.as_ptr(), args.as_ptr(), keywords)) }
}

/// `object.__setattr__`, or (without a value) `object.__delattr__`.
///
/// # Errors
/// AttributeError; what a descriptor's setter raises.
pub fn set_attribute(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    outlast();
    let value = value.map_or(std::ptr::null_mut(), |value| value.as_ptr());
    // SAFETY: the Bounds hold the object, the name and the value for the call; NULL means no value.
    let set = unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value) };
    answered(object.py(), set).map(drop)
}

/// `callable(a, b)`.
#[inline]
pub fn call_two<'py>(
    callable: &Bound<'py, PyAny>,
    a: &Bound<'py, PyAny>,
    b: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    outlast();
    let args = [a.as_ptr(), b.as_ptr()];
    // SAFETY: the Bounds hold the callable and the two objects in `args` for the call, and the GIL. CPython answers
    // with a new reference, or with NULL and an exception.
    unsafe {
        let result = ffi::PyObject_Vectorcall(callable.as_ptr(), args.as_ptr(), 2, std::ptr::null_mut());
        owned(callable.py(), result)
    }
}

/// `object.name(*args, <keyword>=value)`, of one or two `args`; `keyword` is a tuple of one interned string.
pub fn call_method_with_keyword<'py, const N: usize>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
    args: [&Bound<'py, PyAny>; N],
    keyword: &Bound<'py, PyTuple>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    outlast();
    const { assert!(N == 1 || N == 2) };
    // What is not filled is not looked at.
    let mut all = [object.as_ptr(); 4];
    for (place, object) in all[1..].iter_mut().zip(args.into_iter().chain([value])) {
        *place = object.as_ptr();
    }
    // SAFETY: the Bounds hold what is in `all` for the call, and the GIL: the receiver, `N` positional arguments, and
    // one value for the one name in `keyword`. CPython answers with a new reference, or with NULL and an exception.
    unsafe {
        let result = ffi::PyObject_VectorcallMethod(name.as_ptr(), all.as_ptr(), 1 + N, keyword.as_ptr());
        owned(object.py(), result)
    }
}

/// An object as what it is known to be: its class is not looked at, but in debug builds.
///
/// # Safety
/// It is an instance of `T`, or of a subclass.
#[inline(always)]
pub unsafe fn cast<'a, 'py, T: PyTypeCheck>(object: &'a Bound<'py, PyAny>) -> &'a Bound<'py, T> {
    debug_assert!(object.cast::<T>().is_ok(), "not what it is known to be: {}", object.get_type());
    // SAFETY: the caller promises that it is an instance of `T`, and debug builds have looked.
    unsafe { object.cast_unchecked() }
}

/// As `cast`, of an object that is handed over.
///
/// # Safety
/// As for `cast`.
#[inline(always)]
pub unsafe fn cast_into<T: PyTypeCheck>(object: Bound<'_, PyAny>) -> Bound<'_, T> {
    debug_assert!(object.cast::<T>().is_ok(), "not what it is known to be: {}", object.get_type());
    // SAFETY: the caller promises that it is an instance of `T`, and debug builds have looked.
    unsafe { object.cast_into_unchecked() }
}

/// Whether this is an instance of exactly this class (no subclass): a pointer comparison.
#[inline]
pub fn has_type(object: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> bool {
    // SAFETY: the Bound `object` holds the object, whose class is only compared.
    std::ptr::eq(unsafe { ffi::Py_TYPE(object.as_ptr()) }.cast::<ffi::PyObject>(), class.as_ptr())
}

/// `__class__`: asyncio's class for exactly ours (`isinstance` holds against both), for a Python subclass the real one.
pub fn class_of(object: &Bound<'_, PyAny>, asyncios: &Py<PyType>, exact: &Bound<'_, PyType>) -> Py<PyAny> {
    let py = object.py();
    if has_type(object, exact) { asyncios.clone_ref(py).into_any() } else { object.get_type().into_any().unbind() }
}

/// Whether nobody can put anything into the class.
pub fn is_immutable(class: &Bound<'_, PyType>) -> bool {
    // SAFETY: the Bound holds the class, whose flags are looked at.
    unsafe { ffi::PyType_HasFeature(class.as_type_ptr(), ffi::Py_TPFLAGS_IMMUTABLETYPE) != 0 }
}

/// `a is b`.
#[inline]
pub fn same(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> bool {
    std::ptr::eq(a.as_ptr(), b.as_ptr())
}

/// `object is True`, or `object is False`.
#[inline]
pub fn is_bool(object: &Bound<'_, PyAny>, value: bool) -> bool {
    same(object, PyBool::new(object.py(), value).as_any())
}
