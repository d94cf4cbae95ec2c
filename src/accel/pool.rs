//! Instances that come and go by the hundred thousand: made and freed without PyO3's machinery, from a list of spare
//! ones.
//!
//! PyO3's own freelist takes a mutex at each end and its deallocator counts itself in and out of a thread-local. Here
//! an instance is memory from CPython's allocator with the Rust values written where PyO3 puts them (asked of the first
//! instance, which PyO3 makes), and the deallocator takes them out again. Instances are made **untracked**: whoever
//! makes one says when the collector may look at it (`accel::collector`). A class with a finalizer is installed here first
//! (`py::finalize` then wraps what is installed).

use std::ptr::NonNull;

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::collector;
use crate::py::cell::GilCell;

/// A class whose instances are pooled. None of its values may have a destructor that matters: `release` is that.
pub trait Pooled: PyClass<Frozen = True> + Sync {
    /// The Rust values in an instance.
    type Values: Values<Self>;
    /// How many spare instances are kept in quiet times.
    const SPARE: usize;
    /// The class's pool.
    fn pool() -> &'static Pool<Self::Values, Self>;
    /// The first instance, made by PyO3.
    ///
    /// # Errors
    /// MemoryError.
    fn make(values: Self::Values, py: Python<'_>) -> PyResult<Bound<'_, Self>>;
    /// Let go of what an instance held; it may run Python code.
    fn release(values: Self::Values, py: Python<'_>);
    /// What else is installed with the class.
    fn install_slots(_class: &Bound<'_, PyType>) {}
}

/// The Rust values in an instance of `C`: its own, after that of its native base class.
pub trait Values<C>: Sized {
    /// Where they are, in bytes from the object's address.
    type Offsets: Copy + Send + Sync;
    fn offsets(object: &Bound<'_, C>) -> Self::Offsets;
    /// # Safety
    /// `object` is the memory of an instance; nothing of value is overwritten.
    unsafe fn write(self, object: *mut ffi::PyObject, at: Self::Offsets);
    /// # Safety
    /// `object` is an instance whose values are never used again.
    unsafe fn read(object: *mut ffi::PyObject, at: Self::Offsets) -> Self;
}

fn offset_of<T>(object: *mut ffi::PyObject, value: &T) -> usize {
    std::ptr::from_ref(value) as usize - object as usize
}

impl<C: PyClass<Frozen = True> + Sync> Values<C> for (C,) {
    type Offsets = usize;

    fn offsets(object: &Bound<'_, C>) -> usize {
        offset_of(object.as_ptr(), object.get())
    }

    #[inline]
    unsafe fn write(self, object: *mut ffi::PyObject, at: usize) {
        // SAFETY: the caller's word, and `at` is where PyO3 puts the value.
        unsafe { object.byte_add(at).cast::<C>().write(self.0) }
    }

    #[inline]
    unsafe fn read(object: *mut ffi::PyObject, at: usize) -> Self {
        // SAFETY: as in `write`.
        unsafe { (object.byte_add(at).cast::<C>().read(),) }
    }
}

impl<B, C> Values<C> for (B, C)
where
    B: PyClass<Frozen = True> + Sync,
    C: PyClass<Frozen = True, BaseType = B> + Sync,
{
    type Offsets = (usize, usize);

    fn offsets(object: &Bound<'_, C>) -> (usize, usize) {
        (offset_of(object.as_ptr(), object.as_super().get()), offset_of(object.as_ptr(), object.get()))
    }

    #[inline]
    unsafe fn write(self, object: *mut ffi::PyObject, at: (usize, usize)) {
        // SAFETY: the caller's word, and `at` is where PyO3 puts the values.
        unsafe {
            object.byte_add(at.0).cast::<B>().write(self.0);
            object.byte_add(at.1).cast::<C>().write(self.1);
        }
    }

    #[inline]
    unsafe fn read(object: *mut ffi::PyObject, at: (usize, usize)) -> Self {
        // SAFETY: as in `write`.
        unsafe { (object.byte_add(at.0).cast::<B>().read(), object.byte_add(at.1).cast::<C>().read()) }
    }
}

/// What the first instance told.
struct Known<O> {
    class: NonNull<ffi::PyTypeObject>,
    extras: Extras,
    offsets: O,
}

/// Where an instance has its list of weak references and its dictionary, or NULL for either; 0: it has no such place.
#[derive(Clone, Copy)]
struct Extras {
    weak_references: usize,
    dict: usize,
}

impl Extras {
    /// None for a class whose instances have them elsewhere.
    fn of(class: &Bound<'_, PyType>) -> Option<Self> {
        // SAFETY: a live class.
        let (weak_references, dict) =
            unsafe { ((*class.as_type_ptr()).tp_weaklistoffset, (*class.as_type_ptr()).tp_dictoffset) };
        Some(Self { weak_references: weak_references.try_into().ok()?, dict: dict.try_into().ok()? })
    }

    /// # Safety
    /// `object` is the memory of an instance of the class, and `offset` one of the places.
    #[inline]
    unsafe fn at<'a>(object: *mut ffi::PyObject, offset: usize) -> Option<&'a mut *mut ffi::PyObject> {
        // SAFETY: the caller's word.
        (offset != 0).then(|| unsafe { &mut *object.byte_add(offset).cast::<*mut ffi::PyObject>() })
    }

    /// # Safety
    /// `object` is new memory for an instance of the class.
    #[inline]
    unsafe fn write_none(self, object: *mut ffi::PyObject) {
        for offset in [self.weak_references, self.dict] {
            // SAFETY: the caller's word.
            if let Some(place) = unsafe { Self::at(object, offset) } {
                *place = std::ptr::null_mut();
            }
        }
    }

    /// # Safety
    /// `object` is an instance of the class that is going away.
    #[inline]
    unsafe fn clear(self, object: *mut ffi::PyObject) {
        // SAFETY: the caller's word.
        unsafe {
            if Self::at(object, self.weak_references).is_some_and(|list| !list.is_null()) {
                ffi::PyObject_ClearWeakRefs(object);
            }
            if let Some(dict) = Self::at(object, self.dict) {
                ffi::Py_XDECREF(std::mem::replace(dict, std::ptr::null_mut()));
            }
        }
    }
}

// SAFETY: the address of a class of ours, which lives as long as the interpreter.
unsafe impl<O: Send> Send for Known<O> {}
// SAFETY: as for Send; nothing in it changes.
unsafe impl<O: Sync> Sync for Known<O> {}

/// Memory of instances that are gone: it holds nothing.
struct Spare {
    list: Vec<NonNull<ffi::PyObject>>,
    /// How many ask for all to be kept (`keep_all`).
    keepers: usize,
}

// SAFETY: memory that nobody else knows of; it is used with the GIL held.
unsafe impl Send for Spare {}

/// The spare instances of one class.
pub struct Pool<V: Values<C>, C> {
    known: PyOnceLock<Known<V::Offsets>>,
    spare: GilCell<Spare>,
    inner: PyOnceLock<ffi::destructor>,
}

impl<V: Values<C>, C> Pool<V, C> {
    pub const fn new() -> Self {
        Self {
            known: PyOnceLock::new(),
            spare: GilCell::new(Spare { list: Vec::new(), keepers: 0 }),
            inner: PyOnceLock::new(),
        }
    }
}

/// A new instance, untracked. `make` is called when there is memory, so that the values are written where they stay.
///
/// # Errors
/// MemoryError.
#[inline(always)]
pub fn create<T: Pooled>(py: Python<'_>, make: impl FnOnce() -> T::Values) -> PyResult<Bound<'_, T>> {
    let pool = T::pool();
    let Some(known) = pool.known.get(py) else { return create_first(py, make()) };
    let spare = pool.spare.with(py, |spare| spare.list.pop());
    // SAFETY: memory of the class's size from its allocator, whole once the values are written: PyO3 keeps nothing else
    // in an instance of a frozen class that may go to any thread, but for the extras, which start empty. The object
    // goes to nobody before.
    unsafe {
        let object = match spare {
            Some(spare) => ffi::PyObject_Init(spare.as_ptr(), known.class.as_ptr()),
            None => {
                let made = ffi::PyObject_GC_New::<ffi::PyObject>(known.class.as_ptr());
                if made.is_null() {
                    return Err(PyErr::fetch(py));
                }
                known.extras.write_none(made);
                made
            }
        };
        make().write(object, known.offsets);
        Ok(Bound::from_owned_ptr(py, object).cast_into_unchecked())
    }
}

#[cold]
fn create_first<T: Pooled>(py: Python<'_>, values: T::Values) -> PyResult<Bound<'_, T>> {
    let object = T::make(values, py)?;
    collector::untrack(object.as_any());
    let class = T::type_object(py);
    if let (Some(extras), Some(class)) = (Extras::of(&class), NonNull::new(class.as_type_ptr())) {
        let offsets = T::Values::offsets(&object);
        T::pool().known.get_or_init(py, || Known { class, extras, offsets });
    }
    Ok(object)
}

unsafe extern "C" fn dealloc<T: Pooled>(object: *mut ffi::PyObject) {
    let pool = T::pool();
    // SAFETY: a deallocator is called with the GIL held, with an object whose count has fallen to zero; one of exactly
    // `T` has been made by `create`, with the values where it wrote them. They are read once, and nobody has the object
    // any more when `release` runs.
    unsafe {
        let py = Python::assume_attached();
        let class = ffi::Py_TYPE(object);
        // While the interpreter ends only PyO3's own deallocator makes `Python::attach` work, for whatever `release`
        // would run.
        let pooled = |known: &&Known<_>| known.class.as_ptr() == class && ffi::Py_IsInitialized() != 0;
        let Some(known) = pool.known.get(py).filter(pooled) else {
            // Or a Python subclass.
            if let Some(inner) = pool.inner.get(py) {
                inner(object);
            }
            return;
        };
        ffi::PyObject_GC_UnTrack(object.cast());
        known.extras.clear(object);
        T::release(T::Values::read(object, known.offsets), py);
        // CPython notes with the memory that the finalizer was called.
        let finalized = (*class).tp_finalize.is_some() && ffi::PyObject_GC_IsFinalized(object) != 0;
        let kept = pool.spare.with(py, |spare| {
            let room = !finalized && (spare.keepers > 0 || spare.list.len() < T::SPARE);
            if room && let Some(object) = NonNull::new(object) {
                spare.list.push(object);
            }
            room
        });
        if !kept {
            ffi::PyObject_GC_Del(object.cast());
        }
        // An instance has a share of its class.
        ffi::Py_DECREF(class.cast());
    }
}

/// Whether `release` is called when the object is freed, by whom ever it was made.
#[inline]
pub fn is_pooled<T: Pooled>(object: &Bound<'_, T>) -> bool {
    let known = T::pool().known.get(object.py());
    // SAFETY: a live object.
    known.is_some_and(|known| known.class.as_ptr() == unsafe { ffi::Py_TYPE(object.as_ptr()) })
}

/// From now on every instance that goes is kept, until `keep_few`: what makes them by the hundred thousand and lets them
/// go again would spend a fifth of its time on the kernel's pages.
pub fn keep_all<T: Pooled>(py: Python<'_>) {
    T::pool().spare.with(py, |spare| spare.keepers += 1);
}

/// The end of a `keep_all`.
pub fn keep_few<T: Pooled>(py: Python<'_>) {
    T::pool().spare.with(py, |spare| spare.keepers = spare.keepers.saturating_sub(1));
    trim::<T>(py);
}

/// Give the memory of all but `SPARE` instances back.
#[inline]
pub fn trim<T: Pooled>(py: Python<'_>) {
    let many = T::pool().spare.with(py, |spare| spare.list.len() > T::SPARE);
    if many {
        let gone = T::pool().spare.with(py, |spare| {
            let gone = spare.list.split_off(T::SPARE);
            spare.list.shrink_to_fit();
            gone
        });
        for object in gone {
            // SAFETY: memory of an instance that is gone, from the collector's allocator.
            unsafe { ffi::PyObject_GC_Del(object.as_ptr().cast()) };
        }
    }
}

/// As `create`, for a class that no module installs: the first call does.
///
/// # Errors
/// MemoryError.
#[inline(always)]
pub fn create_installed<T: Pooled>(py: Python<'_>, make: impl FnOnce() -> T::Values) -> PyResult<Bound<'_, T>> {
    if T::pool().inner.get(py).is_none() {
        install::<T>(py);
    }
    create(py, make)
}

/// Give the class its deallocator; before it has instances or subclasses.
#[cold]
pub fn install<T: Pooled>(py: Python<'_>) {
    let class = T::type_object(py);
    let raw = class.as_type_ptr();
    // SAFETY: a heap type of ours without instances; the slot is set before anybody can see it used.
    unsafe {
        let Some(inner) = (*raw).tp_dealloc else { return };
        if T::pool().inner.set(py, inner).is_ok() {
            (*raw).tp_dealloc = Some(dealloc::<T>);
            ffi::PyType_Modified(raw);
            T::install_slots(&class);
        }
    }
}
