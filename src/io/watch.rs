//! Who waits for which descriptor: `add_reader`/`add_writer` (level-triggered callbacks, one each) and the waiters of
//! the `sock_*` futures (once, any number).
//!
//! A descriptor that only such futures use is edge-triggered and stays registered: a wait after "would block" needs no
//! system call, an event that nobody waits for is nobody's. It counts as registered for the socket object that it was
//! registered with (a weak reference tells), as descriptors are closed and numbers used again behind our back. One
//! with a reader or a writer is level-triggered: after events of such descriptors the next turn looks again.
//! Guarded by the GIL.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};
use tokio::io::Interest as TokioInterest;
use tokio::io::unix::AsyncFd;

use super::poller::{Event, Interest, Poller, SHORT_MEANS_DRAINED, Trigger};
use crate::py::cell::GilCell;
use crate::py::error;
use crate::rt::process::ProcessBound;
use crate::sched::LoopState;
use crate::sched::handle::Handle;
use crate::sched::state::{Entry, Reactor};

/// Which side of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Read,
    Write,
}

#[derive(Debug, Default)]
struct Watched {
    reader: Option<Py<Handle>>,
    writer: Option<Py<Handle>>,
    readers_waiting: Vec<(u64, Waker)>,
    writers_waiting: Vec<(u64, Waker)>,
    /// What the poller was last told.
    told: Interest,
    /// The socket object that an edge-triggered registration is for.
    owner: Option<Py<PyWeakrefReference>>,
    /// What is known of the owner's data.
    data: Data,
}

/// Whether a receive is worth a system call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Data {
    /// As far as is known.
    Perhaps,
    /// The last receive got less than it asked for, and no event has come since.
    Drained,
    /// Always: it is no TCP socket, or the end of the stream or urgent data have come.
    #[default]
    Always,
}

impl Watched {
    fn wanted(&self) -> Interest {
        Interest {
            read: self.reader.is_some() || !self.readers_waiting.is_empty(),
            write: self.writer.is_some() || !self.writers_waiting.is_empty(),
        }
    }

    fn is_level(&self) -> bool {
        self.reader.is_some() || self.writer.is_some()
    }

    fn callback(&mut self, side: Side) -> &mut Option<Py<Handle>> {
        match side {
            Side::Read => &mut self.reader,
            Side::Write => &mut self.writer,
        }
    }

    fn waiting(&mut self, side: Side) -> &mut Vec<(u64, Waker)> {
        match side {
            Side::Read => &mut self.readers_waiting,
            Side::Write => &mut self.writers_waiting,
        }
    }
}

#[derive(Debug, Default)]
struct Table {
    /// By descriptor: they are small numbers.
    watched: Vec<Watched>,
    next_id: u64,
    /// A level-triggered descriptor was ready in the last look and may be so still.
    look_again: bool,
}

impl Table {
    fn entry(&mut self, fd: RawFd) -> &mut Watched {
        let index = fd as usize;
        if index >= self.watched.len() {
            self.watched.resize_with(index + 1, Watched::default);
        }
        &mut self.watched[index]
    }

    fn known(&mut self, fd: RawFd) -> Option<&mut Watched> {
        self.watched.get_mut(usize::try_from(fd).ok()?)
    }
}

/// The watched descriptors of one loop.
pub struct Watch {
    poller: Arc<Poller>,
    table: GilCell<Table>,
    in_tokio: GilCell<Option<ProcessBound<AsyncFd<Arc<Poller>>>>>,
}

impl Watch {
    /// # Errors
    /// OSError when no poller can be made.
    pub fn new() -> PyResult<Arc<Self>> {
        let poller = Poller::new().map_err(|failed| error::os_error(&failed))?;
        let (table, in_tokio) = (GilCell::default(), GilCell::default());
        Ok(Arc::new(Self { poller: Arc::new(poller), table, in_tokio }))
    }

    /// Which callbacks a descriptor has: bit 0 a reader, bit 1 a writer.
    pub fn callbacks(&self, py: Python<'_>, fd: RawFd) -> u8 {
        self.table.with(py, |table| {
            let watched = table.known(fd);
            watched.map_or(0, |watched| u8::from(watched.reader.is_some()) | u8::from(watched.writer.is_some()) << 1)
        })
    }

    /// The descriptors that have callbacks, with what `callbacks` says of each.
    pub fn all(&self, py: Python<'_>) -> Vec<(RawFd, u8)> {
        let fds = self.table.with(py, |table| 0..table.watched.len() as RawFd);
        fds.map(|fd| (fd, self.callbacks(py, fd))).filter(|&(_, mask)| mask != 0).collect()
    }

