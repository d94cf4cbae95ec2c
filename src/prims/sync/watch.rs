//! `pyloop.sync.watch`: one value that changes; a receiver sees the newest, not each.
//!
//! `changed` waits with a copy of the receiver: the value can be read meanwhile, and several tasks may wait with one
//! receiver. A change is seen by one of them.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tokio::sync::watch as tokio_watch;

use super::arguments::none;
use super::fault::{Fault, HANDLE_CLOSED, NO_SENDER, end_of_iteration};
use super::item::SharedItem;
use super::store::{Kept, Store};
use crate::bridge::RustFuture;
use crate::py::cell::GilCell;

type Tx = Arc<tokio_watch::Sender<SharedItem>>;

/// What a watch that Python has made keeps, for those that can read the value.
#[derive(Debug)]
struct Reader {
    store: Arc<Store>,
    kept: Py<Kept>,
}

impl Reader {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { store: Arc::clone(&self.store), kept: self.kept.clone_ref(py) }
    }
}

/// The end of a watch that sets the value.
#[pyclass(frozen, generic, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct WatchSender {
    tx: GilCell<Option<Tx>>,
    reader: GilCell<Option<Reader>>,
}

impl WatchSender {
    /// From tokio's.
    pub fn from_tokio(tx: tokio_watch::Sender<SharedItem>) -> Self {
        Self::of(tx, None)
    }

    fn of(tx: tokio_watch::Sender<SharedItem>, reader: Option<Reader>) -> Self {
        Self { tx: GilCell::new(Some(Arc::new(tx))), reader: GilCell::new(reader) }
    }

    /// tokio's, which any thread may use without the GIL; None after `close`. The channel ends when this is dropped,
    /// too.
    pub fn to_tokio(&self, py: Python<'_>) -> Option<Arc<tokio_watch::Sender<SharedItem>>> {
        if let Some(store) = self.store(py) {
            store.make_opaque();
        }
        self.tx.with(py, |tx| tx.clone())
    }

    fn tx(&self, py: Python<'_>) -> PyResult<Tx> {
        Ok(self.tx.with(py, |tx| tx.clone()).ok_or(HANDLE_CLOSED)?)
    }

    fn store(&self, py: Python<'_>) -> Option<Arc<Store>> {
        self.reader.with(py, |reader| reader.as_ref().map(|reader| Arc::clone(&reader.store)))
    }
}

#[pymethods]
impl WatchSender {
    /// Set the value, and wake who waits for a change; also when there is no receiver yet. From any thread.
    ///
    /// Raises Closed after `close`.
    #[pyo3(signature = (value, /))]
    fn send(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<()> {
        let (tx, store) = (self.tx(py)?, self.store(py));
        let old = tx.send_replace(SharedItem::sent(py, value, store.as_ref()));
        drop(old);
        Ok(())
    }

    /// The value.
    #[getter]
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let item = self.tx(py)?.borrow().clone();
        item.object(py)
    }

    /// A new receiver, which has seen the value of now.
    fn subscribe(&self, py: Python<'_>) -> PyResult<WatchReceiver> {
        let reader = self.reader.with(py, |reader| reader.as_ref().map(|reader| reader.clone_ref(py)));
        Ok(WatchReceiver::of(self.tx(py)?.subscribe(), reader))
    }

    /// Give the channel up: receivers keep the last value, and wait for no further change.
    fn close(&self, py: Python<'_>) {
        drop((self.tx.take(py), self.reader.take(py)));
    }

    /// Wait until there is no receiver.
    fn closed(&self, py: Python<'_>) -> PyResult<RustFuture> {
        let tx = self.tx(py)?;
        let kept = self.reader.with(py, |reader| reader.as_ref().map(|reader| reader.kept.clone_ref(py)));
        // The value lives as long as tokio's sender.
        Ok(RustFuture::holding("closed", kept, async move { tx.closed().await }, |(), _kept| Ok(none())))
    }

    /// Whether there is no receiver, or this end was closed.
    fn is_closed(&self, py: Python<'_>) -> bool {
        self.tx.with(py, |tx| tx.as_ref().is_none_or(|tx| tx.is_closed()))
    }

    /// How many receivers there are; a pending `changed` counts as one.
    #[getter]
    fn receiver_count(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.tx(py)?.receiver_count())
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.reader.peek_in_traverse(&visit) {
            Some(Some(reader)) => visit.call(&reader.kept),
            _ => Ok(()),
        }
    }
}

type Slot = Arc<GilCell<Option<tokio_watch::Receiver<SharedItem>>>>;

