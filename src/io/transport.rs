//! What transports of all kinds have in common: how a protocol is told, and what becomes of what its methods raise.
//! Loop thread, GIL held; no cell is borrowed here.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::context;
use crate::py::error::{self, Slim};
use crate::sched::LoopState;
use crate::sched::entry::Entry;

/// Where a transport is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `connection_made` is queued.
    New,
    Connected,
    /// `connection_lost` has been called.
    Over,
}

/// A transport of any kind. What it has of objects is gone when its connection is.
pub trait AnyTransport<'py>: Copy {
    /// What Python sees.
    fn object(&self) -> &Bound<'py, PyAny>;
    fn event_loop(&self) -> Option<Bound<'py, LoopState>>;
    fn protocol(&self) -> Option<Bound<'py, PyAny>>;
    /// What the protocol's methods are called in.
    fn context(&self) -> Option<Bound<'py, PyAny>>;
    /// asyncio's `_force_close`: what is left to send is forgotten, and the protocol told why.
    ///
    /// # Errors
    /// RuntimeError when the loop is closed.
    fn force_close(&self, reason: Option<Bound<'py, PyAny>>) -> PyResult<()>;
    /// Whether an exception is no more than what networks (terminals, pipes) do.
    ///
    /// # Errors
    /// What the exception's attributes raise.
    fn is_usual(&self, exception: &Bound<'py, PyAny>) -> PyResult<bool> {
        Ok(exception.is_instance_of::<PyOSError>())
    }
}

/// Whom an exception is reported to, and in which context.
pub struct Report<'py> {
    event_loop: Bound<'py, LoopState>,
    protocol: Bound<'py, PyAny>,
    context: Bound<'py, PyAny>,
}

impl<'py> Report<'py> {
    /// None when the connection is over.
    pub fn of(of: impl AnyTransport<'py>) -> Option<Self> {
        Some(Self { event_loop: of.event_loop()?, protocol: of.protocol()?, context: of.context()? })
    }

    /// An exception came out of what is this callback on asyncio.
    ///
    /// # Errors
    /// KeyboardInterrupt and SystemExit, which end the run.
    pub fn make(self, callback: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>, raised: PyErr) -> Slim<()> {
        let Self { event_loop, context, .. } = self;
        let py = event_loop.py();
        if error::ends_the_run(py, &raised) {
            return Err(Box::new(raised));
        }
        let debug = event_loop.get().debug.get(py);
        let names = asyncio(py)?;
        let text = names.helper(py, "format_callback_source")?.try_call((callback, args, debug))?;
        // The handler runs in the handle's context, and this one is entered.
        let context = context::copy(&context)?;
        let handle = names.helper(py, "callback_handle")?.try_call((callback, args, &event_loop, &context))?;
        let exception = raised.into_value(py).into_bound(py).into_any();
        let items = [("exception", &exception), ("handle", &handle)];
        Ok(error::call_exception_handler(event_loop.as_any(), &format!("Exception in callback {text}"), &items)?)
    }

    /// As `make`, of a method of the protocol that asyncio calls as a callback.
    ///
    /// # Errors
    /// As `make`.
    pub fn make_of_method(self, method: &str, argument: &Bound<'py, PyAny>, raised: PyErr) -> Slim<()> {
        let callback = self.protocol.try_getattr(method).unwrap_or_else(|_| self.protocol.clone());
        let args = PyTuple::new(argument.py(), [argument])?;
        self.make(&callback, &args, raised)
    }
}

/// An exception came out of what is this callback on asyncio: it is for the exception handler, and the connection goes
/// on.
///
/// # Errors
/// KeyboardInterrupt and SystemExit, which end the run.
#[cold]
pub fn report<'py>(
    of: impl AnyTransport<'py>,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    raised: PyErr,
) -> Slim<()> {
    match Report::of(of) {
        Some(report) => report.make(callback, args, raised),
        None if error::ends_the_run(callback.py(), &raised) => Err(Box::new(raised)),
        None => Ok(()),
    }
}

/// As `report`, of one of the protocol's methods that asyncio calls as a callback.
///
/// # Errors
/// As `report`.
#[cold]
pub fn report_method<'py>(
    of: impl AnyTransport<'py>,
    method: &str,
    argument: &Bound<'py, PyAny>,
    raised: PyErr,
) -> Slim<()> {
    match Report::of(of) {
        Some(report) => report.make_of_method(method, argument, raised),
        None if error::ends_the_run(argument.py(), &raised) => Err(Box::new(raised)),
        None => Ok(()),
    }
}

