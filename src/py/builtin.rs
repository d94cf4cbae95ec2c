//! Methods of builtin classes that are called without being looked up.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyType};

use super::answer::owned;
use super::call::{self, Object};

/// A method without arguments that one class has from a builtin one.
#[derive(Debug)]
pub struct NoArgs {
    class: Py<PyType>,
    function: ffi::PyCFunction,
}

impl NoArgs {
    /// The method `name` of `native` for instances of `class`, which is derived from it. None: `native` or the method
    /// is not what can be called like this.
    ///
    /// # Errors
    /// AttributeError: there is no such method; what `native.__new__` raises.
    pub fn find(class: &Bound<'_, PyType>, native: &Bound<'_, PyType>, name: &str) -> PyResult<Option<Self>> {
        if !call::is_immutable(native) || !class.is_subclass(native)? {
            return Ok(None);
        }
        // A method that is bound tells its function. The instance is only there for that.
        let bound = native.try_call_method("__new__", (native,))?.try_getattr(name)?;
        if !bound.is_exact_instance_of::<PyCFunction>() {
            return Ok(None);
        }
        // SAFETY: it is a builtin function, as was looked at; the Bound holds it for the calls, and the GIL.
        let (function, flags) =
            unsafe { (ffi::PyCFunction_GetFunction(bound.as_ptr()), ffi::PyCFunction_GetFlags(bound.as_ptr())) };
        let function = function.filter(|_| flags == ffi::METH_NOARGS);
        Ok(function.map(|function| Self { class: class.clone().unbind(), function }))
    }

    /// Call it; None when the object is not exactly of the class.
    #[inline]
    pub fn call<'py>(&self, object: &Bound<'py, PyAny>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let py = object.py();
        // SAFETY: the object is an instance of `class`, and so of the builtin class that `find` has the function from:
        // other bases are given to a class only if its instances stay what they are in memory. The function takes no
        // arguments, as `find` has seen. The Bound holds the object for the call, and the GIL.
        object
            .is_exact_instance(self.class.bind(py))
            .then(|| unsafe { owned(py, (self.function)(object.as_ptr(), ptr::null_mut())) })
    }
}
