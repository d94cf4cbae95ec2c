//! Who waits for which descriptor: `add_reader`/`add_writer` (level-triggered callbacks, one each) and the waiters of
//! the `sock_*` futures (once, any number). What the kernel is told of them is `registrations`' affair.
//! Guarded by the GIL.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::{Context, Waker};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};

use super::descriptor;
use super::poller::{Event, Events, Interest, SHORT_MEANS_DRAINED};
use super::protocol_of::is_tcp;
use super::registrations::{Found, Registrations};
use super::watched::{Data, Holder, Side, Watched};
use crate::py::cell::GilCell;
use crate::py::error;
use crate::sched::LoopState;
use crate::sched::clock::clock;
use crate::sched::entry::Entry;
use crate::sched::handle::Handle;
use crate::sched::reactor::Reactor;
use crate::sched::sleep;

/// The watched descriptors of one loop.
pub struct Watch {
    registrations: GilCell<Registrations>,
    /// The lists of the last look, empty.
    spare: GilCell<Found>,
    /// What the last sleep has ended with, empty.
    events: GilCell<Option<Events>>,
    /// The loop, for those who must not keep it alive.
    event_loop: GilCell<Option<Py<PyWeakrefReference>>>,
    /// Tells a transport of an event.
    tell: fn(&Bound<'_, PyAny>, Event),
}

impl Watch {
    /// `tell`: tells a transport of what happened to its descriptor; it runs no Python code.
    ///
    /// # Errors
    /// OSError when no poller can be made.
    pub fn new(tell: fn(&Bound<'_, PyAny>, Event)) -> PyResult<Arc<Self>> {
        let registrations = Registrations::new().map_err(|failed| error::os_error(&failed))?;
        Ok(Arc::new(Self {
            registrations: GilCell::new(registrations),
            spare: GilCell::default(),
            events: GilCell::default(),
            event_loop: GilCell::default(),
            tell,
        }))
    }

    /// It is this loop's.
    ///
    /// # Errors
    /// MemoryError.
    pub fn belong_to(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        if self.event_loop.with(py, |known| known.is_none()) {
            let reference = PyWeakrefReference::new(event_loop)?.unbind();
            drop(self.event_loop.replace(py, Some(reference)));
        }
        Ok(())
    }

    /// The loop, if it is there still.
    pub fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let reference = self.event_loop.with(py, |known| known.as_ref().map(|known| known.clone_ref(py)));
        reference.and_then(|reference| reference.bind(py).upgrade())
    }

    /// Which callbacks a descriptor has: bit 0 a reader, bit 1 a writer.
    pub fn callbacks(&self, py: Python<'_>, fd: RawFd) -> u8 {
        self.registrations.with(py, |all| all.get(fd).map_or(0, |watched| watched.mask()))
    }

    /// The descriptors that somebody waits for, with bit 0 for reading and bit 1 for writing.
    pub fn all(&self, py: Python<'_>) -> Vec<(RawFd, u8)> {
        let mask = |wanted: Interest| u8::from(wanted.read) | u8::from(wanted.write) << 1;
        self.registrations.with(py, |all| {
            all.iter().map(|(fd, watched)| (fd, mask(watched.wanted()))).filter(|&(_, mask)| mask != 0).collect()
        })
    }

    /// The transports that have descriptors.
    pub fn transports(&self, py: Python<'_>) -> Vec<(RawFd, Py<PyAny>)> {
        self.registrations.with(py, |all| {
            all.iter().filter_map(|(fd, watched)| Some((fd, watched.transport(py)?.unbind()))).collect()
        })
    }

    /// How many descriptors somebody waits for, and how many transports have one.
    pub fn count(&self, py: Python<'_>) -> (usize, usize) {
        self.registrations.with(py, |all| {
            let awaited = all.iter().filter(|(_, watched)| !watched.wanted().is_empty()).count();
            (awaited, all.iter().filter(|(_, watched)| watched.has_transport()).count())
        })
    }

    /// The descriptor that callbacks were added for by this object (`selectors._fileobj_lookup`, for one that is
    /// closed).
    pub fn of_file(&self, object: &Bound<'_, PyAny>) -> Option<RawFd> {
        let found = |all: &mut Registrations| all.iter().find(|(_, watched)| watched.is_file(object)).map(|(fd, _)| fd);
        self.registrations.with(object.py(), found)
    }

