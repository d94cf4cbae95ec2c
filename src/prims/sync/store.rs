//! `Store`: Python objects on their way through a channel, where the cycle collector sees them.
//!
//! Nobody can look into a channel of tokio's. So an object that may be part of a cycle stays in the store of its
//! channel, and a `Stored` travels in its place. Whoever alone can come by the objects shows them to the collector: the
//! receiver of a queue, the `Kept` that all readers of a watch or a broadcast hold.
//!
//! The collector looks twice: an object that left the store between the two looks would be taken for garbage. So
//! nothing moves without the GIL, which the collector has. That holds for Python's ends of a channel; Rust code that is
//! given tokio's may move what it likes, so from then on the store is opaque, for good: what is in it counts as held by
//! somebody whom the collector does not know.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};

use crate::py::attach::attach_anywhere;
use crate::py::cell::GilCell;
use crate::py::whole;

/// An empty store with room for more than this gives it back.
const MANY: usize = 256;

/// The objects that are in one channel.
#[derive(Debug, Default)]
pub struct Store {
    /// Held for a few instructions.
    objects: Mutex<Objects>,
    opaque: AtomicBool,
    /// A weak reference to the `Kept`, while there is one.
    kept: GilCell<Option<Py<PyWeakrefReference>>>,
}

#[derive(Debug, Default)]
struct Objects {
    places: Vec<Option<Py<PyAny>>>,
    free: Vec<u32>,
}

impl Objects {
    /// Where it is. An object that finds no place, beyond four thousand million of them, is given back.
    fn put(&mut self, object: Py<PyAny>) -> Result<u32, Py<PyAny>> {
        if let Some(place) = self.free.pop() {
            self.places[place as usize] = Some(object);
            return Ok(place);
        }
        match u32::try_from(self.places.len()) {
            Ok(place) if place != TAKEN => {
                self.places.push(Some(object));
                Ok(place)
            }
            _ => Err(object),
        }
    }

    fn take(&mut self, place: u32) -> Option<Py<PyAny>> {
        let object = self.places.get_mut(place as usize).and_then(Option::take);
        self.free.push(place);
        if self.free.len() == self.places.len() {
            self.places.clear();
            self.free.clear();
            if self.places.capacity() > MANY {
                *self = Self::default();
            }
        }
        object
    }
}

impl Store {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Put an object in, if it can be part of a cycle and the collector may see it here.
    ///
    /// # Errors
    /// Any other object, back.
    pub fn put(self: &Arc<Self>, py: Python<'_>, object: Py<PyAny>) -> Result<Stored, Py<PyAny>> {
        if !whole::is_container(object.bind(py)) || self.opaque.load(Ordering::Relaxed) {
            return Err(object);
        }
        let place = self.objects().put(object)?;
        Ok(Stored { store: Arc::clone(self), place })
    }

    /// Rust code gets one of tokio's ends.
    pub fn make_opaque(&self) {
        // With the GIL: no collection is under way.
        Python::attach(|_| self.opaque.store(true, Ordering::SeqCst));
    }

    /// What is in it, for whoever alone can come by it.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if self.opaque.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Free: who has it has the GIL, and runs no Python code.
        let Ok(objects) = self.objects.try_lock() else { return Ok(()) };
        objects.places.iter().flatten().try_for_each(|object| visit.call(object))
    }

    /// The collector found the channel to be garbage.
    pub fn clear(&self) {
        let objects: Vec<_> = self.objects().places.iter_mut().map(Option::take).collect();
        drop(objects);
    }

    /// What each reader of the channel holds.
    ///
    /// # Errors
    /// MemoryError.
    pub fn kept(self: &Arc<Self>, py: Python<'_>) -> PyResult<Py<Kept>> {
        let known = self.kept.with(py, |kept| kept.as_ref().map(|kept| kept.clone_ref(py)));
        if let Some(known) = known.and_then(|known| known.bind(py).upgrade()) {
            return Ok(known.cast_into::<Kept>()?.unbind());
        }
        let kept = Bound::new(py, Kept(Arc::clone(self)))?;
        let weak = PyWeakrefReference::new(&kept)?;
        drop(self.kept.replace(py, Some(weak.unbind())));
        Ok(kept.unbind())
    }
}

/// An object in a store.
#[derive(Debug)]
pub struct Stored {
    store: Arc<Store>,
    /// `TAKEN` once it was taken out.
    place: u32,
}

const TAKEN: u32 = u32::MAX;

impl Stored {
    /// The object. None: the collector found its channel to be garbage.
    pub fn get(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.store.objects().places.get(self.place as usize)?.as_ref().map(|object| object.clone_ref(py))
    }

    /// Take the object out. None as for `get`.
    pub fn take(&mut self, _py: Python<'_>) -> Option<Py<PyAny>> {
        match std::mem::replace(&mut self.place, TAKEN) {
            TAKEN => None,
            place => self.store.objects().take(place),
        }
    }

    /// As `take`, on any thread.
    pub fn take_anywhere(&mut self) -> Option<Py<PyAny>> {
        let place = std::mem::replace(&mut self.place, TAKEN);
        if place == TAKEN {
            return None;
        }
        if self.store.opaque.load(Ordering::Relaxed) {
            return self.store.objects().take(place);
        }
        // At the end of the interpreter it stays.
        attach_anywhere(|_| self.store.objects().take(place)).flatten()
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        drop(self.take_anywhere());
    }
}

/// Shows what is in a channel to the cycle collector.
#[pyclass(frozen, weakref, module = "pyloop._native")]
pub struct Kept(Arc<Store>);

#[pymethods]
impl Kept {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(&visit)
    }

    fn __clear__(&self) {
        self.0.clear();
    }
}
