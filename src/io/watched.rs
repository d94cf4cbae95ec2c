//! One watched descriptor: its callbacks, the `sock_*` futures that wait for it, and what the kernel was told.
//! Guarded by the GIL; nothing here runs Python code.

use std::task::Waker;

use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};

use super::poller::{Interest, Trigger};
use crate::sched::handle::Handle;

/// Which side of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Read,
    Write,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Read, Self::Write];

    pub fn interest(self) -> Interest {
        Interest { read: self == Self::Read, write: self == Self::Write }
    }
}

/// Whether a receive is worth a system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// As far as is known.
    Perhaps,
    /// The last receive got less than it asked for, and no event has come since.
    Drained,
    /// Always: it is no TCP socket, or the end of the stream or urgent data have come.
    #[default]
    Always,
}

/// How a transport is known.
#[derive(Debug)]
pub enum Holder {
    /// It is kept alive.
    Held(Py<PyAny>),
    /// It lives as long as somebody else keeps it.
    Known(Py<PyWeakrefReference>),
}

/// What is known of a descriptor that is watched, or was a moment ago.
#[derive(Debug, Default)]
pub struct Watched {
    callbacks: [Option<Py<Handle>>; 2],
    /// The object that the callbacks were added for. Kept as `selectors` keep it: a socket that was closed is found by
    /// it, as its number is gone.
    file: Option<Py<PyAny>>,
    waiting: [Vec<(u64, Waker)>; 2],
    /// The transport that has the descriptor.
    transport: Option<Holder>,
    /// What the kernel is to tell the transport, once of each.
    pub tells_transport: Interest,
    /// What the kernel was told; nothing, when it refused.
    pub told: Interest,
    /// The number of that registration.
    pub generation: u32,
    /// The socket object that an edge-triggered registration is for, as the number alone does not say it.
    owner: Option<Py<PyWeakrefReference>>,
    pub data: Data,
    /// It is in the list of those for which the kernel may have been told more than is waited for.
    pub is_loose: bool,
    /// It is in the list of those that wait without the kernel having been told anew.
    pub is_unchecked: bool,
    /// In which period of checks the last such wait began.
    pub since: u32,
}

impl Watched {
    /// What somebody waits for.
    pub fn wanted(&self) -> Interest {
        let wanted = |side: Side| {
            side.interest().is_within(self.tells_transport)
                || self.callbacks[side as usize].is_some()
                || !self.waiting[side as usize].is_empty()
        };
        Interest { read: wanted(Side::Read), write: wanted(Side::Write) }
    }

    /// asyncio's callbacks are called as long as there is something; a future waits for what it has just not found.
    pub fn trigger(&self) -> Trigger {
        if self.callbacks.iter().any(Option::is_some) { Trigger::Level } else { Trigger::Edge }
    }

    pub fn has_waiters(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    pub fn callback(&self, side: Side) -> Option<&Py<Handle>> {
        self.callbacks[side as usize].as_ref()
    }

    /// The callback that was there before.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn set_callback(&mut self, side: Side, callback: Option<Py<Handle>>) -> Option<Py<Handle>> {
        std::mem::replace(&mut self.callbacks[side as usize], callback)
    }

    /// Both callbacks: those that a closing loop cancels.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn take_callbacks(&mut self) -> [Option<Py<Handle>>; 2] {
        std::mem::take(&mut self.callbacks)
    }

    /// Bit 0: it has a reader, bit 1: a writer (as `selectors.EVENT_READ` and `EVENT_WRITE`).
    pub fn mask(&self) -> u8 {
        Side::BOTH.map(|side| u8::from(self.callback(side).is_some()) << side as u8).iter().sum()
    }

    /// The callbacks are added for this object; what was known before.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn set_file(&mut self, file: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        std::mem::replace(&mut self.file, file)
    }

    pub fn is_file(&self, object: &Bound<'_, PyAny>) -> bool {
        self.file.as_ref().is_some_and(|file| file.is(object))
    }

    pub fn has_transport(&self) -> bool {
        self.transport.is_some()
    }

    /// The transport, if it is alive.
    pub fn transport<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self.transport.as_ref()? {
            Holder::Held(transport) => Some(transport.bind(py).clone()),
            Holder::Known(reference) => reference.bind(py).upgrade(),
        }
    }

    /// Whether the descriptor is this transport's. One that is on its end is not found by its weak reference any more.
    pub fn is_of(&self, transport: &Bound<'_, PyAny>) -> bool {
        match &self.transport {
            None => false,
            Some(Holder::Held(known)) => known.is(transport),
            // The caller has the object, so the reference that is dropped here is not its last.
            Some(Holder::Known(known)) => known.bind(transport.py()).upgrade().is_none_or(|known| known.is(transport)),
        }
    }

    /// The descriptor is this transport's from now on; the one that had it.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn set_transport(&mut self, transport: Option<Holder>) -> Option<Holder> {
        std::mem::replace(&mut self.transport, transport)
    }

    pub fn push_waiter(&mut self, side: Side, id: u64, waker: Waker) {
        self.waiting[side as usize].push((id, waker));
    }

    /// Its waker, if it still waits.
    pub fn take_waiter(&mut self, side: Side, id: u64) -> Option<Waker> {
        let waiting = &mut self.waiting[side as usize];
        let place = waiting.iter().position(|&(known, _)| known == id)?;
        Some(waiting.remove(place).1)
    }

    /// Those that wait for a side wait no more.
    pub fn take_waiters(&mut self, side: Side, wakers: &mut Vec<Waker>) {
        wakers.extend(self.waiting[side as usize].drain(..).map(|(_, waker)| waker));
    }

    /// All wait no more.
    pub fn take_all_waiters(&mut self, wakers: &mut Vec<Waker>) {
        Side::BOTH.into_iter().for_each(|side| self.take_waiters(side, wakers));
    }

    /// Whether the registration is edge-triggered and was made for this socket object: no other has come under its
    /// number.
    pub fn is_kept_for(&self, sock: &Bound<'_, PyAny>) -> bool {
        if self.trigger() == Trigger::Level {
            return false;
        }
        // The caller has the object, so the reference that is dropped here is not its last.
        let known = |owner: &Py<PyWeakrefReference>| owner.bind(sock.py()).upgrade();
        self.owner.as_ref().and_then(known).is_some_and(|known| known.is(sock))
    }

    /// The owner before.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn set_owner(&mut self, owner: Option<Py<PyWeakrefReference>>) -> Option<Py<PyWeakrefReference>> {
        std::mem::replace(&mut self.owner, owner)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.callbacks.iter().try_for_each(|callback| visit.call(callback))?;
        match &self.transport {
            Some(Holder::Held(transport)) => visit.call(transport)?,
            Some(Holder::Known(reference)) => visit.call(reference)?,
            None => {}
        }
        visit.call(&self.file)
    }
}