    /// `_add_reader` or `_add_writer`: replaces (and cancels) the callback that was there. `file`: the object that was
    /// given for the descriptor, if it was one.
    ///
    /// # Errors
    /// ValueError for a negative descriptor; OSError for one that cannot be watched.
    pub fn add(
        &self,
        py: Python<'_>,
        fd: RawFd,
        file: Option<Py<PyAny>>,
        side: Side,
        handle: Py<Handle>,
    ) -> PyResult<()> {
        if fd < 0 {
            return Err(descriptor::invalid(fd));
        }
        let (told, old, file, gone) = self.registrations.with(py, |all| {
            let watched = all.entry(fd);
            let old = watched.set_callback(side, Some(handle));
            match all.tell(fd) {
                Ok(()) => {
                    let file = file.and_then(|file| all.entry(fd).set_file(Some(file)));
                    (Ok(()), old, file, None)
                }
                Err(failed) => {
                    // As it was.
                    let refused = all.entry(fd).set_callback(side, old);
                    (Err(failed), refused, file, all.forget_large(fd))
                }
            }
        });
        drop((file, gone));
        told.map_err(|failed| error::os_error(&failed))?;
        if let Some(old) = old {
            Handle::cancel_once(old.bind(py));
        }
        Ok(())
    }

    /// `_remove_reader` or `_remove_writer`: false when there was none.
    pub fn remove(&self, py: Python<'_>, fd: RawFd, side: Side) -> bool {
        let (old, file, gone) = self.registrations.with(py, |all| {
            let Some(watched) = all.get(fd) else { return (None, None, None) };
            let Some(old) = watched.set_callback(side, None) else { return (None, None, None) };
            let file = if watched.mask() == 0 { watched.set_file(None) } else { None };
            // Closed behind our back: there is nothing to tell.
            drop(all.tell(fd));
            (Some(old), file, all.forget_large(fd))
        });
        drop((file, gone));
        if let Some(old) = &old {
            Handle::cancel_once(old.bind(py));
        }
        old.is_some()
    }

    /// A `sock_*` future waits once more for a socket that is registered: the id takes it back. None: it must `wait`.
    #[inline]
    pub fn wait_again(&self, sock: &Bound<'_, PyAny>, fd: RawFd, side: Side, waker: &Waker) -> Option<u64> {
        self.registrations.with(sock.py(), |all| all.wait_again(sock, fd, side, waker))
    }

    /// A `sock_*` future of this socket waits for its descriptor; the id takes it back. `drains`: it is a socket of
    /// Python's own class, that waits when the kernel has nothing more for it; a registration of such a one is kept.
    ///
    /// # Errors
    /// ValueError for a negative descriptor; OSError for one that cannot be watched; RuntimeError when the loop is
    /// closed.
    pub fn wait(&self, sock: &Bound<'_, PyAny>, fd: RawFd, side: Side, drains: bool, waker: &Waker) -> PyResult<u64> {
        let py = sock.py();
        if fd < 0 {
            return Err(descriptor::invalid(fd));
        }
        let kept =
            drains && self.registrations.with(py, |all| all.get(fd).is_some_and(|watched| watched.is_kept_for(sock)));
        let (owner, data) = if drains && !kept {
            let data = if SHORT_MEANS_DRAINED && is_tcp(fd) { Data::Perhaps } else { Data::Always };
            (PyWeakrefReference::new(sock).ok().map(Bound::unbind), data)
        } else {
            (None, Data::Always)
        };
        let (waiting, old, gone, is_closed) = self.registrations.with(py, |all| {
            let mut old = None;
            if !kept {
                let watched = all.entry(fd);
                old = watched.set_owner(owner);
                watched.data = data;
            }
            let waiting = all.wait(fd, side, waker);
            (waiting, old, all.forget_large(fd), all.is_closed())
        });
        drop((old, gone));
        waiting.map_err(|failed| if is_closed { closed() } else { error::os_error(&failed) })
    }

