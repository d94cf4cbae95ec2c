//! What `pyloop._datagrams.DatagramTransport` asks of its native part, and its method that skips PyO3's wrapper.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use super::room::Room;
use super::state::{self, Addressee, Datagrams, Kind, Objects, State, Transport, datagrams_of};
use super::{ends, read, write};
use crate::accel::methods;
use crate::core::flow::Flow;
use crate::core::waiting::Waiting;
use crate::io::poller::Interest;
use crate::io::transport::{self, Stage};
use crate::io::watch::Watch;
use crate::py::cell::GilCell;
use crate::py::direct::{Args, Direct, keeps_usual};
use crate::py::exit::outlast;
use crate::sched::LoopState;

/// What a transport is made of.
pub struct Parts<'py> {
    pub event_loop: Bound<'py, LoopState>,
    pub kind: Kind,
    pub sock: Bound<'py, PyAny>,
    /// What each datagram that waits counts for beside its bytes.
    pub header: usize,
    pub protocol: Bound<'py, PyAny>,
    /// What its methods are called in.
    pub context: Bound<'py, PyAny>,
    /// asyncio's `_address`, if it is true.
    pub remote: Option<Bound<'py, PyAny>>,
    pub waiter: Option<Bound<'py, PyAny>>,
    pub watch: Arc<Watch>,
    pub room: Arc<Room>,
}

impl Datagrams {
    /// The native part of a transport; `begin` makes it one.
    pub fn new(parts: Parts<'_>) -> Self {
        let objects = Objects {
            event_loop: parts.event_loop.unbind(),
            sock: parts.sock.unbind(),
            protocol: parts.protocol.unbind(),
            context: parts.context.unbind(),
            waiter: parts.waiter.map(Bound::unbind),
            watch: parts.watch,
            room: parts.room,
        };
        let state = State {
            objects: Some(objects),
            stage: Stage::New,
            remote: parts.remote.map(Bound::unbind),
            closing: false,
            lost: 0,
            paused: false,
            readable: false,
            more_than_data: false,
            writable: false,
            queued: false,
            held: true,
            told: Interest::NONE,
            arrived: VecDeque::new(),
            waiting: Waiting::new(parts.header),
            flow: Flow::default(),
            reason: None,
            sender: None,
            addressee: None,
        };
        Self { kind: parts.kind, state: GilCell::new(state) }
    }

    fn part<'py>(slf: &Bound<'py, Self>, part: impl FnOnce(&Objects) -> &Py<PyAny>) -> Option<Bound<'py, PyAny>> {
        let py = slf.py();
        let known = slf.get().state.with(py, |state| state.objects.as_ref().map(|objects| part(objects).clone_ref(py)));
        known.map(|known| known.into_bound(py))
    }
}

fn of<'a, 'py>(datagrams: &'a Bound<'py, Datagrams>, transport: &'a Bound<'py, PyAny>) -> Transport<'a, 'py> {
    Transport { object: transport, datagrams }
}

#[pymethods]
impl Datagrams {
    /// Have `connection_made` called in the next turn.
    fn begin(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        ends::begin(of(slf, transport))
    }

