//! `pyloop.sync.mpsc` and `unbounded`: a queue with many senders.
//!
//! The tokio receiver belongs to whoever holds its async mutex: a pending `recv` does, others wait behind it in order.
//! Nobody blocks a thread on that mutex and nothing but polls with the GIL held takes it, so a wish to close
//! (`Closing`) that finds it taken is seen by the one who has it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};
use tokio::sync::mpsc::error::{TryRecvError, TrySendError};
use tokio::sync::mpsc::{
    OwnedPermit, Receiver as BoundedReceiver, Sender as BoundedSender, UnboundedReceiver, UnboundedSender, channel,
    unbounded_channel,
};
use tokio::sync::{Mutex, Semaphore};

use super::arguments::{none, within};
use super::closing::Closing;
use super::fault::{Fault, HANDLE_CLOSED, NO_RECEIVER, NO_SENDER, end_of_iteration};
use super::item::Item;
use super::store::Store;
use crate::bridge::RustFuture;
use crate::prims::blocking;
use crate::py::call::Number;
use crate::py::cell::GilCell;

/// tokio's sending half.
#[derive(Clone, Debug)]
pub enum Tx {
    Bounded(BoundedSender<Item>),
    Unbounded(UnboundedSender<Item>),
}

/// tokio's receiving half.
#[derive(Debug)]
pub enum Rx {
    Bounded(BoundedReceiver<Item>),
    Unbounded(UnboundedReceiver<Item>),
}

impl From<BoundedSender<Item>> for Tx {
    fn from(tx: BoundedSender<Item>) -> Self {
        Self::Bounded(tx)
    }
}

impl From<UnboundedSender<Item>> for Tx {
    fn from(tx: UnboundedSender<Item>) -> Self {
        Self::Unbounded(tx)
    }
}

impl From<BoundedReceiver<Item>> for Rx {
    fn from(rx: BoundedReceiver<Item>) -> Self {
        Self::Bounded(rx)
    }
}

impl From<UnboundedReceiver<Item>> for Rx {
    fn from(rx: UnboundedReceiver<Item>) -> Self {
        Self::Unbounded(rx)
    }
}

impl Tx {
    /// Room for an item, as tokio's `send` waits for it.
    async fn room(self) -> Result<Room, Fault> {
        match self {
            Self::Bounded(tx) => tx.reserve_owned().await.map(Room::Bounded).map_err(|_| NO_RECEIVER),
            Self::Unbounded(tx) => Ok(Room::Unbounded(tx)),
        }
    }

    fn try_send(&self, item: Item) -> Result<(), Fault> {
        match self {
            Self::Bounded(tx) => tx.try_send(item).map_err(|failed| match failed {
                TrySendError::Full(_) => Fault::Full,
                TrySendError::Closed(_) => NO_RECEIVER,
            }),
            Self::Unbounded(tx) => tx.send(item).map_err(|_| NO_RECEIVER),
        }
    }

    async fn closed(self) {
        match self {
            Self::Bounded(tx) => tx.closed().await,
            Self::Unbounded(tx) => tx.closed().await,
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Bounded(tx) => tx.is_closed(),
            Self::Unbounded(tx) => tx.is_closed(),
        }
    }
}

/// Room for one item.
enum Room {
    Bounded(OwnedPermit<Item>),
    Unbounded(UnboundedSender<Item>),
}

impl Room {
    fn send(self, item: Item) -> Result<(), Fault> {
        match self {
            Self::Bounded(permit) => {
                permit.send(item);
                Ok(())
            }
            Self::Unbounded(tx) => tx.send(item).map_err(|_| NO_RECEIVER),
        }
    }
}

impl Rx {
    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        match self {
            Self::Bounded(rx) => rx.poll_recv(cx),
            Self::Unbounded(rx) => rx.poll_recv(cx),
        }
    }

    fn try_recv(&mut self) -> Result<Item, Fault> {
        let tried = match self {
            Self::Bounded(rx) => rx.try_recv(),
            Self::Unbounded(rx) => rx.try_recv(),
        };
        tried.map_err(|failed| match failed {
            TryRecvError::Empty => Fault::Empty,
            TryRecvError::Disconnected => NO_SENDER,
        })
    }

    fn close(&mut self) {
        match self {
            Self::Bounded(rx) => rx.close(),
            Self::Unbounded(rx) => rx.close(),
        }
    }
}

/// The sending end of a queue. `clone` makes another; the receiver ends when the last one is closed or collected.
#[pyclass(frozen, generic, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct Sender {
    tx: GilCell<Option<Tx>>,
    /// Of a channel that Python has made.
    store: Option<Arc<Store>>,
}

