//! How a connection begins and ends: `connection_made`, errors, `connection_lost`.

use pyo3::exceptions::{PyConnectionError, PyOSError};
use pyo3::prelude::*;

use super::send::send_waiting;
use super::state::{Stage, Transport, Wants};
use crate::core::cork::Cork;
use crate::io::transport::{self, AnyTransport, Report};
use crate::io::watched::Side;
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::error::{self, Slim};
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

    fn is_usual(&self, exception: &Bound<'py, PyAny>) -> PyResult<bool> {
        if !exception.is_instance_of::<PyOSError>() {
            return Ok(false);
        }
        let is_read_pipe = self.with(|state| state.wants == Wants::Pipe);
        let code = exception.try_getattr(pyo3::intern!(self.py(), "errno"))?;
        Ok(!is_read_pipe || code.extract::<i32>().is_ok_and(|code| code == libc::EIO))
    }
}

/// The descriptor is the transport's, and `connection_made` is called in the next turn.
///
/// # Errors
/// RuntimeError when the loop is closed.
pub fn begin(of: Transport<'_, '_>) -> PyResult<()> {
    let watch = of.with(|state| state.objects.as_ref().map(|objects| (objects.watch.clone(), state.fd)));
    let Some((watch, fd)) = watch else { return Ok(()) };
    watch.add_transport(fd, of.object.clone())?;
    of.queue_transition()
}

/// `connection_made`, then reading begins, then whoever waits for the connection goes on.
///
/// # Errors
/// What ends the run.
pub fn connected(of: Transport<'_, '_>) -> Slim<()> {
    of.with(|state| state.stage = Stage::Connected);
    let made = transport::call_back(of, pyo3::intern!(of.py(), "connection_made"), of.object);
    watch(of)?;
    of.hold()?;
    let waiter = of.with(|state| state.objects.as_mut().and_then(|objects| objects.waiter.take()));
    transport::wake(waiter, of.py())?;
    made
}

/// Have the kernel tell what happens to the connection.
///
/// # Errors
/// What ends the run.
pub fn watch(of: Transport<'_, '_>) -> Slim<()> {
    let py = of.py();
    let wanted = |state: &mut super::state::State| {
        let wanted = state.stage == Stage::Connected && (!state.closing || !state.outgoing.is_empty());
        let interest = Some(state.interest()).filter(|interest| !interest.is_empty())?;
        let objects = state.objects.as_ref().filter(|_| wanted)?;
        Some((objects.watch.clone(), state.fd, interest, state.is_pipe()))
    };
    let Some((watch, fd, interest, is_pipe)) = of.with(wanted) else { return Ok(()) };
    match watch.watch_transport(py, fd, interest) {
        Ok(()) => Ok(()),
        // asyncio's, too, says so, and never reads of what cannot be watched.
        Err(raised) if is_pipe => transport::report_method(of, "connection_made", of.object, raised),
        Err(raised) => failed(of, raised, "Fatal error on transport"),
    }
}

/// asyncio's `_fatal_error`: an OSError is the network's affair, every other one the exception handler's; the
/// connection is over.
///
/// # Errors
/// KeyboardInterrupt and SystemExit, which end the run; what the exception handler lets out.
#[cold]
pub fn failed(of: Transport<'_, '_>, raised: PyErr, message: &str) -> Slim<()> {
    transport::failed(of, raised, message)
}

/// Send now what has been gathered.
///
/// # Errors
/// What ends the run.
pub fn uncork(of: Transport<'_, '_>) -> Slim<()> {
    let sent =
        of.with(|state| if state.cork.is_in() { send_waiting(of.py(), state).map(|()| true) } else { Ok(false) });
    match sent {
        Ok(false) => Ok(()),
        Ok(true) => {
            if of.with(|state| state.writable) {
                of.queue();
            }
            Ok(of.hold()?)
        }
        Err(error) => failed(of, error::os_error(&error), "Fatal write error on socket transport"),
    }
}

/// asyncio's `_force_close`: what is left to send is forgotten, and the protocol told why.
///
/// # Errors
/// RuntimeError when the loop is closed.
pub fn force_close(of: Transport<'_, '_>, reason: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let reason = reason.map(Bound::unbind);
    let dropped = of.with(|state| {
        if state.lost > 0 || state.objects.is_none() {
            return None;
        }
        if state.cork.is_in() {
            // It was written before: the kernel has it, on asyncio. What the kernel does not take is lost here and
            // there.
            drop(send_waiting(of.py(), state));
        }
        state.closing = true;
        state.lost = 1;
        Some((state.outgoing.clear(), std::mem::replace(&mut state.reason, reason)))
    });
    match dropped {
        Some(_) => of.queue_transition(),
        None => Ok(()),
    }
}

/// `close()`: what is left to send goes out first.
///
/// # Errors
/// RuntimeError when the loop is closed.
pub fn close(of: Transport<'_, '_>) -> PyResult<()> {
    uncork(of).map_err(|raised| *raised)?;
    let is_over = of.with(|state| {
        if std::mem::replace(&mut state.closing, true) || state.objects.is_none() || !state.outgoing.is_empty() {
            return false;
        }
        state.lost += 1;
        true
    });
    if is_over { of.queue_transition() } else { Ok(()) }
}

/// `connection_lost`; the socket is closed, and everything let go of.
///
/// # Errors
/// What ends the run.
pub fn lost(of: Transport<'_, '_>) -> Slim<()> {
    let py = of.py();
    if of.with(|state| state.objects.is_none()) {
        return Ok(());
    }
    let reason = of.with(|state| {
        if std::mem::replace(&mut state.stage, Stage::Over) == Stage::Over { None } else { Some(state.reason.take()) }
    });
    let Some(reason) = reason else { return Ok(()) };
    let reason = reason.map_or_else(|| py.None().into_bound(py), |reason| reason.into_bound(py));
    let told = transport::call_back(of, pyo3::intern!(py, "connection_lost"), &reason);
    let to = Report::of(of);
    let released = match (release(of), to) {
        (Err(raised), Some(to)) => to.make_of_method("connection_lost", &reason, *raised),
        (released, _) => released,
    };
    told.and(released)
}

/// The socket is closed, the server told, and everything let go of.
///
/// # Errors
/// What closing the socket raises, or the server.
pub fn release(of: Transport<'_, '_>) -> Slim<()> {
    let py = of.py();
    let (objects, fd, lent, chunks) = of.with(|state| {
        state.cork = Cork::default();
        (state.objects.take(), state.fd, state.lent, state.outgoing.clear())
    });
    drop(chunks);
    let Some(objects) = objects else { return Ok(()) };
    if lent {
        // Who sends a file by it may wait for it.
        objects.watch.remove(py, fd, Side::Write);
    } else {
        drop(objects.watch.remove_transport(py, fd, of.object));
    }
    let closed = objects.socket.close(py);
    let detached = match objects.server.map(|server| server.into_bound(py)) {
        Some(server) => asyncio(py)?.detach_from_server(&server, of.object),
        None => Ok(()),
    };
    if let Some(waiter) = objects.empty_waiter.map(|waiter| waiter.into_bound(py))
        && !waiter.try_call_method(pyo3::intern!(py, "done"), ())?.try_is_truthy()?
    {
        let gone = PyConnectionError::new_err("Connection is closed by peer");
        waiter.try_call_method(pyo3::intern!(py, "set_exception"), (gone.into_value(py),))?;
    }
    closed?;
    Ok(detached?)
}
