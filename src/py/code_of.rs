//! What a callable or a coroutine is told apart by when it is counted or timed, and what it is called: the code that
//! runs. A bound method, a `functools.partial` and a closure are new objects each time; their code is not.

use std::ffi::c_void;

use pyo3::Borrowed;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyCode, PyFunction, PyString, PyType};

use super::call::Object;

unsafe extern "C" {
    // PyO3 has no declarations of them.
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
    fn PyGen_GetCode(generator: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// What runs. Two of them are the same while one of them holds its object.
#[derive(Debug)]
pub struct Code<'py> {
    /// Tells it from all others.
    pub key: usize,
    /// Where the key comes from; None: from what lives as long as the process.
    pub of: Option<Bound<'py, PyAny>>,
    /// A builtin function, for its name.
    named: Option<Bound<'py, PyAny>>,
}

/// The most that wrap each other and are looked through.
const DEPTH: usize = 4;

impl<'py> Code<'py> {
    fn of_object(object: Bound<'py, PyAny>) -> Self {
        Self { key: object.as_ptr().addr(), of: Some(object), named: None }
    }

    /// That of a callable.
    pub fn of_callable(callable: &Bound<'py, PyAny>) -> Self {
        let py = callable.py();
        let mut callable = callable.clone();
        for _ in 0..DEPTH {
            if callable.is_exact_instance_of::<PyFunction>() {
                // SAFETY: a function, which the Bound holds, has a code object, and holds it: the reference is taken at
                // once.
                let code = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyFunction_GetCode(callable.as_ptr())) };
                return code.map_or_else(|| Self::of_class(&callable), Self::of_object);
            }
            if is_method(&callable) {
                // SAFETY: a bound method, which the Bound holds, has a function, and holds it: the reference is taken
                // at once.
                let function = unsafe { Bound::from_borrowed_ptr_or_opt(py, PyMethod_Function(callable.as_ptr())) };
                let Some(function) = function else { break };
                callable = function;
                continue;
            }
            if callable.is_exact_instance_of::<PyCFunction>() {
                // SAFETY: a builtin function, which the Bound holds.
                let function = unsafe { ffi::PyCFunction_GetFunction(callable.as_ptr()) };
                let key = function.map_or(0, |function| (function as *const c_void).addr());
                return Self { key, of: None, named: Some(callable) };
            }
            match partial(py) {
                Some(class) if callable.is_exact_instance(class) => {
                    match callable.try_getattr(pyo3::intern!(py, "func")) {
                        Ok(inner) => callable = inner,
                        Err(_) => break,
                    }
                }
                _ => break,
            }
        }
        Self::of_class(&callable)
    }

    /// That of a coroutine or a generator; of any other awaitable its class.
    pub fn of_coroutine(coroutine: &Bound<'py, PyAny>) -> Self {
        // SAFETY: the Bound holds the object, whose class is compared with CPython's static one.
        let name = if unsafe { ffi::PyCoro_CheckExact(coroutine.as_ptr()) } != 0 {
            pyo3::intern!(coroutine.py(), "cr_code")
        } else {
            return Self::of_class(coroutine);
        };
        coroutine.try_getattr(name).map_or_else(|_| Self::of_class(coroutine), Self::of_object)
    }

    /// The class of an object.
    pub fn of_class(object: &Bound<'py, PyAny>) -> Self {
        Self::of_object(object.get_type().into_any())
    }

    /// Its qualified name, with its module where the object has one.
    pub fn name(&self) -> String {
        let named = |object: &Bound<'py, PyAny>, name| {
            let text = object.try_getattr(name).ok()?.cast_into::<PyString>().ok()?;
            Some(text.to_string_lossy().into_owned())
        };
        match (&self.of, &self.named) {
            (Some(of), _) => match of.cast::<PyType>() {
                Ok(class) => class.fully_qualified_name().map_or_else(|_| "?".to_owned(), |name| name.to_string()),
                Err(_) => named(of, "co_qualname").unwrap_or_else(|| "?".to_owned()),
            },
            (None, Some(builtin)) => named(builtin, "__qualname__").unwrap_or_else(|| "?".to_owned()),
            (None, None) => "?".to_owned(),
        }
    }

    /// Where its source is: `file:line`.
    pub fn source(&self) -> Option<String> {
        let code = self.of.as_ref().filter(|of| of.is_exact_instance_of::<PyCode>())?;
        let file = code.try_getattr("co_filename").ok()?;
        let line = code.try_getattr("co_firstlineno").ok()?;
        Some(format!("{file}:{line}"))
    }
}

/// `Code::of_callable(callable).key`, found without a reference to anything. None: not so easily.
#[inline]
pub fn key_of_callable(callable: &Bound<'_, PyAny>) -> Option<usize> {
    if callable.is_exact_instance_of::<PyFunction>() {
        // SAFETY: a function, which the Bound holds, has a code object, whose address alone is taken.
        return Some(unsafe { ffi::PyFunction_GetCode(callable.as_ptr()) }.addr());
    }
    if is_method(callable) {
        // SAFETY: a bound method, which the Bound holds, has a function, and holds it for as long as it is looked at
        // here.
        let function = unsafe { Borrowed::from_ptr_or_opt(callable.py(), PyMethod_Function(callable.as_ptr())) }?;
        return if is_method(&function) { None } else { key_of_callable(&function) };
    }
    if callable.is_exact_instance_of::<PyCFunction>() {
        // SAFETY: a builtin function, which the Bound holds.
        let function = unsafe { ffi::PyCFunction_GetFunction(callable.as_ptr()) };
        return function.map(|function| (function as *const c_void).addr());
    }
    None
}

/// `Code::of_coroutine(coroutine).key`, in the same way.
#[inline]
pub fn key_of_coroutine(coroutine: &Bound<'_, PyAny>) -> Option<usize> {
    // SAFETY: the Bound holds the object, whose class is compared with CPython's static one.
    if cfg!(py_sys_config = "Py_DEBUG") || unsafe { ffi::PyCoro_CheckExact(coroutine.as_ptr()) } == 0 {
        return None;
    }
    // SAFETY: the Bound holds the coroutine, which has a generator's fields; CPython's own `cr_code` asks in the same
    // way. (Its debug build asserts that it is a generator.) The answer is a new reference. The coroutine has the code,
    // too, whose address alone is taken.
    unsafe {
        let code = PyGen_GetCode(coroutine.as_ptr());
        ffi::Py_XDECREF(code);
        Some(code.addr())
    }
}

fn is_method(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the Bound holds the object, whose class is compared with CPython's static one.
    unsafe { ffi::Py_IS_TYPE(object.as_ptr(), &raw mut PyMethod_Type) != 0 }
}

unsafe extern "C" {
    static mut PyMethod_Type: ffi::PyTypeObject;
}

/// `functools.partial`.
fn partial(py: Python<'_>) -> Option<&Bound<'_, PyAny>> {
    static PARTIAL: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();
    let find = || py.import("functools").and_then(|module| module.try_getattr("partial")).ok().map(Bound::unbind);
    PARTIAL.get_or_init(py, find).as_ref().map(|class| class.bind(py))
}