    /// Tell the poller what a descriptor is watched for now.
    fn tell(&self, watched: &mut Watched, fd: RawFd) -> std::io::Result<()> {
        let wanted = watched.wanted();
        let before = std::mem::replace(&mut watched.told, wanted);
        if watched.data == Data::Drained {
            watched.data = Data::Perhaps;
        }
        if wanted.is_empty() {
            self.poller.remove(fd, before);
            return Ok(());
        }
        let trigger = if watched.is_level() { Trigger::Level } else { Trigger::Edge };
        self.poller.set(fd, wanted, before, trigger).inspect_err(|_| watched.told = before)
    }

    /// `_add_reader` or `_add_writer`: replaces (and cancels) the callback that was there.
    ///
    /// # Errors
    /// ValueError for a negative descriptor; OSError for one that cannot be watched.
    pub fn add(&self, py: Python<'_>, fd: RawFd, side: Side, handle: Py<Handle>) -> PyResult<()> {
        if fd < 0 {
            return Err(PyValueError::new_err(format!("Invalid file descriptor: {fd}")));
        }
        let told = self.table.with(py, |table| {
            let watched = table.entry(fd);
            let old = watched.callback(side).replace(handle);
            match self.tell(watched, fd) {
                Ok(()) => Ok(old),
                // As it was.
                Err(failed) => Err((failed, std::mem::replace(watched.callback(side), old))),
            }
        });
        match told {
            Ok(Some(old)) => {
                Handle::cancel_once(old.bind(py));
                Ok(())
            }
            Ok(None) => Ok(()),
            Err((failed, refused)) => {
                drop(refused);
                Err(error::os_error(&failed))
            }
        }
    }

    /// `_remove_reader` or `_remove_writer`: false when there was none.
    pub fn remove(&self, py: Python<'_>, fd: RawFd, side: Side) -> bool {
        let old = self.table.with(py, |table| {
            let watched = table.known(fd)?;
            let old = watched.callback(side).take()?;
            // Closed behind our back: there is nothing to tell.
            drop(self.tell(watched, fd));
            Some(old)
        });
        match old {
            Some(old) => {
                Handle::cancel_once(old.bind(py));
                true
            }
            None => false,
        }
    }

    /// A `sock_*` future of this socket waits for its descriptor; the id takes it back.
    ///
    /// # Errors
    /// OSError for a descriptor that cannot be watched.
    pub fn wait(&self, sock: &Bound<'_, PyAny>, fd: RawFd, side: Side, waker: &Waker) -> PyResult<u64> {
        let py = sock.py();
        let waker = waker.clone();
        let owned = self.is_owned(sock, fd);
        // None for an object without weak references: it is registered anew for each wait.
        let owner = if owned { None } else { PyWeakrefReference::new(sock).ok().map(Bound::unbind) };
        let (waiting, old) = self.table.with(py, |table| {
            table.next_id += 1;
            let id = table.next_id;
            let watched = table.entry(fd);
            watched.waiting(side).push((id, waker));
            let wanted = watched.wanted();
            let registered = owned && (wanted.read <= watched.told.read) && (wanted.write <= watched.told.write);
            let old = if owned {
                None
            } else {
                watched.data = if SHORT_MEANS_DRAINED && is_tcp(fd) { Data::Perhaps } else { Data::Always };
                std::mem::replace(&mut watched.owner, owner)
            };
            if !registered && let Err(failed) = self.tell(watched, fd) {
                watched.waiting(side).pop();
                return (Err(failed), old);
            }
            (Ok(id), old)
        });
        drop(old);
        waiting.map_err(|failed| error::os_error(&failed))
    }

    /// Whether the descriptor is registered, edge-triggered, for this very socket object.
    fn is_owned(&self, sock: &Bound<'_, PyAny>, fd: RawFd) -> bool {
        let py = sock.py();
        let owner = self.table.with(py, |table| {
            let watched = table.known(fd)?;
            if watched.is_level() { None } else { watched.owner.as_ref().map(|owner| owner.clone_ref(py)) }
        });
        owner.is_some_and(|owner| owner.bind(py).upgrade().is_some_and(|known| known.is(sock)))
    }

    /// A receive on this socket got less than it asked for.
    pub fn drained(&self, sock: &Bound<'_, PyAny>, fd: RawFd) {
        if !self.is_owned(sock, fd) {
            return;
        }
        self.table.with(sock.py(), |table| {
            if let Some(watched) = table.known(fd).filter(|watched| watched.data == Data::Perhaps) {
                watched.data = Data::Drained;
            }
        });
    }

    /// Whether a receive on this socket would block, as far as is known: an event will tell otherwise.
    pub fn is_drained(&self, sock: &Bound<'_, PyAny>, fd: RawFd) -> bool {
        let drained = self.table.with(sock.py(), |table| {
            table.known(fd).is_some_and(|watched| watched.data == Data::Drained && watched.told.read)
        });
        drained && self.is_owned(sock, fd)
    }

