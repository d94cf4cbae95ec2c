//! `pyloop.sync.broadcast`: every receiver gets every item; who is too slow misses the oldest and is told how many.
//!
//! tokio drops overwritten items under its locks: each call that may do so is made in `dropping_later`.

use std::pin::pin;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Mutex, broadcast as tokio_broadcast};

use super::fault::{Fault, HANDLE_CLOSED, NO_SENDER, end_of_iteration};
use super::item::{SharedItem, dropping_later};
use super::store::{Kept, Store};
use crate::bridge::RustFuture;
use crate::prims::blocking;
use crate::py::call::Number;
use crate::py::cell::GilCell;

/// The sending end of a broadcast.
#[pyclass(frozen, generic, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct BroadcastSender {
    tx: GilCell<Option<tokio_broadcast::Sender<SharedItem>>>,
    /// Of a channel that Python has made.
    store: Option<Arc<Store>>,
}

impl BroadcastSender {
    /// From tokio's.
    pub fn from_tokio(tx: tokio_broadcast::Sender<SharedItem>) -> Self {
        Self::of(tx, None)
    }

    fn of(tx: tokio_broadcast::Sender<SharedItem>, store: Option<Arc<Store>>) -> Self {
        Self { tx: GilCell::new(Some(tx)), store }
    }

    /// A clone of tokio's, which any thread may use without the GIL; None after `close`.
    ///
    /// Do not send with it on a thread that holds the GIL: an item that is overwritten dies under tokio's lock.
    pub fn to_tokio(&self, py: Python<'_>) -> Option<tokio_broadcast::Sender<SharedItem>> {
        if let Some(store) = &self.store {
            store.make_opaque();
        }
        self.tx.with(py, |tx| tx.clone())
    }

    fn tx(&self, py: Python<'_>) -> PyResult<tokio_broadcast::Sender<SharedItem>> {
        Ok(self.tx.with(py, |tx| tx.clone()).ok_or(HANDLE_CLOSED)?)
    }
}

#[pymethods]
impl BroadcastSender {
    /// Send an item to every receiver there is now, and say how many. Does not wait; from any thread.
    ///
    /// Without a receiver the item goes nowhere, and the answer is 0. Raises Closed after `close`.
    #[pyo3(signature = (item, /))]
    fn send(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<usize> {
        let (tx, item) = (self.tx(py)?, SharedItem::sent(py, item, self.store.as_ref()));
        Ok(dropping_later(|| tx.send(item).unwrap_or(0)))
    }

    /// A new receiver, of what is sent from now on.
    fn subscribe(&self, py: Python<'_>) -> PyResult<BroadcastReceiver> {
        let reader = match &self.store {
            Some(store) => Some((Arc::clone(store), store.kept(py)?)),
            None => None,
        };
        Ok(BroadcastReceiver::of(self.tx(py)?.subscribe(), reader))
    }

    /// Another sender for the same receivers.
    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        Ok(Self::of(self.tx(py)?, self.store.clone()))
    }

    /// Give this sender up. Receivers end when all are given up and they have received what was sent.
    fn close(&self, py: Python<'_>) {
        let tx = self.tx.take(py);
        drop(tx);
    }

    /// How many receivers there are.
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

/// tokio's receiver, whose end drops the items that nobody else waits for.
#[derive(Debug)]
struct Subscription(Option<tokio_broadcast::Receiver<SharedItem>>);

impl Drop for Subscription {
    fn drop(&mut self) {
        let rx = self.0.take();
        dropping_later(|| drop(rx));
    }
}

type Slot = Arc<Mutex<Subscription>>;

async fn recv(slot: Slot) -> Result<SharedItem, Fault> {
    let mut subscription = match slot.try_lock() {
        Ok(free) => free,
        Err(_) => slot.lock().await,
    };
    let rx = subscription.0.as_mut().ok_or(HANDLE_CLOSED)?;
    let mut receiving = pin!(rx.recv());
    std::future::poll_fn(|cx| dropping_later(|| receiving.as_mut().poll(cx))).await.map_err(|failed| match failed {
        RecvError::Closed => NO_SENDER,
        RecvError::Lagged(count) => Fault::Lagged(count),
    })
}

fn object(item: &SharedItem) -> PyResult<Py<PyAny>> {
    Python::attach(|py| item.object(py))
}

/// A receiver of a broadcast.
#[pyclass(frozen, generic, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct BroadcastReceiver {
    slot: Slot,
    /// Of a channel that Python has made: what is in it, for those that can receive it.
    reader: Option<(Arc<Store>, Py<Kept>)>,
}