impl Sender {
    /// From a tokio sender (`mpsc::Sender<Item>` or `mpsc::UnboundedSender<Item>`).
    pub fn from_tokio(tx: impl Into<Tx>) -> Self {
        Self::of(tx.into(), None)
    }

    fn of(tx: Tx, store: Option<Arc<Store>>) -> Self {
        Self { tx: GilCell::new(Some(tx)), store }
    }

    /// A clone of the tokio sender, which any thread may use without the GIL; None after `close`.
    pub fn to_tokio(&self, py: Python<'_>) -> Option<Tx> {
        if let Some(store) = &self.store {
            store.make_opaque();
        }
        self.tx.with(py, |tx| tx.clone())
    }

    /// A clone: nothing is held while tokio wakes the receiver.
    fn tx(&self, py: Python<'_>) -> PyResult<Tx> {
        Ok(self.tx.with(py, |tx| tx.clone()).ok_or(HANDLE_CLOSED)?)
    }

    fn item(&self, py: Python<'_>, object: Py<PyAny>) -> Item {
        Item::sent(py, object, self.store.as_ref())
    }
}

#[pymethods]
impl Sender {
    /// Send an item, waiting while the queue is full. Cancelled: it was not sent.
    ///
    /// Raises Closed when the receiver is gone.
    #[pyo3(signature = (item, /))]
    fn send(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<RustFuture> {
        let (room, store) = (self.tx(py)?.room(), self.store.clone());
        Ok(RustFuture::holding("send", item, room, move |room, item| {
            room?.send(Python::attach(|py| Item::sent(py, item, store.as_ref())))?;
            Ok(none())
        }))
    }

    /// Send an item now: Full when the queue is, Closed when the receiver is gone. From any thread.
    #[pyo3(signature = (item, /))]
    fn try_send(&self, py: Python<'_>, item: Py<PyAny>) -> PyResult<()> {
        Ok(self.tx(py)?.try_send(self.item(py, item))?)
    }

    /// `send` for a thread without an event loop: sleeps without the GIL, for `timeout` seconds at most.
    ///
    /// Raises Closed, TimeoutError (nothing was sent), RuntimeError on the thread of a running event loop.
    #[pyo3(signature = (item, /, timeout = None))]
    fn blocking_send(&self, py: Python<'_>, item: Py<PyAny>, timeout: Option<Number>) -> PyResult<()> {
        let room = blocking::wait(py, "await send()", timeout, self.tx(py)?.room())??;
        Ok(room.send(self.item(py, item))?)
    }

    /// Another sender for the same receiver.
    fn clone(&self, py: Python<'_>) -> PyResult<Self> {
        Ok(Self::of(self.tx(py)?, self.store.clone()))
    }

    /// Give this sender up. The receiver ends when all are given up and it has received what was sent.
    fn close(&self, py: Python<'_>) {
        let tx = self.tx.take(py);
        drop(tx);
    }

    /// Wait until the receiver is gone or closed.
    fn closed(&self, py: Python<'_>) -> PyResult<RustFuture> {
        let closed = self.tx(py)?.closed();
        Ok(RustFuture::new("closed", async move {
            closed.await;
            Ok(none())
        }))
    }

    /// Whether the receiver is gone or closed, or this sender is.
    fn is_closed(&self, py: Python<'_>) -> bool {
        self.tx.with(py, |tx| tx.as_ref().is_none_or(Tx::is_closed))
    }

    /// How many more items the queue takes now; None: any number.
    #[getter]
    fn capacity(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        Ok(match self.tx(py)? {
            Tx::Bounded(tx) => Some(tx.capacity()),
            Tx::Unbounded(_) => None,
        })
    }

    /// How many items the queue holds at most; None: any number.
    #[getter]
    fn max_capacity(&self, py: Python<'_>) -> PyResult<Option<usize>> {
        Ok(match self.tx(py)? {
            Tx::Bounded(tx) => Some(tx.max_capacity()),
            Tx::Unbounded(_) => None,
        })
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, PyAny>) {
        self.close(py);
    }
}

#[derive(Debug)]
struct Queue {
    rx: Mutex<Option<Rx>>,
    closing: Closing,
}

impl Queue {
    async fn recv(self: Arc<Self>) -> Result<Item, Fault> {
        let mut rx = match self.rx.try_lock() {
            Ok(rx) => rx,
            Err(_) => self.rx.lock().await,
        };
        let rx = rx.as_mut().ok_or(HANDLE_CLOSED)?;
        poll_fn(|cx| self.poll(rx, cx)).await.ok_or(NO_SENDER)
    }