/// asyncio calls this method of the protocol as a callback: `connection_made`, `connection_lost`.
///
/// # Errors
/// What ends the run.
pub fn call_back<'py>(
    of: impl AnyTransport<'py>,
    method: &Bound<'py, PyString>,
    argument: &Bound<'py, PyAny>,
) -> Slim<()> {
    let Some(protocol) = of.protocol() else { return Ok(()) };
    let Err(raised) = protocol.try_call_method(method, (argument,)) else { return Ok(()) };
    report_method(of, &method.to_cow()?, argument, raised)
}

/// Who made the connection, and waits for it, goes on.
///
/// # Errors
/// What the future's methods raise.
pub fn wake(waiter: Option<Py<PyAny>>, py: Python<'_>) -> PyResult<()> {
    let Some(waiter) = waiter.map(|waiter| waiter.into_bound(py)) else { return Ok(()) };
    if !waiter.try_call_method(pyo3::intern!(py, "cancelled"), ())?.try_is_truthy()? {
        waiter.try_call_method(pyo3::intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

/// asyncio's `_fatal_error`: an OSError is the network's affair, every other one the exception handler's; the
/// connection is over.
///
/// # Errors
/// KeyboardInterrupt and SystemExit, which end the run; what the exception handler lets out.
#[cold]
pub fn failed<'py>(of: impl AnyTransport<'py>, raised: PyErr, message: &str) -> Slim<()> {
    let object = of.object();
    let py = object.py();
    if error::ends_the_run(py, &raised) {
        return Err(Box::new(raised));
    }
    let exception = raised.value(py).as_any().clone();
    if let Some(event_loop) = of.event_loop() {
        if of.is_usual(&exception)? {
            if event_loop.get().debug.get(py) {
                asyncio(py)?.helper(py, "log_fatal_error")?.try_call((object, message, &exception))?;
            }
        } else {
            let protocol = of.protocol().unwrap_or_else(|| py.None().into_bound(py));
            let items = [("exception", &exception), ("transport", object), ("protocol", &protocol)];
            error::call_exception_handler(event_loop.as_any(), message, &items)?;
        }
    }
    Ok(of.force_close(Some(exception))?)
}

/// Flow control: `pause_writing`, `resume_writing`.
///
/// # Errors
/// What ends the run.
pub fn tell<'py>(of: impl AnyTransport<'py>, method: &str) -> Slim<()> {
    let object = of.object();
    let py = object.py();
    let Some(protocol) = of.protocol() else { return Ok(()) };
    let Err(raised) = protocol.try_call_method(method, ()) else { return Ok(()) };
    if error::ends_the_run(py, &raised) {
        return Err(Box::new(raised));
    }
    let Some(event_loop) = of.event_loop() else { return Ok(()) };
    let exception = raised.into_value(py).into_bound(py).into_any();
    let items = [("exception", &exception), ("transport", object), ("protocol", &protocol)];
    Ok(error::call_exception_handler(event_loop.as_any(), &format!("protocol.{method}() failed"), &items)?)
}

/// From so many writes to a lost connection on each is reported (asyncio's `LOG_THRESHOLD_FOR_CONNLOST_WRITES`).
const TOO_MANY_WRITES: u32 = 5;

/// A write to a lost connection; so many came before it. `warn`: who says so.
///
/// # Errors
/// What logging raises.
#[cold]
pub fn dropped(py: Python<'_>, writes: u32, warn: &str) -> PyResult<()> {
    if writes >= TOO_MANY_WRITES {
        asyncio(py)?.helper(py, warn)?.try_call(())?;
    }
    Ok(())
}

/// Whether nothing is ready but the transport that runs: as long as that is so, nobody can tell two turns from one.
#[inline]
pub fn is_alone(event_loop: &LoopState, py: Python<'_>) -> bool {
    event_loop.ready.with(py, |ready| ready.is_empty())
        && !event_loop.shared.inbox.may_have_some()
        && !event_loop.shared.lifecycle.is_stopping()
        && !event_loop.debug.get(py)
}

/// Have the loop look after it in its next turn: something can be received or sent.
pub fn queue(event_loop: &LoopState, transport: &Bound<'_, PyAny>) {
    event_loop.push(transport.py(), Entry::Ready(transport.clone().unbind()));
    event_loop.wake_if_away();
}

/// Have `connection_made` or `connection_lost` called in the loop's next turn.
///
/// # Errors
/// RuntimeError when the loop is closed; in debug mode, in a thread that is not the loop's.
pub fn queue_transition<'py>(of: impl AnyTransport<'py>) -> PyResult<()> {
    let Some(event_loop) = of.event_loop() else { return Ok(()) };
    let (state, transport) = (event_loop.get(), of.object());
    state.check_closed()?;
    if state.debug.get(transport.py()) {
        state.check_thread()?;
    }
    state.push(transport.py(), Entry::Transition(transport.clone().unbind()));
    state.wake_if_away();
    Ok(())
}
