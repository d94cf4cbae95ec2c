//! What travels through a channel: a Python object, or a Rust value that becomes one where it is received.
//!
//! Any thread may hold, move and drop these without the GIL: a Python object that goes elsewhere than on an attached
//! thread is put on PyO3's list of references to give up, which the next thread that attaches does.
//!
//! tokio's broadcast overwrites and drops items while it holds its locks, and a Python object that dies runs Python
//! code, which may use the same channel. So `SharedItem`s that die within `dropping_later` are dropped when it ends.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{IntoPyObject, IntoPyObjectExt};

use super::fault::Fault;
use super::store::{Store, Stored};

/// The collector found the channel to be garbage, and a finalizer uses it all the same.
const GARBAGE: Fault = Fault::Closed("the channel was garbage");

type Once = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;
type Again = Box<dyn Fn(Python<'_>) -> PyResult<Py<PyAny>> + Send + Sync>;

/// What one reader takes from a channel (`oneshot`, `mpsc`).
///
/// Rust code makes one of a value and sends it without the GIL; the reader makes the Python object:
///
/// ```no_run
/// # use pyo3::prelude::*;
/// use pyloop::prims::sync::{Item, Receiver};
///
/// # fn rows(py: Python<'_>) -> PyResult<Py<Receiver>> {
/// let (tx, rx) = tokio::sync::mpsc::channel::<Item>(16);
/// let receiver = Py::new(py, Receiver::from_tokio(rx))?; // for Python: `async for row in receiver`
/// std::thread::spawn(move || tx.blocking_send(Item::new("a row".to_owned())));
/// # Ok(receiver)
/// # }
/// ```
pub struct Item(Single);

/// What is in an `Item`.
enum Single {
    /// An object that exists.
    Object(Py<PyAny>),
    /// An object to be made by the reader.
    Made(Once),
    /// An object that the channel keeps where the cycle collector sees it.
    Stored(Stored),
}

impl Item {
    /// A Rust value, converted where it is received.
    pub fn new<T>(value: T) -> Self
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        Self::make(move |py| value.into_py_any(py))
    }

    /// What `make` gives, called where it is received, with the GIL; what it raises is raised there.
    pub fn make(make: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send + 'static) -> Self {
        Self(Single::Made(Box::new(make)))
    }

    /// The Python object.
    ///
    /// # Errors
    /// What the conversion raises.
    pub fn into_object(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.0 {
            Single::Object(object) => Ok(object),
            Single::Made(make) => make(py),
            Single::Stored(mut stored) => Ok(stored.take(py).ok_or(GARBAGE)?),
        }
    }

    /// As `into_object`, for a poll.
    pub(super) fn received(self) -> PyResult<Py<PyAny>> {
        match self.0 {
            Single::Object(object) => Ok(object),
            other => Python::attach(|py| Self(other).into_object(py)),
        }
    }

    /// An object that is sent by Python through the channel of this store.
    pub(super) fn sent(py: Python<'_>, object: Py<PyAny>, store: Option<&Arc<Store>>) -> Self {
        match store {
            Some(store) => Self(store.put(py, object).map_or_else(Single::Object, Single::Stored)),
            None => object.into(),
        }
    }
}

impl From<Py<PyAny>> for Item {
    fn from(object: Py<PyAny>) -> Self {
        Self(Single::Object(object))
    }
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            Single::Object(_) => "Item::Object",
            Single::Made(_) => "Item::Made",
            Single::Stored(_) => "Item::Stored",
        })
    }
}

/// What many readers take from a channel (`broadcast`, `watch`): cloned without the GIL.
#[derive(Clone)]
pub struct SharedItem(Arc<Content>);

enum Content {
    Object(ManuallyDrop<Py<PyAny>>),
    Made(Again),
    Stored(Stored),
}

impl SharedItem {
    /// A Rust value, converted by each reader.
    pub fn new<T>(value: T) -> Self
    where
        T: for<'py> IntoPyObject<'py> + Clone + Send + Sync + 'static,
    {
        Self::make(move |py| value.clone().into_py_any(py))
    }

    /// What `make` gives, called by each reader, with the GIL; what it raises is raised there.
    pub fn make(make: impl Fn(Python<'_>) -> PyResult<Py<PyAny>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Content::Made(Box::new(make))))
    }

    /// The Python object.
    ///
    /// # Errors
    /// What the conversion raises.
    pub fn object(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &*self.0 {
            Content::Object(object) => Ok(object.clone_ref(py)),
            Content::Made(make) => make(py),
            Content::Stored(stored) => Ok(stored.get(py).ok_or(GARBAGE)?),
        }
    }

    /// As `Item::sent`.
    pub(super) fn sent(py: Python<'_>, object: Py<PyAny>, store: Option<&Arc<Store>>) -> Self {
        match store {
            Some(store) => match store.put(py, object) {
                Ok(stored) => Self(Arc::new(Content::Stored(stored))),
                Err(object) => object.into(),
            },
            None => object.into(),
        }
    }
}

impl From<Py<PyAny>> for SharedItem {
    fn from(object: Py<PyAny>) -> Self {
        Self(Arc::new(Content::Object(ManuallyDrop::new(object))))
    }
}

impl std::fmt::Debug for SharedItem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &*self.0 {
            Content::Object(_) => "SharedItem::Object",
            Content::Made(_) => "SharedItem::Made",
            Content::Stored(_) => "SharedItem::Stored",
        })
    }
}

thread_local! {
    /// The objects to drop when the innermost `dropping_later` ends; None outside of one.
    static LATER: RefCell<Option<Vec<Py<PyAny>>>> = const { RefCell::new(None) };
}

impl Drop for Content {
    fn drop(&mut self) {
        let mut now = match self {
            // SAFETY: taken once, in the destructor.
            Self::Object(object) => Some(unsafe { ManuallyDrop::take(object) }),
            Self::Stored(stored) => stored.take_anywhere(),
            Self::Made(_) => return,
        };
        // At the end of a thread there is no list, and no scope either.
        let kept = LATER.try_with(|later| {
            if let Some(later) = later.borrow_mut().as_mut() {
                later.extend(now.take());
            }
        });
        drop((kept, now));
    }
}

/// Run `f`, in which no Python object of a `SharedItem` dies: they do when it has ended.
pub fn dropping_later<R>(f: impl FnOnce() -> R) -> R {
    struct Scope(Option<Vec<Py<PyAny>>>);
    impl Drop for Scope {
        fn drop(&mut self) {
            let outer = self.0.take();
            let dead = LATER.with(|later| later.replace(outer));
            drop(dead);
        }
    }
    let _scope = Scope(LATER.with(|later| later.replace(Some(Vec::new()))));
    f()
}