    fn poll(&self, rx: &mut Rx, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let polled = rx.poll_recv(cx);
        if polled.is_pending() && self.closing.poll(cx) {
            rx.close();
            return rx.poll_recv(cx);
        }
        if self.closing.is_wished() {
            rx.close();
        }
        polled
    }

    fn try_recv(&self) -> Result<Item, Fault> {
        // Somebody waits: what comes is theirs.
        let mut rx = self.rx.try_lock().map_err(|_| Fault::Empty)?;
        rx.as_mut().ok_or(HANDLE_CLOSED)?.try_recv()
    }
}

/// The receiving end of a queue. Several tasks may receive from it: each item goes to one, in the order of asking.
#[pyclass(frozen, generic, weakref, module = "pyloop.sync")]
#[derive(Debug)]
pub struct Receiver {
    queue: Arc<Queue>,
    store: Option<Arc<Store>>,
}

impl Receiver {
    /// From a tokio receiver (`mpsc::Receiver<Item>` or `mpsc::UnboundedReceiver<Item>`).
    pub fn from_tokio(rx: impl Into<Rx>) -> Self {
        Self::of(rx.into(), None)
    }

    fn of(rx: Rx, store: Option<Arc<Store>>) -> Self {
        Self { queue: Arc::new(Queue { rx: Mutex::new(Some(rx)), closing: Closing::default() }), store }
    }

    /// Take the tokio receiver out, with what is in it: from here on this end is closed for Python. None when that was
    /// done already, or while a `recv` is pending.
    pub fn take_tokio(&self) -> Option<Rx> {
        if let Some(store) = &self.store {
            store.make_opaque();
        }
        self.queue.rx.try_lock().ok()?.take()
    }
}

#[pymethods]
impl Receiver {
    /// Receive the next item. Cancelled: nothing was received, and nothing is lost.
    ///
    /// Raises Closed when all senders are gone and nothing is left.
    fn recv(slf: &Bound<'_, Self>) -> RustFuture {
        let receiving = Arc::clone(&slf.get().queue).recv();
        RustFuture::holding("recv", slf.clone().unbind(), receiving, |item, _receiver| item?.received())
    }

    /// Receive an item now: Empty when there is none (or another task waits for it), Closed when none will come.
    fn try_recv(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.queue.try_recv()?.into_object(py)
    }

    /// `recv` for a thread without an event loop: sleeps without the GIL, for `timeout` seconds at most.
    ///
    /// Raises Closed, TimeoutError (nothing is lost), RuntimeError on the thread of a running event loop.
    #[pyo3(signature = (timeout = None))]
    fn blocking_recv(&self, py: Python<'_>, timeout: Option<Number>) -> PyResult<Py<PyAny>> {
        blocking::wait(py, "await recv()", timeout, Arc::clone(&self.queue).recv())??.into_object(py)
    }

    /// Refuse further items; those that were sent can still be received. While a task waits in `recv` this takes
    /// effect when that task next runs.
    fn close(&self) {
        self.queue.closing.wish();
        if let Ok(mut rx) = self.queue.rx.try_lock()
            && let Some(rx) = rx.as_mut()
        {
            rx.close();
        }
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(slf: &Bound<'_, Self>) -> RustFuture {
        let receiving = Arc::clone(&slf.get().queue).recv();
        RustFuture::holding("__anext__", slf.clone().unbind(), receiving, |item, _receiver| {
            item.map_err(end_of_iteration)?.received()
        })
    }

    /// Nobody but the receiver comes by what is in the queue.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.store.as_ref().map_or(Ok(()), |store| store.traverse(&visit))
    }

    fn __clear__(&self) {
        if let Some(store) = &self.store {
            store.clear();
        }
    }
}

/// A queue of at most `capacity` items: (sender, receiver).
///
/// Raises ValueError for a capacity below 1 or above 2**61 - 1.
#[pyfunction]
pub fn mpsc(capacity: i64) -> PyResult<(Sender, Receiver)> {
    let (tx, rx) = channel(within(capacity, "capacity", 1, Semaphore::MAX_PERMITS)?);
    Ok(ends(tx.into(), rx.into()))
}

/// A queue of any number of items, whose `send` never waits: (sender, receiver).
#[pyfunction]
pub fn unbounded() -> (Sender, Receiver) {
    let (tx, rx) = unbounded_channel();
    ends(tx.into(), rx.into())
}

fn ends(tx: Tx, rx: Rx) -> (Sender, Receiver) {
    let store = Arc::<Store>::default();
    (Sender::of(tx, Some(Arc::clone(&store))), Receiver::of(rx, Some(store)))
}
