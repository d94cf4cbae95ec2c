//! `__del__` for native classes: a last look at an object, as an object, before it goes.
//!
//! PyO3 drops the Rust value when the object is freed; the reports of asyncio ("exception was never retrieved") hand
//! the object itself to a handler, which may even keep it. That is what CPython's `tp_finalize` is for: the interpreter
//! calls it for objects in garbage cycles and for instances of Python subclasses; for instances of the class itself
//! its `tp_dealloc` must, so that is wrapped.

use pyo3::Borrowed;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;

use super::call;
use super::error::{self, PreserveError, unraisable};
use super::exit::outlast;
use super::refs::show;

/// A class's own deallocator, kept behind the wrapped one.
pub type Inner = PyOnceLock<ffi::destructor>;

/// A class with a finalizer.
pub trait Finalize: pyo3::PyClass<Frozen = True> + Sync {
    /// Whether the last look would do anything: asked at each deallocation.
    fn needs_finalizer(slf: &Bound<'_, Self>) -> bool;
    /// The last look. Errors are reported as unraisable.
    fn finalize(slf: &Bound<'_, Self>) -> PyResult<()>;
    /// Where the class's own deallocator is kept.
    fn inner_dealloc() -> &'static Inner;
}

unsafe extern "C" fn finalize<T: Finalize>(object: *mut ffi::PyObject) {
    outlast();
    let last_look = |py: Python<'_>| {
        let _preserved = PreserveError::new(py);
        // SAFETY: this is the finalizer of `T` and its subclasses only; the object lives for the length of the call.
        let object = unsafe { call::cast_into::<T>(Bound::from_borrowed_ptr(py, object)) };
        if let Err(raised) = error::catch_panic(|| T::finalize(&object)).and_then(|looked| looked) {
            unraisable(py, raised, Some(object.as_any()));
        }
    };
    // SAFETY: a finalizer is called with the GIL held, the last ones when the interpreter does not count as
    // initialized any more (`Python::attach` would panic then).
    unsafe { Python::attach_unchecked(last_look) };
}

unsafe extern "C" fn dealloc<T: Finalize>(object: *mut ffi::PyObject) {
    // SAFETY: a deallocator is called with the GIL held, with an object of the class whose count has fallen to zero
    // and whose Rust value is whole until `inner` runs. CPython's own protocol resurrects it for the finalizer and
    // marks it, so that the finalizer runs once.
    unsafe {
        let py = Python::assume_attached();
        let this = Borrowed::from_ptr(py, object);
        let this = call::cast::<T>(&this);
        if T::needs_finalizer(this) {
            outlast();
            // Whoever keeps it must find it tracked.
            show(this.as_any());
            if ffi::PyObject_CallFinalizerFromDealloc(object) < 0 {
                return;
            }
        }
        if let Some(inner) = T::inner_dealloc().get(py) {
            inner(object);
        }
    }
}

/// Give the class its finalizer; before it has instances or subclasses.
pub fn install<T: Finalize>(py: Python<'_>) {
    let class = T::type_object(py);
    let raw = class.as_type_ptr();
    // SAFETY: a heap type of ours without instances; the slots are set before anybody can see them used.
    unsafe {
        let Some(inner) = (*raw).tp_dealloc else { return };
        if T::inner_dealloc().set(py, inner).is_ok() {
            (*raw).tp_dealloc = Some(dealloc::<T>);
            (*raw).tp_finalize = Some(finalize::<T>);
            ffi::PyType_Modified(raw);
        }
    }
}
