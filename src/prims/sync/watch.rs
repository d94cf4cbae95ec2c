//! `pyloop.sync.watch`: one value that changes; a receiver sees the newest, not each.
//!
//! `changed` waits with a copy of the receiver: the value can be read meanwhile, and several tasks may wait with one
//! receiver. A change is seen by one of them.

use std::sync::Arc;

use pyo3::prelude::*;
use tokio::sync::watch as tokio_watch;

use super::fault::{Fault, HANDLE_CLOSED, NO_SENDER, end_of_iteration};
use super::item::SharedItem;
use super::none;
use crate::bridge::RustFuture;
use crate::py::cell::GilCell;

type Tx = Arc<tokio_watch::Sender<SharedItem>>;

/// The end of a watch that sets the value.
#[pyclass(frozen, generic, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct WatchSender {
    tx: GilCell<Option<Tx>>,
}

impl WatchSender {
    /// From tokio's.
    pub fn from_tokio(tx: tokio_watch::Sender<SharedItem>) -> Self {
        Self { tx: GilCell::new(Some(Arc::new(tx))) }
    }

    /// tokio's, which any thread may use without the GIL; None after `close`. The channel ends when this is dropped,
    /// too.
    pub fn to_tokio(&self, py: Python<'_>) -> Option<Arc<tokio_watch::Sender<SharedItem>>> {
        self.tx.with(py, |tx| tx.clone())
    }

    fn tx(&self, py: Python<'_>) -> PyResult<Tx> {
        Ok(self.to_tokio(py).ok_or(HANDLE_CLOSED)?)
    }
}

#[pymethods]
impl WatchSender {
    /// Set the value, and wake who waits for a change; also when there is no receiver yet. From any thread.
    ///
    /// Raises Closed after `close`.
    #[pyo3(signature = (value, /))]
    fn send(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<()> {
        let old = self.tx(py)?.send_replace(value.into());
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
        Ok(WatchReceiver::from_tokio(self.tx(py)?.subscribe()))
    }

    /// Give the channel up: receivers keep the last value, and wait for no further change.
    fn close(&self, py: Python<'_>) {
        let tx = self.tx.take(py);
        drop(tx);
    }

    /// Wait until there is no receiver.
    fn closed(&self, py: Python<'_>) -> PyResult<RustFuture> {
        let tx = self.tx(py)?;
        Ok(RustFuture::new("closed", async move {
            tx.closed().await;
            Ok(none())
        }))
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
}

impl WatchReceiver {
    /// From tokio's.
    pub fn from_tokio(rx: tokio_watch::Receiver<SharedItem>) -> Self {
        Self { slot: Arc::new(GilCell::new(Some(rx))) }
    }

    /// A clone of tokio's, which any thread may use without the GIL; None after `take_tokio`.
    pub fn to_tokio(&self, py: Python<'_>) -> Option<tokio_watch::Receiver<SharedItem>> {
        self.slot.with(py, |rx| rx.clone())
    }

    /// Take tokio's out: from here on this receiver is closed for Python.
    pub fn take_tokio(&self, py: Python<'_>) -> Option<tokio_watch::Receiver<SharedItem>> {
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
    fn changed(&self) -> RustFuture {
        let changed = changed(Arc::clone(&self.slot));
        RustFuture::new("changed", async move {
            let item = changed.await?;
            Python::attach(|py| item.object(py))
        })
    }

    /// Another receiver, which has seen what this one has seen.
    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        Ok(Self::from_tokio(self.to_tokio(py).ok_or(HANDLE_CLOSED)?))
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(&self) -> RustFuture {
        let changed = changed(Arc::clone(&self.slot));
        RustFuture::new("__anext__", async move {
            let item = changed.await.map_err(end_of_iteration)?;
            Python::attach(|py| item.object(py))
        })
    }
}

/// A value that can be watched, `initial` at first: (sender, first receiver, which has seen it).
#[pyfunction]
#[pyo3(signature = (initial, /))]
pub fn watch(initial: Py<PyAny>) -> (WatchSender, WatchReceiver) {
    let (tx, rx) = tokio_watch::channel(initial.into());
    (WatchSender::from_tokio(tx), WatchReceiver::from_tokio(rx))
}
