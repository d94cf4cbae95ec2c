//! How an endpoint begins and ends: `connection_made`, errors, `connection_lost`; what the kernel is to tell of it.

use std::sync::Arc;

use pyo3::prelude::*;

use super::state::Transport;
use crate::io::transport::{self, AnyTransport, Stage};
use crate::py::call::Object;
use crate::py::error::Slim;
use crate::sched::LoopState;

impl<'py> AnyTransport<'py> for Transport<'_, 'py> {
    fn object(&self) -> &Bound<'py, PyAny> {
        self.object
    }

    fn event_loop(&self) -> Option<Bound<'py, LoopState>> {
        self.part(|objects| &objects.event_loop)
    }

    fn protocol(&self) -> Option<Bound<'py, PyAny>> {
        self.part(|objects| &objects.protocol)
    }

    fn context(&self) -> Option<Bound<'py, PyAny>> {
        self.part(|objects| &objects.context)
    }

    fn force_close(&self, reason: Option<Bound<'py, PyAny>>) -> PyResult<()> {
        force_close(*self, reason)
    }
}

/// The descriptor is the transport's, and `connection_made` is called in the next turn.
///
/// # Errors
/// RuntimeError when the loop is closed.
pub fn begin(of: Transport<'_, '_>) -> PyResult<()> {
    let Some(watch) = of.with(|state| state.objects.as_ref().map(|objects| Arc::clone(&objects.watch))) else {
        return Ok(());
    };
    watch.add_transport(of.kind().fd, of.object.clone())?;
    transport::queue_transition(of)
}

/// `connection_made`, then receiving begins, then whoever waits for the endpoint goes on.
///
/// # Errors
/// What ends the run.
pub fn connected(of: Transport<'_, '_>) -> Slim<()> {
    of.with(|state| state.stage = Stage::Connected);
    let made = transport::call_back(of, pyo3::intern!(of.py(), "connection_made"), of.object);
    watch(of)?;
    let waiter = of.with(|state| state.objects.as_mut().and_then(|objects| objects.waiter.take()));
    transport::wake(waiter, of.py())?;
    made
}

/// Have the kernel tell what there is to be told now, and the loop keep the transport while it does.
///
/// # Errors
/// What ends the run.
pub fn watch(of: Transport<'_, '_>) -> Slim<()> {
    let changed = of.with(|state| {
        let interest = state.interest();
        let objects = state.objects.as_ref().filter(|_| interest != state.told)?;
        let watch = Arc::clone(&objects.watch);
        state.told = interest;
        Some((watch, interest))
    });
    of.hold()?;
    let Some((watch, interest)) = changed else { return Ok(()) };
    match watch.watch_transport(of.py(), of.kind().fd, interest) {
        Ok(()) => Ok(()),
        Err(raised) => transport::failed(of, raised, "Fatal error on transport"),
    }
}

/// As the trait has it.
fn force_close(of: Transport<'_, '_>, reason: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let reason = reason.map(Bound::unbind);
    let dropped = of.with(|state| {
        if state.lost > 0 || state.objects.is_none() {
            return None;
        }
        state.closing = true;
        state.lost = 1;
        let arrived = std::mem::take(&mut state.arrived);
        Some((state.waiting.clear(), arrived, std::mem::replace(&mut state.reason, reason)))
    });
    if dropped.is_none() {
        return Ok(());
    }
    drop(dropped);
    watch(of).map_err(|raised| *raised)?;
    transport::queue_transition(of)
}

/// `close()`: what is left to send goes out first.
///
/// # Errors
/// RuntimeError when the loop is closed.
pub fn close(of: Transport<'_, '_>) -> PyResult<()> {
    let closed = of.with(|state| {
        if state.objects.is_none() || std::mem::replace(&mut state.closing, true) {
            return None;
        }
        let is_over = state.waiting.is_empty();
        state.lost += u32::from(is_over);
        Some((is_over, std::mem::take(&mut state.arrived)))
    });
    let Some((is_over, arrived)) = closed else { return Ok(()) };
    drop(arrived);
    watch(of).map_err(|raised| *raised)?;
    if is_over { transport::queue_transition(of) } else { Ok(()) }
}

/// `connection_lost`; the socket is closed, and everything let go of.
///
/// # Errors
/// What ends the run.
pub fn lost(of: Transport<'_, '_>) -> Slim<()> {
    let py = of.py();
    let reason = of.with(|state| {
        state.objects.as_ref()?;
        if std::mem::replace(&mut state.stage, Stage::Over) == Stage::Over { None } else { Some(state.reason.take()) }
    });
    let Some(reason) = reason else { return Ok(()) };
    let reason = reason.map_or_else(|| py.None().into_bound(py), |reason| reason.into_bound(py));
    let told = transport::call_back(of, pyo3::intern!(py, "connection_lost"), &reason);
    let released = release(of);
    told.and(released)
}

/// The socket is closed, and everything let go of.
///
/// # Errors
/// What closing the socket raises.
pub fn release(of: Transport<'_, '_>) -> Slim<()> {
    let py = of.py();
    let gone = of.with(|state| {
        let datagrams = (std::mem::take(&mut state.arrived), state.waiting.clear());
        (state.objects.take(), datagrams, state.sender.take(), state.addressee.take())
    });
    let (Some(objects), ..) = &gone else { return Ok(()) };
    drop(objects.watch.remove_transport(py, of.kind().fd, of.object));
    objects.sock.bind(py).try_call_method(pyo3::intern!(py, "close"), ())?;
    Ok(())
}