enum Look {
    New(SharedItem),
    /// Nothing new: a copy to wait with.
    Wait(tokio_watch::Receiver<SharedItem>),
}

async fn changed(slot: Slot) -> Result<SharedItem, Fault> {
    loop {
        let look = Python::attach(|py| {
            slot.with(py, |rx| {
                let rx = rx.as_mut()?;
                let value = rx.borrow_and_update();
                if value.has_changed() {
                    return Some(Look::New(value.clone()));
                }
                drop(value);
                Some(Look::Wait(rx.clone()))
            })
        });
        match look.ok_or(HANDLE_CLOSED)? {
            Look::New(item) => return Ok(item),
            Look::Wait(mut rx) => rx.changed().await.map_err(|_| NO_SENDER)?,
        }
    }
}

/// The end of a watch that reads the value.
#[pyclass(frozen, generic, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct WatchReceiver {
    slot: Slot,
    reader: Option<Reader>,
}

impl WatchReceiver {
    /// From tokio's.
    pub fn from_tokio(rx: tokio_watch::Receiver<SharedItem>) -> Self {
        Self::of(rx, None)
    }

    fn of(rx: tokio_watch::Receiver<SharedItem>, reader: Option<Reader>) -> Self {
        Self { slot: Arc::new(GilCell::new(Some(rx))), reader }
    }

    fn make_opaque(&self) {
        if let Some(reader) = &self.reader {
            reader.store.make_opaque();
        }
    }

    fn kept(&self, py: Python<'_>) -> Option<Py<Kept>> {
        self.reader.as_ref().map(|reader| reader.kept.clone_ref(py))
    }

    /// A clone of tokio's, which any thread may use without the GIL; None after `take_tokio`.
    pub fn to_tokio(&self, py: Python<'_>) -> Option<tokio_watch::Receiver<SharedItem>> {
        self.make_opaque();
        self.slot.with(py, |rx| rx.clone())
    }

    /// Take tokio's out: from here on this receiver is closed for Python.
    pub fn take_tokio(&self, py: Python<'_>) -> Option<tokio_watch::Receiver<SharedItem>> {
        self.make_opaque();
        self.slot.take(py)
    }
}

#[pymethods]
impl WatchReceiver {
    /// The newest value; reading it does not mark it as seen.
    #[getter]
    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let item = self.slot.with(py, |rx| rx.as_ref().map(|rx| rx.borrow().clone()));
        item.ok_or(HANDLE_CLOSED)?.object(py)
    }

    /// Whether there is a value that this receiver has not seen.
    fn has_changed(&self, py: Python<'_>) -> PyResult<bool> {
        let changed = self.slot.with(py, |rx| rx.as_ref().map(|rx| rx.borrow().has_changed()));
        Ok(changed.ok_or(HANDLE_CLOSED)?)
    }

    /// Wait for a value that this receiver has not seen, and give it; values in between are skipped. Cancelled: the
    /// change remains unseen.
    ///
    /// Raises Closed when the sender is gone and the last value was seen.
    fn changed(&self, py: Python<'_>) -> RustFuture {
        RustFuture::holding("changed", self.kept(py), changed(Arc::clone(&self.slot)), |item, _kept| {
            let item = item?;
            Python::attach(|py| item.object(py))
        })
    }

    /// Another receiver, which has seen what this one has seen.
    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        let rx = self.slot.with(py, |rx| rx.clone()).ok_or(HANDLE_CLOSED)?;
        Ok(Self::of(rx, self.reader.as_ref().map(|reader| reader.clone_ref(py))))
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> RustFuture {
        RustFuture::holding("__anext__", self.kept(py), changed(Arc::clone(&self.slot)), |item, _kept| {
            let item = item.map_err(end_of_iteration)?;
            Python::attach(|py| item.object(py))
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.reader.as_ref().map_or(Ok(()), |reader| visit.call(&reader.kept))
    }
}

/// A value that can be watched, `initial` at first: (sender, first receiver, which has seen it).
#[pyfunction]
#[pyo3(signature = (initial, /))]
pub fn watch(py: Python<'_>, initial: Py<PyAny>) -> PyResult<(WatchSender, WatchReceiver)> {
    let store = Arc::<Store>::default();
    let reader = Reader { kept: store.kept(py)?, store };
    let (tx, rx) = tokio_watch::channel(SharedItem::sent(py, initial, Some(&reader.store)));
    Ok((WatchSender::of(tx, Some(reader.clone_ref(py))), WatchReceiver::of(rx, Some(reader))))
}