    /// A receive on this socket got less than it asked for.
    pub fn drained(&self, sock: &Bound<'_, PyAny>, fd: RawFd) {
        self.registrations.with(sock.py(), |all| {
            let known = all.get(fd).filter(|watched| watched.data == Data::Perhaps);
            if let Some(watched) = known.filter(|watched| watched.is_kept_for(sock)) {
                watched.data = Data::Drained;
            }
        });
    }

    /// Whether a receive on this socket would block, as far as is known: an event will tell otherwise.
    #[inline]
    pub fn is_drained(&self, sock: &Bound<'_, PyAny>, fd: RawFd) -> bool {
        self.registrations.with(sock.py(), |all| {
            let known = all.get(fd).filter(|watched| watched.data == Data::Drained && watched.told.read);
            known.is_some_and(|watched| watched.is_kept_for(sock))
        })
    }

    /// A future waits no more. `for_good`: it is gone.
    pub fn wait_no_more(&self, py: Python<'_>, fd: RawFd, side: Side, id: u64, for_good: bool) {
        let (waker, gone) = self.registrations.with(py, |all| {
            let waker = all.wait_no_more(fd, side, id, for_good);
            let gone = if waker.is_some() { all.forget_large(fd) } else { None };
            (waker, gone)
        });
        drop((waker, gone));
    }

    /// The descriptor is this transport's; nothing is told of it yet.
    ///
    /// # Errors
    /// ValueError for a negative descriptor.
    pub fn add_transport(&self, fd: RawFd, transport: Bound<'_, PyAny>) -> PyResult<()> {
        if fd < 0 {
            return Err(descriptor::invalid(fd));
        }
        let py = transport.py();
        let transport = Holder::Held(transport.unbind());
        drop(self.registrations.with(py, |all| all.entry(fd).set_transport(Some(transport))));
        Ok(())
    }

    /// Keep the transport of the descriptor alive, or know it only.
    ///
    /// # Errors
    /// MemoryError.
    pub fn hold_transport(&self, fd: RawFd, transport: &Bound<'_, PyAny>, holds: bool) -> PyResult<()> {
        let holder = if holds {
            Holder::Held(transport.clone().unbind())
        } else {
            Holder::Known(PyWeakrefReference::new(transport)?.unbind())
        };
        drop(self.registrations.with(transport.py(), |all| {
            let watched = all.get(fd).filter(|watched| watched.is_of(transport));
            match watched {
                Some(watched) => watched.set_transport(Some(holder)),
                None => Some(holder),
            }
        }));
        Ok(())
    }

    /// Have the kernel tell the transport of the descriptor: once of each thing of this sort that begins.
    ///
    /// # Errors
    /// OSError for what cannot be watched.
    pub fn watch_transport(&self, py: Python<'_>, fd: RawFd, interest: Interest) -> PyResult<()> {
        let told = self.registrations.with(py, |all| all.tell_transport(fd, interest));
        told.map_err(|failed| error::os_error(&failed))
    }

    /// The descriptor is the transport's no more.
    #[must_use = "what is dropped may run Python code: say where"]
    pub fn remove_transport(&self, py: Python<'_>, fd: RawFd, transport: &Bound<'_, PyAny>) -> Option<Holder> {
        let (known, gone) = self.registrations.with(py, |all| {
            let Some(watched) = all.get(fd).filter(|watched| watched.is_of(transport)) else { return (None, None) };
            let known = watched.set_transport(None);
            // Closed behind our back: there is nothing to tell.
            drop(all.tell_transport(fd, Interest::NONE));
            (known, all.forget_large(fd))
        });
        drop(gone);
        known
    }

    /// The transport that has the descriptor.
    pub fn transport(&self, py: Python<'_>, fd: RawFd) -> Option<Py<PyAny>> {
        self.registrations.with(py, |all| all.get(fd)?.transport(py).map(Bound::unbind))
    }