    #[getter]
    fn protocol<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Self::part(slf, |objects| &objects.protocol)
    }

    fn set_protocol(slf: &Bound<'_, Self>, protocol: Py<PyAny>) {
        let old = slf.get().state.with(slf.py(), |state| match &mut state.objects {
            Some(objects) => std::mem::replace(&mut objects.protocol, protocol),
            None => protocol,
        });
        drop(old);
    }

    /// The `socket.socket`; None when the transport is over.
    #[getter]
    fn sock<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Self::part(slf, |objects| &objects.sock)
    }

    /// Whether there is a socket.
    #[getter]
    fn open(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| state.objects.is_some())
    }

    #[getter]
    fn event_loop<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        Self::part(slf, |objects| objects.event_loop.as_any())
    }

    #[getter]
    fn fd(&self) -> RawFd {
        self.kind.fd
    }

    #[getter]
    fn closing(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| state.closing)
    }

    #[getter]
    fn lost(slf: &Bound<'_, Self>) -> u32 {
        slf.get().state.with(slf.py(), |state| state.lost)
    }

    #[getter]
    fn paused(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| state.paused)
    }

    /// Whether the kernel is asked for what arrives, and when it takes more.
    #[getter]
    fn polls(slf: &Bound<'_, Self>) -> (bool, bool) {
        let told = slf.get().state.with(slf.py(), |state| state.told);
        (told.read, told.write)
    }

    /// What the datagrams that wait count for.
    #[getter]
    fn size(slf: &Bound<'_, Self>) -> usize {
        slf.get().state.with(slf.py(), |state| state.waiting.size())
    }

    /// The datagrams that wait, each with its addressee.
    fn waiting(slf: &Bound<'_, Self>) -> PyResult<Vec<(Py<PyAny>, Addressee)>> {
        let py = slf.py();
        let waiting: Vec<_> = slf.get().state.with(py, |state| {
            let clone = |(data, addr): &(PyBackedBytes, Addressee)| {
                (data.clone_ref(py), addr.as_ref().map(|addr| addr.clone_ref(py)))
            };
            state.waiting.iter().map(clone).collect()
        });
        waiting.into_iter().map(|(data, addr)| Ok((data.into_py_any(py)?, addr))).collect()
    }

    #[getter]
    fn writing_paused(slf: &Bound<'_, Self>) -> bool {
        slf.get().state.with(slf.py(), |state| state.flow.paused)
    }

    fn set_limits(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>, high: usize, low: usize) -> PyResult<()> {
        let of = of(slf, transport);
        of.with(|state| (state.flow.high, state.flow.low) = (high, low));
        write::grown(of).map_err(|raised| *raised)
    }

    fn send_to(
        slf: &Bound<'_, Self>,
        transport: &Bound<'_, PyAny>,
        data: &Bound<'_, PyAny>,
        addr: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        write::send_to(of(slf, transport), data, addr)
    }

    /// Give the protocol what has arrived.
    fn read(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let of = of(slf, transport);
        of.with(|state| state.readable = true);
        read::ready(of).map_err(|raised| *raised)
    }

    /// Send what waits.
    fn flush(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        write::flush(of(slf, transport)).map_err(|raised| *raised)
    }

    fn close(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        ends::close(of(slf, transport))
    }

    fn force_close(
        slf: &Bound<'_, Self>,
        transport: &Bound<'_, PyAny>,
        reason: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        transport::AnyTransport::force_close(&of(slf, transport), reason)
    }

    fn fail(
        slf: &Bound<'_, Self>,
        transport: &Bound<'_, PyAny>,
        raised: Bound<'_, PyAny>,
        message: &str,
    ) -> PyResult<()> {
        transport::failed(of(slf, transport), PyErr::from_value(raised), message).map_err(|raised| *raised)
    }

    /// False when it does not read anyway.
    fn pause(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<bool> {
        let of = of(slf, transport);
        let paused = of.with(|state| !state.closing && !std::mem::replace(&mut state.paused, true));
        if paused {
            ends::watch(of).map_err(|raised| *raised)?;
        }
        Ok(paused)
    }

    /// False when it was not paused.
    fn resume(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<bool> {
        let of = of(slf, transport);
        let resumed = of.with(|state| !state.closing && std::mem::replace(&mut state.paused, false));
        if resumed {
            ends::watch(of).map_err(|raised| *raised)?;
            if of.with(|state| state.has_work()) {
                of.queue();
            }
        }
        Ok(resumed)
    }

    /// The transport goes without having been closed: let go of everything.
    fn release(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        ends::release(of(slf, transport)).map_err(|raised| *raised)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(&visit)
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| {
            let gone = self.state.with(py, |state| {
                let datagrams = (std::mem::take(&mut state.arrived), state.waiting.clear());
                let peers = (state.sender.take(), state.addressee.take(), state.remote.take());
                (state.objects.take(), state.reason.take(), datagrams, peers)
            });
            drop(gone);
        });
    }
}

/// `transport.sendto(data, addr=None)`.
struct SendTo;

impl Direct for SendTo {
    type Class = PyAny;
    const NAME: &'static str = "sendto";
    const SIGNATURE: Option<&'static str> = Some("($self, data, addr=None)");

    #[inline]
    fn call<'py>(slf: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        if !args.is_plain() || !(1..=2).contains(&args.count()) {
            return None;
        }
        let datagrams = match datagrams_of(slf) {
            Ok(datagrams) => datagrams,
            Err(raised) => return Some(Err(*raised)),
        };
        let none = slf.py().None().into_bound(slf.py());
        let addr = if args.count() == 2 { args.get(1).to_owned() } else { none.clone() };
        Some(write::send_to(of(&datagrams, slf), &args.get(0), &addr).map(|()| none))
    }

    keeps_usual!();
}

/// Give `pyloop._datagrams.DatagramTransport` its fast method; called once, when the class is made.
///
/// # Errors
/// MemoryError.
#[pyfunction]
pub(crate) fn install_datagram_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    state::set_class(class);
    methods::install::<SendTo>(class)
}
