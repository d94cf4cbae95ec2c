//! What a transport of datagrams knows. Guarded by the GIL.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::room::{Longest, Room};
use crate::accel::native_parts::OF_DATAGRAMS;
use crate::core::flow::Flow;
use crate::core::waiting::Waiting;
use crate::io::address::Address;
use crate::io::poller::Interest;
use crate::io::transport::{self, Stage};
use crate::io::watch::Watch;
use crate::py::call::{self, Object};
use crate::py::cell::GilCell;
use crate::py::error::Slim;
use crate::sched::LoopState;
use crate::sched::counters::Counters;

/// The objects of a transport, which are gone when it is over.
pub struct Objects {
    pub event_loop: Py<LoopState>,
    pub sock: Py<PyAny>,
    pub protocol: Py<PyAny>,
    /// The context that the protocol's methods are called in: a copy of the one that the transport was made in.
    pub context: Py<PyAny>,
    /// Who made the transport, and waits for it.
    pub waiter: Option<Py<PyAny>>,
    pub watch: Arc<Watch>,
    pub room: Arc<Room>,
}

/// A datagram that was received, and its sender as Python sees it.
pub type Arrived = (Py<PyBytes>, Py<PyAny>);

/// What the program gave with a datagram that waits; None for one that goes to the endpoint's peer.
pub type Addressee = Option<Py<PyAny>>;

/// A sender, or an addressee, and its address as the kernel has it.
pub struct Peer {
    pub object: Py<PyAny>,
    pub address: Address,
}

/// What is fixed about an endpoint.
pub struct Kind {
    pub fd: RawFd,
    /// The family of a socket of Python's own class, which the kernel is asked for datagrams of; None for any other.
    pub family: Option<libc::c_int>,
    /// What it sends goes to its peer, without an address.
    pub is_connected: bool,
    /// Whether it sends empty datagrams; older versions of asyncio do not.
    pub sends_empty: bool,
}