    /// The future is gone: it waits no more. An event that comes all the same finds nobody.
    pub fn forget(&self, py: Python<'_>, fd: RawFd, side: Side, id: u64) {
        self.table.with(py, |table| {
            let Some(watched) = table.known(fd) else { return };
            watched.waiting(side).retain(|(known, _)| *known != id);
        });
    }

    /// Queue the callbacks and wake the waiters of what is ready.
    fn harvest(&self, py: Python<'_>, state: &LoopState) {
        let mut wakers = Vec::new();
        let mut handles = Vec::new();
        let looked = self.table.with(py, |table| {
            table.look_again = false;
            let looked = self.poller.look(|event| self.ready(py, table, event, &mut handles, &mut wakers));
            if let Ok(count) = looked {
                table.look_again |= count == super::poller::EVENTS_AT_ONCE;
            }
            looked
        });
        drop(looked);
        for handle in handles {
            state.push(py, Entry::Watcher(handle));
        }
        for waker in wakers {
            waker.wake();
        }
    }

    fn ready(
        &self,
        py: Python<'_>,
        table: &mut Table,
        event: Event,
        handles: &mut Vec<Py<Handle>>,
        wakers: &mut Vec<Waker>,
    ) {
        let Some(watched) = table.known(event.fd) else { return };
        if event.more_than_data {
            watched.data = Data::Always;
        } else if event.read && watched.data == Data::Drained {
            watched.data = Data::Perhaps;
        }
        let (mut woken, mut level) = (0, false);
        for (side, ready) in [(Side::Read, event.read), (Side::Write, event.write)] {
            if !ready {
                continue;
            }
            if let Some(callback) = watched.callback(side) {
                handles.push(callback.clone_ref(py));
                level = true;
            }
            let waiting = watched.waiting(side);
            woken += waiting.len();
            wakers.extend(waiting.drain(..).map(|(_, waker)| waker));
        }
        if woken > 0 && watched.is_level() {
            // The waiters are gone from a descriptor that is watched on.
            drop(self.tell(watched, event.fd));
        } else if event.write && watched.told.write && watched.writers_waiting.is_empty() && !watched.is_level() {
            // A socket is writable nearly always: its edges would be noise.
            watched.told.write = false;
            let interest = watched.told;
            drop(self.poller.set(event.fd, interest, interest, Trigger::Edge));
        }
        table.look_again |= level;
    }
}

/// Other streams end a receive early: at the border between two messages with descriptors (Unix), say.
fn is_tcp(fd: RawFd) -> bool {
    #[cfg(target_os = "linux")]
    {
        let mut protocol: libc::c_int = 0;
        let mut size = size_of::<libc::c_int>() as libc::socklen_t;
        let place = (&raw mut protocol).cast();
        // SAFETY: `protocol` and `size` are valid places for the answer.
        let asked = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL, place, &raw mut size) };
        asked == 0 && protocol == libc::IPPROTO_TCP
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = fd;
        false
    }
}

impl Reactor for Watch {
    fn poll_ready(&self, py: Python<'_>, state: &LoopState, cx: &mut Context<'_>, fresh_run: bool) -> bool {
        let (again, known) = self.table.with(py, |table| (table.look_again, !table.watched.is_empty()));
        let edge = self.in_tokio.with(py, |slot| {
            let in_tokio = match slot {
                Some(known) => known,
                None => {
                    let poller = Arc::clone(&self.poller);
                    // SAFETY: the registration owns (a share of) the poller, whose descriptor is open and the same for
                    // as long as the poller lives.
                    match unsafe { AsyncFd::register_with_interest(poller, TokioInterest::READABLE) } {
                        Ok(made) => slot.insert(ProcessBound::new(made)),
                        Err(_) => return true,
                    }
                }
            };
            let mut edge = false;
            // Cleared before the look: what becomes ready after it is a new edge.
            while let Poll::Ready(Ok(mut guard)) = in_tokio.poll_read_ready(cx) {
                guard.clear_ready();
                edge = true;
            }
            edge
        });
        if edge || again || (fresh_run && known) {
            self.harvest(py, state);
        }
        self.table.with(py, |table| table.look_again)
    }

    fn close(&self, py: Python<'_>) {
        drop(self.in_tokio.take(py));
        let table = self.table.take(py);
        for watched in &table.watched {
            for handle in [&watched.reader, &watched.writer].into_iter().flatten() {
                Handle::cancel_once(handle.bind(py));
            }
        }
        drop(table);
    }

    fn leave_to_parent(&self, py: Python<'_>) {
        std::mem::forget(self.table.take(py));
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(table) = self.table.peek_in_traverse(visit) else { return Ok(()) };
        for watched in &table.watched {
            visit.call(&watched.reader)?;
            visit.call(&watched.writer)?;
        }
        Ok(())
    }
}
