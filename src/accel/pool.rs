//! Instances that come and go by the hundred thousand: made and freed without PyO3's machinery, from a list of spare
//! ones.
//!
//! PyO3's own freelist takes a mutex at each end and its deallocator counts itself in and out of a thread-local. Here
//! an instance is memory from CPython's allocator with the Rust values written where PyO3 puts them (`layout`), and the
//! deallocator takes them out again. The first instance of each class is PyO3's; it shows the class's layout. A class
//! with a finalizer is installed here first (`py::finalize` then wraps what is installed).
//!
//! Plain path: every instance is PyO3's, and so is the deallocator, inside of the bound on how deep deallocators nest.

use std::ptr::NonNull;

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyType};

use super::layout::{Derived, Layout, Scratch, Values, layout_of};
use super::{Acceleration, Probed, expect, raised};
use crate::py::cell::GilCell;
use crate::py::exit::outlast;
use crate::py::{call, depth, error};

pub static POOL: Acceleration = Acceleration::new("pool");

/// A class whose instances are pooled. None of its values may have a destructor that matters: `release` is that.
pub trait Pooled: PyClass<Frozen = True> + Sync {
    /// The Rust values in an instance.
    type Values: Values<Self>;
    /// How many spare instances are kept in quiet times.
    const SPARE: usize;
    /// The class's pool.
    fn pool() -> &'static Pool<Self::Values, Self>;
    /// Let go of what an instance held; it may run Python code.
    fn release(values: Self::Values, py: Python<'_>);
    /// What else is installed with the class.
    fn install_slots(_class: &Bound<'_, PyType>) {}
}

/// What each pooled class has of its own: `has_pool!((Base, Class), Class)`, the values of an instance and the class.
macro_rules! has_pool {
    ($values:ty, $class:ty) => {
        type Values = $values;

        fn pool() -> &'static $crate::accel::pool::Pool<$values, $class> {
            static POOL: $crate::accel::pool::Pool<$values, $class> = $crate::accel::pool::Pool::new();
            &POOL
        }
    };
}
pub(crate) use has_pool;

/// What the first instance told.
struct Known<O> {
    class: NonNull<ffi::PyTypeObject>,
    layout: Layout<O>,
}

// SAFETY: the class is one of ours, which lives as long as the interpreter; it is followed with the GIL held only, by
// `create`, and on any thread.
unsafe impl<O: Send> Send for Known<O> {}
// SAFETY: nothing in it ever changes; the class behind it is the GIL's business, as said for Send.
unsafe impl<O: Sync> Sync for Known<O> {}

/// Memory of instances that are gone: it holds nothing.
struct Spare {
    list: Vec<NonNull<ffi::PyObject>>,
    /// How many ask for all to be kept (`keep_all`).
    keepers: usize,
}

// SAFETY: the memory is of instances that are gone, so that nobody else knows of it; a `GilCell` has it, which gives it
// to nobody without the GIL, and any thread may allocate and free there.
unsafe impl Send for Spare {}

/// The spare instances of one class.
pub struct Pool<V: Values<C>, C> {
    known: PyOnceLock<Known<V::Offsets>>,
    spare: GilCell<Spare>,
    /// PyO3's deallocator, behind ours.
    inner: PyOnceLock<ffi::destructor>,
    installed: PyOnceLock<()>,
}

impl<V: Values<C>, C> Pool<V, C> {
    pub const fn new() -> Self {
        Self {
            known: PyOnceLock::new(),
            spare: GilCell::new(Spare { list: Vec::new(), keepers: 0 }),
            inner: PyOnceLock::new(),
            installed: PyOnceLock::new(),
        }
    }
}

impl<V: Values<C>, C: PyClass> Pool<V, C> {
    /// From now on instances are made as this first one is laid out.
    fn learn(&self, first: &Bound<'_, C>, layout: Layout<V::Offsets>) {
        // SAFETY: the Bound `first` holds the object, and an object's class is never null.
        let class = unsafe { NonNull::new_unchecked(ffi::Py_TYPE(first.as_ptr())) };
        self.known.get_or_init(first.py(), || Known { class, layout });
    }
}

/// A new instance. `make` is called when there is memory, so that the values are written where they stay.
///
/// # Errors
/// MemoryError.
#[inline(always)]
pub fn create<T: Pooled>(py: Python<'_>, make: impl FnOnce() -> T::Values) -> PyResult<Bound<'_, T>> {
    let (object, tracked) = allocate(py, make)?;
    if !tracked {
        // SAFETY: `allocate` has made the object, whole, and says that it is not tracked; `Pooled` classes have
        // `__traverse__`.
        unsafe { ffi::PyObject_GC_Track(object.as_ptr().cast()) };
    }
    Ok(object)
}

/// An instance, and whether the collector sees it.
#[inline(always)]
pub(super) fn allocate<T: Pooled>(py: Python<'_>, make: impl FnOnce() -> T::Values) -> PyResult<(Bound<'_, T>, bool)> {
    let pool = T::pool();
    let Some(known) = pool.known.get(py) else { return Ok((allocate_plainly(py, make())?, true)) };
    let spare = pool.spare.with(py, |spare| spare.list.pop());
    // SAFETY: memory of the class's size from its allocator, whole once the values are written: PyO3 keeps nothing else
    // in an instance (`layout_of` has seen to that) but for the extras, which start empty. The object goes to nobody
    // before.
    unsafe {
        let object = match spare {
            Some(spare) => ffi::PyObject_Init(spare.as_ptr(), known.class.as_ptr()),
            None => {
                let made = ffi::PyObject_GC_New::<ffi::PyObject>(known.class.as_ptr());
                if made.is_null() {
                    return Err(error::fetch(py));
                }
                known.layout.extras.write_none(made);
                made
            }
        };
        make().write(object, known.layout.offsets);
        Ok((call::cast_into(Bound::from_owned_ptr(py, object)), false))
    }
}

/// By PyO3. Where instances are pooled, the first one shows how.
#[cold]
fn allocate_plainly<T: Pooled>(py: Python<'_>, values: T::Values) -> PyResult<Bound<'_, T>> {
    if !POOL.is_on() || T::pool().inner.get(py).is_none() {
        return values.instance(py);
    }
    let object = values.instance(py)?;
    match layout_of::<T::Values, T>(&object) {
        Ok(layout) => T::pool().learn(&object, layout),
        Err(why) => POOL.turn_off(py, why),
    }
    Ok(object)
}

unsafe extern "C" fn dealloc<T: Pooled>(object: *mut ffi::PyObject) {
    // SAFETY: a deallocator is called with the GIL held, with an object whose count has fallen to zero. That of a
    // Python subclass has tracked it again for ours, and does nothing with it afterwards.
    unsafe {
        ffi::PyObject_GC_UnTrack(object.cast());
        depth::deallocate(object, dealloc::<T>, free_apart::<T>, |object| free::<T>(object));
    }
}

/// # Safety
/// The GIL is held. The object, of a class whose deallocator is `dealloc::<T>`, has a count of zero, and the collector
/// does not see it.
#[inline(always)]
unsafe fn free<T: Pooled>(object: *mut ffi::PyObject) {
    let pool = T::pool();
    // SAFETY: the caller promises that the GIL is held and that nobody has the object any more. `create` has made an
    // object of exactly `T`, with the values where it wrote them, and they are read once, here.
    unsafe {
        let py = Python::assume_attached();
        let class = ffi::Py_TYPE(object);
        // While the interpreter ends only PyO3's own deallocator makes `Python::attach` work, for whatever `release`
        // would run.
        let pooled = |known: &&Known<_>| known.class.as_ptr() == class && ffi::Py_IsInitialized() != 0;
        let Some(known) = pool.known.get(py).filter(pooled) else {
            // Or a Python subclass.
            if let Some(inner) = pool.inner.get(py) {
                outlast();
                inner(object);
            }
            return;
        };
        known.layout.extras.clear(object);
        // Nothing unwinds into CPython.
        error::unraisable_panic(py, || T::release(T::Values::read(object, known.layout.offsets), py));
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

/// # Safety
/// As for `free`.
#[inline(never)]
unsafe fn free_apart<T: Pooled>(object: *mut ffi::PyObject) {
    // SAFETY: the caller promises what `free` asks for.
    unsafe { free::<T>(object) };
}

/// Whether `release` is called when the object is freed, by whom ever it was made.
#[inline]
pub fn is_pooled<T: Pooled>(object: &Bound<'_, T>) -> bool {
    let known = T::pool().known.get(object.py());
    // SAFETY: the Bound `object` holds the object, whose class is only compared.
    known.is_some_and(|known| known.class.as_ptr() == unsafe { ffi::Py_TYPE(object.as_ptr()) })
}

/// From now on every instance that goes is kept, until `keep_few`: what makes them by the hundred thousand and lets
/// them go again would spend a fifth of its time on the kernel's pages.
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

/// How many spare instances there are.
pub fn spares<T: Pooled>(py: Python<'_>) -> usize {
    T::pool().spare.with(py, |spare| spare.list.len())
}

/// Whether the class has them.
#[inline(always)]
pub fn is_installed<T: Pooled>(py: Python<'_>) -> bool {
    T::pool().installed.get(py).is_some()
}

/// Give the class its deallocator and its slots; before it has instances or subclasses, and when the accelerations are
/// settled.
#[cold]
pub fn install<T: Pooled>(py: Python<'_>) {
    if T::pool().installed.set(py, ()).is_err() {
        return;
    }
    let class = T::type_object(py);
    T::install_slots(&class);
    // Where they are not pooled, for the bound on how deep deallocators nest.
    take_over::<T>(py);
}

/// Put our deallocator before PyO3's.
fn take_over<T: Pooled>(py: Python<'_>) {
    let raw = T::type_object(py).as_type_ptr();
    // SAFETY: a heap type of ours without instances; the slot is set before anybody can see it used.
    unsafe {
        if let Some(inner) = (*raw).tp_dealloc
            && T::pool().inner.set(py, inner).is_ok()
        {
            (*raw).tp_dealloc = Some(dealloc::<T>);
            ffi::PyType_Modified(raw);
        }
    }
}

// ---- the probe: instances of the scratch classes go round ----

impl Pooled for Scratch {
    has_pool!((Scratch,), Scratch);
    const SPARE: usize = 1;

    fn release((scratch,): (Self,), py: Python<'_>) {
        scratch.held.drop_ref(py);
    }
}

impl Pooled for Derived {
    has_pool!((Scratch, Derived), Derived);
    const SPARE: usize = 1;

    fn release((scratch, _): (Scratch, Self), py: Python<'_>) {
        scratch.held.drop_ref(py);
    }
}

pub(super) fn probe(py: Python<'_>) -> Probed {
    expect(super::layout::LAYOUT.is_on(), "the layout of instances is not known")?;
    goes_round::<Scratch>(py, |held| (Scratch { held, number: 1 },), |object| object.get().number == 1)?;
    let make = |held| (Scratch { held, number: 2 }, Derived { flag: 3 });
    goes_round::<Derived>(py, make, |object| object.as_super().get().number == 2 && object.get().flag == 3)
}

/// An instance is made by PyO3, then from the pool's memory, then from that of the one before; each holds what it was
/// given, and lets go of it once when it goes, as do its weak references and its class.
fn goes_round<T: Pooled>(
    py: Python<'_>,
    make: impl Fn(Py<PyAny>) -> T::Values,
    is_right: impl Fn(&Bound<'_, T>) -> bool,
) -> Probed {
    take_over::<T>(py);
    let class = T::type_object(py);
    let held = PyList::empty(py).into_any();
    // SAFETY: the Bound `object` holds the object, whose count is read with the GIL held.
    let count = |object: &Bound<'_, PyAny>| unsafe { ffi::Py_REFCNT(object.as_ptr()) };
    let of_class = count(class.as_any());
    let mut before = std::ptr::null_mut();
    for round in 0..3 {
        let values = make(held.clone().unbind());
        let object = if round == 0 { learn::<T>(py, values)? } else { allocate(py, || values).map_err(raised)?.0 };
        expect(is_right(&object), "an instance has not the values that it was given")?;
        expect(round < 2 || object.as_ptr() == before, "the memory of an instance is not used again")?;
        before = object.as_ptr();
        let reference = pyo3::types::PyWeakrefReference::new(object.as_any()).map_err(raised)?;
        expect(pyo3::types::PyWeakrefMethods::upgrade(&reference).is_some(), "a weak reference finds no instance")?;
        drop(object);
        expect(pyo3::types::PyWeakrefMethods::upgrade(&reference).is_none(), "a weak reference outlives its instance")?;
        expect(count(&held) == 1, "an instance that goes keeps what it held, or lets go of it twice")?;
        expect(count(class.as_any()) == of_class, "an instance that goes keeps its class, or lets go of it twice")?;
    }
    Ok(())
}

/// The first instance of a scratch class.
fn learn<T: Pooled>(py: Python<'_>, values: T::Values) -> Result<Bound<'_, T>, super::Why> {
    let object = values.instance(py).map_err(raised)?;
    T::pool().learn(&object, layout_of::<T::Values, T>(&object)?);
    Ok(object)
}