impl BroadcastReceiver {
    /// From tokio's.
    pub fn from_tokio(rx: tokio_broadcast::Receiver<SharedItem>) -> Self {
        Self::of(rx, None)
    }

    fn of(rx: tokio_broadcast::Receiver<SharedItem>, reader: Option<(Arc<Store>, Py<Kept>)>) -> Self {
        Self { slot: Arc::new(Mutex::new(Subscription(Some(rx)))), reader }
    }

    fn kept(&self, py: Python<'_>) -> Option<Py<Kept>> {
        self.reader.as_ref().map(|(_, kept)| kept.clone_ref(py))
    }

    /// Take tokio's out: from here on this receiver is closed for Python. None when that was done already, or while a
    /// `recv` is pending.
    pub fn take_tokio(&self) -> Option<tokio_broadcast::Receiver<SharedItem>> {
        if let Some((store, _)) = &self.reader {
            store.make_opaque();
        }
        self.slot.try_lock().ok()?.0.take()
    }
}

#[pymethods]
impl BroadcastReceiver {
    /// Receive the next item. Cancelled: nothing was received, and nothing is lost.
    ///
    /// Raises Lagged(count) when so many were overwritten (the next call gives the oldest that is there), Closed when
    /// all senders are gone and nothing is left.
    fn recv(&self, py: Python<'_>) -> RustFuture {
        let receiving = recv(Arc::clone(&self.slot));
        RustFuture::holding("recv", self.kept(py), receiving, |item, _kept| object(&item?))
    }

    /// Receive an item now: Empty when there is none (or another task waits for it), Lagged, Closed as `recv`.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let item = {
            let mut subscription = self.slot.try_lock().map_err(|_| Fault::Empty)?;
            let rx = subscription.0.as_mut().ok_or(HANDLE_CLOSED)?;
            dropping_later(|| rx.try_recv()).map_err(|failed| match failed {
                TryRecvError::Empty => Fault::Empty,
                TryRecvError::Closed => NO_SENDER,
                TryRecvError::Lagged(count) => Fault::Lagged(count),
            })?
        };
        item.object(py)
    }

    /// `recv` for a thread without an event loop: sleeps without the GIL, for `timeout` seconds at most.
    ///
    /// Raises Lagged, Closed, TimeoutError, RuntimeError on the thread of a running event loop.
    #[pyo3(signature = (timeout = None))]
    fn blocking_recv(&self, py: Python<'_>, timeout: Option<Number>) -> PyResult<Py<PyAny>> {
        blocking::wait(py, "await recv()", timeout, recv(Arc::clone(&self.slot)))??.object(py)
    }

    /// A new receiver, of what is sent from now on.
    ///
    /// Raises RuntimeError while a task waits in this one's `recv`: subscribe at the sender then.
    fn resubscribe(&self, py: Python<'_>) -> PyResult<Self> {
        let subscription = self.slot.try_lock().map_err(|_| {
            pyo3::exceptions::PyRuntimeError::new_err("a task waits in recv(): use the sender's subscribe()")
        })?;
        let reader = self.reader.as_ref().map(|(store, kept)| (Arc::clone(store), kept.clone_ref(py)));
        Ok(Self::of(subscription.0.as_ref().ok_or(HANDLE_CLOSED)?.resubscribe(), reader))
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> RustFuture {
        let receiving = recv(Arc::clone(&self.slot));
        RustFuture::holding("__anext__", self.kept(py), receiving, |item, _kept| {
            object(&item.map_err(end_of_iteration)?)
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.reader.as_ref().map_or(Ok(()), |(_, kept)| visit.call(kept))
    }
}

/// A channel that gives every item to every receiver, and keeps the last `capacity` (rounded up to a power of two) for
/// those that are slow: (sender, first receiver).
///
/// Raises ValueError for a capacity below 1 or above 2**20: the room is made at once.
#[pyfunction]
pub fn broadcast(py: Python<'_>, capacity: i64) -> PyResult<(BroadcastSender, BroadcastReceiver)> {
    let (tx, rx) = tokio_broadcast::channel(super::arguments::within(capacity, "capacity", 1, 1 << 20)?);
    let store = Arc::<Store>::default();
    let kept = store.kept(py)?;
    Ok((BroadcastSender::of(tx, Some(Arc::clone(&store))), BroadcastReceiver::of(rx, Some((store, kept)))))
}
