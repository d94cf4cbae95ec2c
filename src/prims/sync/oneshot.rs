//! `pyloop.sync.oneshot`: one value, once.
//!
//! As in `mpsc`, the tokio receiver belongs to whoever holds its async mutex.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tokio::sync::{Mutex, oneshot as tokio_oneshot};

use super::closing::Closing;
use super::fault::{Fault, HANDLE_CLOSED, NO_RECEIVER};
use super::item::Item;
use super::store::Store;
use crate::bridge::RustFuture;
use crate::prims::blocking;
use crate::py::call::Number;
use crate::py::cell::GilCell;

/// The value will not come, or came already.
const NO_VALUE: Fault = Fault::Closed("the sender was closed without a value, or the value was received already");

/// The end of a oneshot channel that gives the value.
#[pyclass(frozen, generic, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct OneshotSender {
    tx: GilCell<Option<tokio_oneshot::Sender<Item>>>,
    /// Of a channel that Python has made.
    store: Option<Arc<Store>>,
}

impl OneshotSender {
    /// From tokio's.
    pub fn from_tokio(tx: tokio_oneshot::Sender<Item>) -> Self {
        Self { tx: GilCell::new(Some(tx)), store: None }
    }

    /// Take tokio's out, for a thread that sends without the GIL; None when it was used already.
    pub fn take_tokio(&self, py: Python<'_>) -> Option<tokio_oneshot::Sender<Item>> {
        if let Some(store) = &self.store {
            store.make_opaque();
        }
        self.tx.take(py)
    }
}

#[pymethods]
impl OneshotSender {
    /// Send the value. Does not wait; from any thread.
    ///
    /// Raises Closed when the receiver is gone, and at the second call.
    #[pyo3(signature = (value, /))]
    fn send(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<()> {
        let tx = self.tx.take(py).ok_or(HANDLE_CLOSED)?;
        Ok(tx.send(Item::sent(py, value, self.store.as_ref())).map_err(|_| NO_RECEIVER)?)
    }

    /// Send no value: the receiver gets Closed.
    fn close(&self, py: Python<'_>) {
        drop(self.tx.take(py));
    }

    /// Whether a value can no longer be sent.
    fn is_closed(&self, py: Python<'_>) -> bool {
        self.tx.with(py, |tx| tx.as_ref().is_none_or(tokio_oneshot::Sender::is_closed))
    }
}

#[derive(Debug)]
struct Slot {
    rx: Mutex<Option<tokio_oneshot::Receiver<Item>>>,
    closing: Closing,
}

impl Slot {
    async fn recv(self: Arc<Self>) -> Result<Item, Fault> {
        let mut rx = match self.rx.try_lock() {
            Ok(rx) => rx,
            Err(_) => self.rx.lock().await,
        };
        let received = poll_fn(|cx| self.poll(rx.as_mut(), cx)).await;
        *rx = None;
        received
    }

    fn poll(&self, rx: Option<&mut tokio_oneshot::Receiver<Item>>, cx: &mut Context<'_>) -> Poll<Result<Item, Fault>> {
        let Some(rx) = rx else { return Poll::Ready(Err(NO_VALUE)) };
        let mut polled = Pin::new(&mut *rx).poll(cx);
        if polled.is_pending() && self.closing.poll(cx) {
            rx.close();
            polled = Pin::new(rx).poll(cx);
        }
        polled.map_err(|_| NO_VALUE)
    }

    fn try_recv(&self) -> Result<Item, Fault> {
        // Somebody waits: the value is theirs.
        let mut rx = self.rx.try_lock().map_err(|_| Fault::Empty)?;
        let received = rx.as_mut().ok_or(NO_VALUE)?.try_recv().map_err(|failed| match failed {
            tokio_oneshot::error::TryRecvError::Empty => Fault::Empty,
            tokio_oneshot::error::TryRecvError::Closed => NO_VALUE,
        });
        if !matches!(received, Err(Fault::Empty)) {
            *rx = None;
        }
        received
    }
}

/// The end of a oneshot channel that gets the value: `await receiver`.
#[pyclass(frozen, generic, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct OneshotReceiver {
    slot: Arc<Slot>,
    store: Option<Arc<Store>>,
}

impl OneshotReceiver {
    /// From tokio's.
    pub fn from_tokio(rx: tokio_oneshot::Receiver<Item>) -> Self {
        Self { slot: Arc::new(Slot { rx: Mutex::new(Some(rx)), closing: Closing::default() }), store: None }
    }

    /// Take tokio's out; None when the value was received already, or while a `recv` is pending.
    pub fn take_tokio(&self) -> Option<tokio_oneshot::Receiver<Item>> {
        if let Some(store) = &self.store {
            store.make_opaque();
        }
        self.slot.rx.try_lock().ok()?.take()
    }
}

#[pymethods]
impl OneshotReceiver {
    /// Receive the value. Cancelled: it is not lost, and can be received later.
    ///
    /// Raises Closed when the sender went without a value, or the value was received already.
    fn recv(slf: &Bound<'_, Self>) -> RustFuture {
        let receiving = Arc::clone(&slf.get().slot).recv();
        RustFuture::holding("recv", slf.clone().unbind(), receiving, |item, _receiver| item?.received())
    }

    /// `await receiver` is `await receiver.recv()`.
    fn __await__(slf: &Bound<'_, Self>) -> RustFuture {
        Self::recv(slf)
    }

    /// The value if it is there, else Empty (or Closed). From any thread.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.slot.try_recv()?.into_object(py)
    }

    /// `recv` for a thread without an event loop: sleeps without the GIL, for `timeout` seconds at most.
    ///
    /// Raises Closed, TimeoutError (nothing is lost), RuntimeError on the thread of a running event loop.
    #[pyo3(signature = (timeout = None))]
    fn blocking_recv(&self, py: Python<'_>, timeout: Option<Number>) -> PyResult<Py<PyAny>> {
        blocking::wait(py, "await recv()", timeout, Arc::clone(&self.slot).recv())??.into_object(py)
    }

    /// Refuse a value that was not sent yet.
    fn close(&self) {
        self.slot.closing.wish();
        if let Ok(mut rx) = self.slot.rx.try_lock()
            && let Some(rx) = rx.as_mut()
        {
            rx.close();
        }
    }

    /// Nobody but the receiver comes by the value.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.store.as_ref().map_or(Ok(()), |store| store.traverse(&visit))
    }

    fn __clear__(&self) {
        if let Some(store) = &self.store {
            store.clear();
        }
    }
}

/// A channel for one value: (sender, receiver).
#[pyfunction]
pub fn oneshot() -> (OneshotSender, OneshotReceiver) {
    let (tx, rx) = tokio_oneshot::channel();
    let store = Arc::<Store>::default();
    let sender = OneshotSender { store: Some(Arc::clone(&store)), ..OneshotSender::from_tokio(tx) };
    (sender, OneshotReceiver { store: Some(store), ..OneshotReceiver::from_tokio(rx) })
}
