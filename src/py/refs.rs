//! Who else has an object, and showing one to the cycle collector.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

/// Whether anybody but the caller holds it.
#[inline]
pub fn is_shared(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the Bound `object` holds the object; the GIL is held, so that the count stands still.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) > 1 }
}

/// A reference that keeps nothing alive, where the object's class has weak references; else a plain one.
///
/// For what Rust holds where the cycle collector cannot look: an event loop, say, which nobody else has any more and
/// which runs for nobody.
#[derive(Debug)]
pub enum WeakRef {
    Weak(Py<PyWeakrefReference>),
    Strong(Py<PyAny>),
}

impl WeakRef {
    pub fn of(object: &Bound<'_, PyAny>) -> Self {
        // The error is that there are none.
        match PyWeakrefReference::new(object) {
            Ok(weak) => Self::Weak(weak.unbind()),
            Err(_) => Self::Strong(object.clone().unbind()),
        }
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Weak(weak) => Self::Weak(weak.clone_ref(py)),
            Self::Strong(object) => Self::Strong(object.clone_ref(py)),
        }
    }

    /// Whether it was made from the other, or from the same object.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Weak(this), Self::Weak(other)) => this.is(other),
            (Self::Strong(this), Self::Strong(other)) => this.is(other),
            _ => false,
        }
    }

    /// The object, while somebody has it.
    pub fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self {
            Self::Weak(weak) => weak.bind(py).upgrade(),
            Self::Strong(object) => Some(object.bind(py).clone()),
        }
    }
}

/// Show an object to the cycle collector. Nothing happens when it is in its sight.
#[inline]
pub fn show(object: &Bound<'_, PyAny>) {
    // SAFETY: the Bound `object` holds the object, which is whole: PyO3 or `pool` has made it. The callers' classes
    // have `__traverse__`, and that it is not tracked is asked first.
    unsafe {
        if ffi::PyObject_GC_IsTracked(object.as_ptr()) == 0 {
            ffi::PyObject_GC_Track(object.as_ptr().cast());
        }
    }
}
