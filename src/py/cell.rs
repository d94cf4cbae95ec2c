//! `GilCell` and `GilValue`: interior state of Python objects, guarded by the GIL.
//!
//! Any thread that holds the GIL may use it. No Python code may run inside `with` (a destructor counts): a callback,
//! a signal handler or a finalizer could come back to the same cell. The flag turns that mistake into a panic instead
//! of two mutable references.

use std::cell::{Cell, UnsafeCell};
use std::mem;

use pyo3::PyVisit;
use pyo3::prelude::*;

/// A value that is only touched with the GIL held.
#[derive(Debug, Default)]
pub struct GilCell<T> {
    busy: Cell<bool>,
    value: UnsafeCell<T>,
}

// SAFETY: every access to `busy` and `value` takes a `Python` token (or is a GC traversal, which the interpreter runs
// with the GIL held), and this crate refuses to build for an interpreter without a GIL: accesses never overlap in time.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub const fn new(value: T) -> Self {
        Self { busy: Cell::new(false), value: UnsafeCell::new(value) }
    }

    /// The value, for whoever has the cell to himself: a destructor.
    #[inline]
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Run `f` on the value. `f` must not run Python code, dropping a `Py<_>` included, unless something else (a stage)
    /// keeps everybody who could come back from the cell.
    ///
    /// # Panics
    /// When called from within itself.
    #[inline(always)]
    pub fn with<R>(&self, _py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        struct Release<'a>(&'a Cell<bool>);
        impl Drop for Release<'_> {
            #[inline]
            fn drop(&mut self) {
                self.0.set(false);
            }
        }
        assert!(!self.busy.replace(true), "a GilCell was used from within itself");
        let _release = Release(&self.busy);
        // SAFETY: the GIL is held (token) and the flag says that no other reference exists.
        f(unsafe { &mut *self.value.get() })
    }

    /// The value, of a cell that nobody else has.
    #[inline]
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    /// The old value, for the caller to drop after the cell is free again.
    #[inline]
    #[must_use = "dropping the old value may run Python code: say where"]
    pub fn replace(&self, py: Python<'_>, value: T) -> T {
        self.with(py, |old| mem::replace(old, value))
    }

    #[inline]
    pub fn take(&self, py: Python<'_>) -> T
    where
        T: Default,
    {
        self.with(py, mem::take)
    }

    /// For `__traverse__`, which has no token but a visitor, that says as much: None when the cell is in use (nothing
    /// is visited then, and what is not visited is not collected).
    pub fn peek_in_traverse<'a>(&'a self, _visit: &'a PyVisit<'_>) -> Option<&'a T> {
        // SAFETY: there is a visitor in traversals alone. The interpreter traverses with the GIL held and runs no code
        // meanwhile, and the flag says that no mutable reference exists.
        (!self.busy.get()).then(|| unsafe { &*self.value.get() })
    }
}

/// A small value that is copied in and out, and so needs no flag: nobody has a reference to it.
#[derive(Debug, Default)]
pub struct GilValue<T: Copy>(Cell<T>);

// SAFETY: every access takes a `Python` token, and this crate refuses to build for an interpreter without a GIL:
// accesses never overlap in time.
unsafe impl<T: Copy + Send> Sync for GilValue<T> {}

impl<T: Copy> GilValue<T> {
    pub const fn new(value: T) -> Self {
        Self(Cell::new(value))
    }

    #[inline(always)]
    pub fn get(&self, _py: Python<'_>) -> T {
        self.0.get()
    }

    #[inline(always)]
    pub fn set(&self, _py: Python<'_>, value: T) {
        self.0.set(value);
    }

    #[inline(always)]
    pub fn replace(&self, _py: Python<'_>, value: T) -> T {
        self.0.replace(value)
    }

    /// Run `f` on a copy of the value, which then is the value; so `f` must not come back here.
    #[inline(always)]
    pub fn update<R>(&self, _py: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.get();
        let result = f(&mut value);
        self.0.set(value);
        result
    }
}
