//! Where PyO3 puts the Rust values of an instance, so that `pool` can write them and take them out again.
//!
//! PyO3 promises no layout. It is asked instead: the address of a value in an instance that PyO3 made, less the
//! instance's own, is its place in all of them. That PyO3 keeps *nothing else* in an instance of a frozen class is seen
//! from the sizes: the object's head, the values, the list of weak references and the dictionary fill it without a gap.
//! A class of which that is not true is not pooled.

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::impl_::pyclass::PyClassBaseType;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::pyclass_init::PyClassInitializer;
use pyo3::types::PyType;

use super::{Acceleration, Probed, Why, expect, raised};

pub static LAYOUT: Acceleration = Acceleration::new("layout");

/// The Rust values in an instance of `C`: its own, after that of its native base class.
pub trait Values<C>: Sized {
    /// Where they are, in bytes from the object's address.
    type Offsets: Copy + Send + Sync;
    /// An instance made by PyO3.
    ///
    /// # Errors
    /// MemoryError.
    fn instance(self, py: Python<'_>) -> PyResult<Bound<'_, C>>;
    fn offsets(object: &Bound<'_, C>) -> Self::Offsets;
    /// The place and the size of each.
    fn places(at: Self::Offsets) -> Vec<(usize, usize)>;
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

impl<C> Values<C> for (C,)
where
    C: PyClass<Frozen = True> + Sync + Into<PyClassInitializer<C>>,
{
    type Offsets = usize;

    fn instance(self, py: Python<'_>) -> PyResult<Bound<'_, C>> {
        Bound::new(py, self.0)
    }

    fn offsets(object: &Bound<'_, C>) -> usize {
        offset_of(object.as_ptr(), object.get())
    }

    fn places(at: usize) -> Vec<(usize, usize)> {
        vec![(at, size_of::<C>())]
    }

    #[inline]
    unsafe fn write(self, object: *mut ffi::PyObject, at: usize) {
        // SAFETY: the caller promises the memory of an instance with nothing of value in it; `at` is where PyO3 puts
        // the value.
        unsafe { object.byte_add(at).cast::<C>().write(self.0) }
    }

    #[inline]
    unsafe fn read(object: *mut ffi::PyObject, at: usize) -> Self {
        // SAFETY: the caller promises an instance whose value nobody uses again, so it is moved out once; `at` is where
        // PyO3 puts it.
        unsafe { (object.byte_add(at).cast::<C>().read(),) }
    }
}

impl<B, C> Values<C> for (B, C)
where
    B: PyClass<Frozen = True>
        + PyClassBaseType<Initializer = PyClassInitializer<B>>
        + Into<PyClassInitializer<B>>
        + Sync,
    C: PyClass<Frozen = True, BaseType = B> + Sync,
{
    type Offsets = (usize, usize);

    fn instance(self, py: Python<'_>) -> PyResult<Bound<'_, C>> {
        Bound::new(py, self.0.into().add_subclass(self.1))
    }

    fn offsets(object: &Bound<'_, C>) -> (usize, usize) {
        (offset_of(object.as_ptr(), object.as_super().get()), offset_of(object.as_ptr(), object.get()))
    }

    fn places(at: (usize, usize)) -> Vec<(usize, usize)> {
        vec![(at.0, size_of::<B>()), (at.1, size_of::<C>())]
    }

    #[inline]
    unsafe fn write(self, object: *mut ffi::PyObject, at: (usize, usize)) {
        // SAFETY: the caller promises the memory of an instance with nothing of value in it; `at` is where PyO3 puts
        // the values.
        unsafe {
            object.byte_add(at.0).cast::<B>().write(self.0);
            object.byte_add(at.1).cast::<C>().write(self.1);
        }
    }

    #[inline]
    unsafe fn read(object: *mut ffi::PyObject, at: (usize, usize)) -> Self {
        // SAFETY: the caller promises an instance whose values nobody uses again, so they are moved out once; `at` is
        // where PyO3 puts them.
        unsafe { (object.byte_add(at.0).cast::<B>().read(), object.byte_add(at.1).cast::<C>().read()) }
    }
}

/// Where an instance has its list of weak references and its dictionary, or NULL for either; 0: it has no such place.
#[derive(Clone, Copy)]
pub struct Extras {
    weak_references: usize,
    dict: usize,
}

impl Extras {
    /// None for a class whose instances have them elsewhere.
    fn of(class: &Bound<'_, PyType>) -> Option<Self> {
        // SAFETY: the Bound holds the class, of which two numbers are read.
        let (weak_references, dict) =
            unsafe { ((*class.as_type_ptr()).tp_weaklistoffset, (*class.as_type_ptr()).tp_dictoffset) };
        Some(Self { weak_references: weak_references.try_into().ok()?, dict: dict.try_into().ok()? })
    }

    /// # Safety
    /// `object` is the memory of an instance of the class, and `offset` one of the places.
    #[inline]
    unsafe fn at<'a>(object: *mut ffi::PyObject, offset: usize) -> Option<&'a mut *mut ffi::PyObject> {
        // SAFETY: the caller promises that `offset` is a place in this instance's memory, where its class has a pointer
        // to an object.
        (offset != 0).then(|| unsafe { &mut *object.byte_add(offset).cast::<*mut ffi::PyObject>() })
    }

    /// # Safety
    /// `object` is new memory for an instance of the class.
    #[inline]
    pub unsafe fn write_none(self, object: *mut ffi::PyObject) {
        for offset in [self.weak_references, self.dict] {
            // SAFETY: the caller promises new memory for an instance; the offsets are those of its class.
            if let Some(place) = unsafe { Self::at(object, offset) } {
                *place = std::ptr::null_mut();
            }
        }
    }

    /// # Safety
    /// `object` is an instance of the class that is going away.
    #[inline]
    pub unsafe fn clear(self, object: *mut ffi::PyObject) {
        // SAFETY: the caller promises an instance that is going away; the offsets are those of its class, and what is
        // at them are its weak references, which CPython clears, and a reference to its dictionary, which is taken out
        // once.
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

/// What the instances of a class are made of.
#[derive(Clone, Copy)]
pub struct Layout<O> {
    pub extras: Extras,
    pub offsets: O,
}

/// The layout of `object`, an instance that PyO3 made of exactly its class.
///
/// # Errors
/// Why it cannot be relied on.
pub fn layout_of<V: Values<C>, C: PyClass>(object: &Bound<'_, C>) -> Result<Layout<V::Offsets>, Why> {
    let class = object.as_any().get_type();
    let elsewhere = || Why::from(format!("{} has its dictionary or weak references elsewhere", C::NAME));
    let extras = Extras::of(&class).ok_or_else(elsewhere)?;
    let offsets = V::offsets(object);
    let word = size_of::<usize>();
    let mut places = V::places(offsets);
    places.extend([extras.weak_references, extras.dict].into_iter().filter(|&at| at != 0).map(|at| (at, word)));
    places.retain(|&(_, size)| size > 0);
    places.sort_unstable();
    let filled = places.iter().try_fold(size_of::<ffi::PyObject>(), |end, &(at, size)| {
        (at == end.next_multiple_of(word)).then_some(at + size)
    });
    // SAFETY: the Bound holds the class, of which a number is read.
    let size = unsafe { (*class.as_type_ptr()).tp_basicsize };
    if filled.is_some_and(|end| usize::try_from(size) == Ok(end.next_multiple_of(word))) {
        Ok(Layout { extras, offsets })
    } else {
        Err(format!("an instance of {} is {size} bytes and has its parts at {places:?}", C::NAME).into())
    }
}

/// A class of the shape that ours have.
#[pyclass(frozen, subclass, weakref, dict, module = "pyloop._native")]
pub(super) struct Scratch {
    pub held: Py<PyAny>,
    pub number: u64,
}

/// And one that has a native base class.
#[pyclass(frozen, extends = Scratch, module = "pyloop._native")]
pub(super) struct Derived {
    pub flag: u8,
}

pub(super) fn probe(py: Python<'_>) -> Probed {
    let scratch = || Scratch { held: py.None(), number: 0x0123_4567_89ab_cdef };
    let object = (scratch(),).instance(py).map_err(raised)?;
    let at = layout_of::<(Scratch,), Scratch>(&object)?.offsets;
    // SAFETY: the Bound `object` holds the instance, within which `at` is: that `layout_of` has seen. Only a number is
    // looked at, which any bytes are.
    let number = unsafe { (*object.as_ptr().byte_add(at).cast::<Scratch>()).number };
    expect(number == object.get().number, "a value is not where its address says")?;
    let object = (scratch(), Derived { flag: 7 }).instance(py).map_err(raised)?;
    let at = layout_of::<(Scratch, Derived), Derived>(&object)?.offsets;
    // SAFETY: the Bound `object` holds the instance, within which `at` is: that `layout_of` has seen. Only a number is
    // looked at, which any byte is.
    let flag = unsafe { (*object.as_ptr().byte_add(at.1).cast::<Derived>()).flag };
    expect(flag == 7, "the value of a derived class is not where its address says")
}