    /// Queue the callbacks and wake the waiters of what is ready, as `look` finds it. True: look again in the next
    /// turn.
    fn harvest(
        &self,
        py: Python<'_>,
        state: &LoopState,
        look: impl FnOnce(&mut Registrations, &mut Found) -> io::Result<bool>,
    ) -> PyResult<bool> {
        let mut found = self.spare.take(py);
        let looked = self.registrations.with(py, |all| look(all, &mut found));
        state.counters.events.add(py, std::mem::take(&mut found.events));
        for handle in found.handles.drain(..) {
            state.push(py, Entry::Watcher(handle));
        }
        for (transport, event) in found.transports.drain(..) {
            (self.tell)(transport.bind(py), event);
        }
        wake(&mut found.wakers);
        drop(self.spare.replace(py, found));
        match looked {
            Ok(look_again) => Ok(look_again),
            Err(failed) if failed.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(failed) => Err(error::os_error(&failed)),
        }
    }
}

fn closed() -> PyErr {
    PyRuntimeError::new_err("Event loop is closed")
}

fn wake(wakers: &mut Vec<Waker>) {
    wakers.drain(..).for_each(Waker::wake);
}

impl Reactor for Watch {
    fn watch_by_driver(&self, py: Python<'_>) -> PyResult<bool> {
        self.registrations.with(py, Registrations::watch_by_driver).map_err(|failed| error::os_error(&failed))
    }

    fn end_sleep_by(&self, py: Python<'_>, fd: RawFd) -> io::Result<()> {
        self.registrations.with(py, |all| all.end_sleep_by(fd))
    }

    fn sleep(&self, py: Python<'_>, state: &LoopState) -> PyResult<bool> {
        let Some(poller) = self.registrations.with(py, |all| all.poller()) else { return Ok(false) };
        let mut events = self.events.take(py).unwrap_or_default();
        sleep::fall_asleep(&state.shared.times);
        let slept = poller.sleep(&mut events);
        sleep::wake_up(&state.shared.times);
        // What is queued from here on needs no wake.
        state.shared.inbox.enter();
        let looked = match slept {
            Ok(()) => {
                let now = state.shared.times.busy_since();
                self.harvest(py, state, |all, found| Ok(all.woken(py, &mut events, now, found)))
            }
            Err(failed) => Err(error::os_error(&failed)),
        };
        drop(self.events.replace(py, Some(events)));
        looked
    }

    fn poll_ready(&self, py: Python<'_>, state: &LoopState, cx: &mut Context<'_>, look: bool) -> PyResult<bool> {
        let (ready, mut wakers) = self.registrations.with(py, |all| (all.poll(cx, look), all.check_while_busy(clock)));
        wake(&mut wakers);
        if ready.map_err(|failed| error::os_error(&failed))? { self.look(py, state) } else { Ok(false) }
    }

    fn has_connections(&self, py: Python<'_>) -> bool {
        self.registrations.with(py, |all| all.has_transports())
    }

    fn is_watching(&self, py: Python<'_>) -> bool {
        self.registrations.with(py, |all| all.is_watching())
    }

    fn is_look_due(&self, py: Python<'_>) -> bool {
        self.registrations.with(py, |all| all.is_look_due(clock))
    }

    fn look(&self, py: Python<'_>, state: &LoopState) -> PyResult<bool> {
        self.harvest(py, state, |all, found| all.look(py, found))
    }

    fn expects_more(&self, py: Python<'_>) -> bool {
        self.registrations.with(py, |all| all.expects_more())
    }

    fn before_sleep(&self, py: Python<'_>) -> Option<u64> {
        let (mut wakers, check_at) = self.registrations.with(py, |all| (all.settle(), all.next_check(clock)));
        wake(&mut wakers);
        check_at
    }

    fn check(&self, py: Python<'_>, now: u64) {
        wake(&mut self.registrations.with(py, |all| all.check(now)));
    }

    fn close(&self, py: Python<'_>) {
        let table = self.registrations.with(py, Registrations::close);
        for mut watched in table.into_values() {
            for handle in watched.take_callbacks().into_iter().flatten() {
                Handle::cancel_once(handle.bind(py));
            }
        }
    }

    fn leave_to_parent(&self, py: Python<'_>) {
        std::mem::forget(self.registrations.with(py, Registrations::close));
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(all) = self.registrations.peek_in_traverse(visit) else { return Ok(()) };
        all.iter().try_for_each(|(_, watched): (RawFd, &Watched)| watched.traverse(visit))
    }
}