impl Kind {
    /// How long its datagrams may be.
    pub fn longest(&self) -> Longest {
        if self.family == Some(libc::AF_UNIX) { Longest::Unix } else { Longest::Internet }
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is one of asyncio's own attributes, or a fact of its own")]
pub struct State {
    pub objects: Option<Objects>,
    pub stage: Stage,
    /// asyncio's `_address`, if it is true: the only one that it sends to.
    pub remote: Option<Py<PyAny>>,
    /// asyncio's `_closing`: nothing is received any more.
    pub closing: bool,
    /// asyncio's `_conn_lost`: `connection_lost` is queued or has been called. Counts the writes since, too.
    pub lost: u32,
    /// asyncio's `_paused`: of reading.
    pub paused: bool,
    /// There may be something to receive.
    pub readable: bool,
    /// The last event has told of an error: a receive of fewer than there is room for may have left it.
    pub more_than_data: bool,
    /// The kernel takes more than it did when something was left to send.
    pub writable: bool,
    /// It is in the loop's queue.
    pub queued: bool,
    /// The loop keeps it alive (`hold`).
    pub held: bool,
    /// What the kernel is told to tell.
    pub told: Interest,
    /// What was received with others, and has not been given to the protocol.
    pub arrived: VecDeque<Arrived>,
    pub waiting: Waiting<PyBackedBytes, Addressee>,
    pub flow: Flow,
    /// What `connection_lost` is to be told.
    pub reason: Option<Py<PyAny>>,
    /// The sender of the last datagram, and the last addressee.
    pub sender: Option<Box<Peer>>,
    pub addressee: Option<Box<Peer>>,
}

impl State {
    /// Whether it gives the protocol what arrives.
    #[inline]
    pub fn reads(&self) -> bool {
        self.stage == Stage::Connected && !self.closing && !self.paused && self.lost == 0
    }

    /// Whether there is something for a turn to do.
    #[inline]
    pub fn has_work(&self) -> bool {
        (self.reads() && (self.readable || !self.arrived.is_empty()))
            || (self.stage == Stage::Connected && self.writable && !self.waiting.is_empty())
    }

    /// What the kernel is to tell of: more would wake the loop for each datagram that has gone out.
    pub fn interest(&self) -> Interest {
        let is_on = self.stage == Stage::Connected && self.objects.is_some();
        Interest { read: is_on && self.reads(), write: is_on && !self.waiting.is_empty() }
    }
}

/// The native part of a transport: what it knows, and what of it Python asks for.
#[pyclass(frozen, name = "_Datagrams", module = "pyloop._native")]
pub struct Datagrams {
    pub kind: Kind,
    pub state: GilCell<State>,
}

impl Datagrams {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.state.peek_in_traverse(visit) else { return Ok(()) };
        visit.call(&state.reason)?;
        visit.call(&state.remote)?;
        state.arrived.iter().try_for_each(|(_, sender)| visit.call(sender))?;
        state.waiting.iter().try_for_each(|(_, addressee)| visit.call(addressee))?;
        let Some(objects) = &state.objects else { return Ok(()) };
        visit.call(&objects.event_loop)?;
        visit.call(&objects.sock)?;
        visit.call(&objects.protocol)?;
        visit.call(&objects.context)?;
        visit.call(&objects.waiter)
    }
}

/// A transport, as an object and its native part.
#[derive(Clone, Copy)]
pub struct Transport<'a, 'py> {
    /// The instance of `pyloop._datagrams.DatagramTransport`.
    pub object: &'a Bound<'py, PyAny>,
    pub datagrams: &'a Bound<'py, Datagrams>,
}

impl<'py> Transport<'_, 'py> {
    pub fn py(self) -> Python<'py> {
        self.object.py()
    }

    pub fn kind(&self) -> &Kind {
        &self.datagrams.get().kind
    }

    #[inline]
    pub fn with<R>(self, f: impl FnOnce(&mut State) -> R) -> R {
        self.datagrams.get().state.with(self.py(), f)
    }

    /// Count something, with its loop's counters.
    #[inline]
    pub fn counted(self, count: impl FnOnce(&Counters)) {
        self.with(|state| state.objects.as_ref().map(|objects| count(&objects.event_loop.get().counters)));
    }

    /// One of its objects, while it lives.
    #[inline]
    pub fn part<T>(self, part: impl FnOnce(&Objects) -> &Py<T>) -> Option<Bound<'py, T>> {
        let py = self.py();
        self.with(|state| state.objects.as_ref().map(|objects| part(objects).clone_ref(py))).map(|it| it.into_bound(py))
    }

    /// Have the loop keep it alive while it receives, or has something to send; asyncio's loop has a callback then. One
    /// that is paused lives as long as somebody knows it.
    ///
    /// # Errors
    /// MemoryError.
    pub fn hold(self) -> PyResult<()> {
        let watch = |state: &mut State| {
            let holds = !state.paused || !state.waiting.is_empty();
            let is_held = std::mem::replace(&mut state.held, holds);
            let objects = state.objects.as_ref().filter(|_| state.stage == Stage::Connected && holds != is_held)?;
            Some((Arc::clone(&objects.watch), holds))
        };
        match self.with(watch) {
            Some((watch, holds)) => watch.hold_transport(self.kind().fd, self.object, holds),
            None => Ok(()),
        }
    }

    /// Have the loop look after it in its next turn: something can be received or sent.
    pub fn queue(self) {
        let Some(event_loop) = self.part(|objects| &objects.event_loop) else { return };
        if !self.with(|state| std::mem::replace(&mut state.queued, true)) {
            transport::queue(event_loop.get(), self.object);
        }
    }
}

/// `pyloop._datagrams.DatagramTransport`.
static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// This is the class of transports of datagrams.
pub fn set_class(class: &Bound<'_, PyType>) {
    CLASS.get_or_init(class.py(), || class.clone().unbind());
}

/// Whether this is a transport of datagrams.
#[inline]
pub fn is_of_datagrams(transport: &Bound<'_, PyAny>) -> bool {
    let py = transport.py();
    CLASS.get(py).is_some_and(|class| call::has_type(transport, class.bind(py)))
}

/// The native part of a transport.
///
/// # Errors
/// AttributeError, TypeError: it is none of ours, or not initialized.
#[inline]
pub fn datagrams_of<'py>(transport: &Bound<'py, PyAny>) -> Slim<Bound<'py, Datagrams>> {
    if let Some(part) = OF_DATAGRAMS.held(transport)
        && let Ok(datagrams) = part.cast_exact::<Datagrams>()
    {
        return Ok(datagrams.to_owned());
    }
    let datagrams = transport.try_getattr(pyo3::intern!(transport.py(), "_datagrams")).map_err(Box::new)?;
    datagrams.cast_into::<Datagrams>().map_err(|failed| Box::new(failed.into()))
}
