//! Layer 8, `pyloop._native.Loop`: the native half of `pyloop.EventLoop`. Each method says what asyncio's says and
//! hands the work to its layer; what is not here is `asyncio.BaseEventLoop`'s own code.

mod above;
pub(crate) mod direct;
pub(crate) mod fast;
mod statistics;
pub(crate) mod testing;
pub(crate) mod transports;

use std::sync::Arc;

use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyString, PyTuple};
use pyo3::{Borrowed, PyTraverseError, PyVisit};

use crate::accel::collector;
use crate::bridge::RustFuture;
use crate::core::ready::Lane;
use crate::future::new_future;
use crate::io::datagram::room::Room;
use crate::io::descriptor::descriptor_of;
use crate::io::sock::{self, Call};
use crate::io::sock_plain::ReceiveBuffer;
use crate::io::watch::Watch;
use crate::io::watched::Side;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::{context, exit::outlast};
use crate::sched::entry::Entry;
use crate::sched::handle::Handle;
use crate::sched::replaced::Name;
use crate::sched::state::Making;
use crate::sched::{LoopState, run, schedule};
use crate::task::{self, Task};

/// The native half of an event loop.
#[pyclass(frozen, subclass, extends = LoopState, module = "pyloop._native")]
pub struct Loop {
    task_factory: GilCell<Option<Py<PyAny>>>,
    /// None once closed.
    watch: GilCell<Option<Arc<Watch>>>,
    receive_buffer: Arc<ReceiveBuffer>,
    /// Where datagrams are received.
    datagram_room: Arc<Room>,
}

/// What a `sock_*` call gives.
type Awaitable<'py> = PyResult<Bound<'py, RustFuture>>;

/// A keyword that may be left out, which is not the same as None: a task factory gets what the caller gave.
struct Given<'py>(Option<Bound<'py, PyAny>>);

impl Given<'_> {
    fn no() -> Self {
        Self(None)
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Given<'py> {
    type Error = PyErr;

    #[inline]
    fn extract(value: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(value.to_owned())))
    }
}

#[pymethods]
impl Loop {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<PyClassInitializer<Self>> {
        let watch = Watch::new(crate::io::transports::on_event)?;
        let state = LoopState::with_reactor(watch.clone());
        Ok(PyClassInitializer::from(state).add_subclass(Self {
            task_factory: GilCell::default(),
            watch: GilCell::new(Some(watch)),
            receive_buffer: Arc::default(),
            datagram_room: Arc::default(),
        }))
    }

    /// The loop's clock, in seconds: `time.monotonic()`.
    fn time<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if slf.as_super().get().replaced.is_plain(slf.py()) {
            return Ok(PyFloat::new(slf.py(), schedule::time(slf.as_super())).into_any());
        }
        above::time(slf.as_super())
    }

    /// Have `callback(*args)` called in the next turn, in `context` (default: a copy of the current one). Gives its
    /// handle. RuntimeError when the loop is closed.
    #[pyo3(signature = (callback, *args, context = None))]
    fn call_soon<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let state = slf.as_super();
        let mut lane = Lane::Normal;
        if !state.get().replaced.is_plain(slf.py()) {
            if state.get().replaced.has(slf, Name::AboveCallSoon)? {
                return above::call(state, Name::AboveCallSoon, &[callback], args, context);
            }
            lane = task::lane_of(&callback);
        }
        let parts = schedule::parts(callback, args, context);
        Ok(schedule::call_soon_in(state, lane, parts)?.into_any())
    }

    /// `call_soon` without its checks: what `BaseEventLoop`'s own calls.
    fn _call_soon<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        let lane = task::lane_of(&callback);
        schedule::soon_in(slf.as_super(), lane, schedule::parts(callback, args, context))
    }

    /// `call_soon` from any thread; a sleeping loop wakes up. RuntimeError when the loop is closed.
    #[pyo3(signature = (callback, *args, context = None))]
    fn call_soon_threadsafe<'py>(
        slf: &Bound<'py, Self>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let state = slf.as_super();
        if state.get().replaced.has(slf, Name::AboveCallSoonThreadsafe)? {
            return above::call(state, Name::AboveCallSoonThreadsafe, &[callback], args, context);
        }
        let parts = schedule::parts(callback, args, context);
        Ok(schedule::call_soon_threadsafe(state, parts)?.into_any())
    }

    /// Have `callback(*args)` called after `delay` seconds. Gives its handle. RuntimeError when the loop is closed.
    #[pyo3(signature = (delay, callback, *args, context = None))]
    fn call_later<'py>(
        slf: &Bound<'py, Self>,
        delay: Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let state = slf.as_super();
        if !state.get().replaced.is_plain(slf.py()) {
            if state.get().replaced.has(slf, Name::AboveCallLater)? {
                return above::call(state, Name::AboveCallLater, &[delay, callback], args, context);
            }
            if state.get().replaced.has(slf, Name::CallAt)? || state.get().replaced.has(slf, Name::Time)? {
                return above::call_later(state, &delay, callback, args, context);
            }
        }
        let parts = schedule::parts(callback, args, context);
        Ok(schedule::call_later(state, &delay, parts)?.into_any())
    }

    /// Have `callback(*args)` called at `when`, in seconds of `loop.time()`. Gives its handle. RuntimeError if closed.
    #[pyo3(signature = (when, callback, *args, context = None))]
    fn call_at<'py>(
        slf: &Bound<'py, Self>,
        when: Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let state = slf.as_super();
        if state.get().replaced.has(slf, Name::AboveCallAt)? {
            return above::call(state, Name::AboveCallAt, &[when, callback], args, context);
        }
        if when.is_none() {
            return Err(PyTypeError::new_err("when cannot be None"));
        }
        let given = (!when.is_exact_instance_of::<PyFloat>()).then(|| when.clone());
        let parts = schedule::parts(callback, args, context);
        Ok(schedule::call_at(state, when.try_float()?, given, parts)?.into_any())
    }

    /// Have a timer of asyncio's own class run when it is due.
    fn _add_timer(slf: &Bound<'_, Self>, handle: Bound<'_, PyAny>) -> PyResult<()> {
        above::add_timer(slf.as_super(), handle)
    }

    /// A pending `pyloop.Future` of this loop.
    fn create_future<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let state = slf.as_super();
        if state.get().replaced.has(slf, Name::AboveCreateFuture)? {
            return above::call(state, Name::AboveCreateFuture, &[], PyTuple::empty(slf.py()), None);
        }
        new_future(state).map(Bound::into_any)
    }

    /// Schedule a coroutine: a `pyloop.Task`, or what the task factory makes.
    ///
    /// `priority`: `pyloop.HIGH` steps go before the next batch of normal work, `pyloop.LOW` ones run when nothing
    /// else is ready (or after 64 batches). `eager_start`: run the first step at once, as the running Python's tasks.
    /// RuntimeError when the loop is closed, ValueError for another priority, TypeError for one and a task factory.
    #[pyo3(
        signature = (coro, *, name = Given::no(), context = Given::no(), priority = None, eager_start = Given::no(),
                     **kwargs),
        text_signature = "($self, coro, *, name=None, context=None, priority=None, eager_start=None, **kwargs)"
    )]
    fn create_task<'py>(
        slf: &Bound<'py, Self>,
        coro: Bound<'py, PyAny>,
        name: Given<'py>,
        context: Given<'py>,
        priority: Option<Bound<'py, PyAny>>,
        eager_start: Given<'py>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // The direct method calls this one, and goes on: with an eager task's first step, with the factory, for which
        // this gives the keywords, or with what somebody has put into BaseEventLoop, for which it gives some more.
        let py = slf.py();
        let state = slf.as_super();
        let is_replaced = state.get().replaced.has(slf, Name::AboveCreateTask)?;
        if !is_replaced {
            state.get().check_closed()?;
        }
        let lane = above::lane_of(priority.as_ref())?;
        if !slf.get().has_task_factory(py) && !is_replaced {
            if let Some(unknown) = kwargs.and_then(|kwargs| kwargs.keys().iter().next()) {
                let text = format!("create_task() got an unexpected keyword argument {}", unknown.try_repr()?);
                return Err(PyTypeError::new_err(text));
            }
            let eager = eager_start.0.map_or(Ok(false), |eager| eager.try_is_truthy())?;
            return Ok(task::spawn(state, coro, name.0.as_ref(), context.0, lane, eager)?.into_any());
        }
        let by_factory = slf.get().has_task_factory(py);
        if lane != Lane::Normal && by_factory {
            return Err(PyTypeError::new_err("a task factory's tasks have no priority"));
        }
        let mut making = Making { lane, eager: false };
        let eager_start = match eager_start {
            // What this Python's `BaseEventLoop.create_task` does not know does not go through it.
            Given(Some(eager)) if !by_factory && !cfg!(Py_3_14) => {
                making.eager = eager.try_is_truthy()?;
                Given::no()
            }
            given => given,
        };
        let keywords = match kwargs {
            Some(kwargs) => kwargs.copy()?,
            None => PyDict::new(py),
        };
        for (key, given) in
            [("coro", Given(Some(coro))), ("name", name), ("context", context), ("eager_start", eager_start)]
        {
            if let Given(Some(value)) = given {
                keywords.set_item(key, value)?;
            }
        }
        if is_replaced {
            let making = (!by_factory).then_some((making.lane as u8, making.eager));
            return Ok((keywords, making).into_pyobject(py)?.into_any());
        }
        Ok(keywords.into_any())
    }

    /// Set the task factory: `factory(loop, coro, **kwargs)`, or None for pyloop's own tasks.
    fn set_task_factory(&self, py: Python<'_>, factory: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        if factory.as_ref().is_some_and(|factory| !factory.is_callable()) {
            return Err(PyTypeError::new_err("task factory must be a callable or None"));
        }
        drop(self.task_factory.replace(py, factory.map(Bound::unbind)));
        Ok(())
    }

    /// The task factory, or None.
    fn get_task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task_factory.with(py, |factory| factory.as_ref().map(|factory| factory.clone_ref(py)))
    }

    /// Within a `BaseEventLoop.create_task` that somebody has replaced it makes our own tasks.
    #[getter]
    fn _task_factory(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        match slf.get().get_task_factory(py) {
            None if slf.as_super().get().making.get(py).is_some() => {
                Ok(Some(slf.try_getattr(pyo3::intern!(py, "_new_task"))?.unbind()))
            }
            factory => Ok(factory),
        }
    }

    /// A task factory, for that. The direct method calls this one, and goes on with an eager task's first step.
    #[pyo3(
        signature = (_loop, coro, *, name = Given::no(), context = Given::no(), eager_start = Given::no()),
        text_signature = "($self, _loop, coro, *, name=None, context=None, eager_start=None)"
    )]
    fn _new_task<'py>(
        slf: &Bound<'py, Self>,
        _loop: &Bound<'py, PyAny>,
        coro: Bound<'py, PyAny>,
        name: Given<'py>,
        context: Given<'py>,
        eager_start: Given<'py>,
    ) -> PyResult<Bound<'py, Task>> {
        let Making { lane, eager } = slf.as_super().get().making.get(slf.py()).unwrap_or_default();
        let eager = eager_start.0.map_or(Ok(eager), |eager| eager.try_is_truthy())?;
        task::spawn(slf.as_super(), coro, name.0.as_ref(), context.0, lane, eager)
    }

    #[setter(_task_factory)]
    fn set_private_task_factory(&self, py: Python<'_>, factory: Option<Py<PyAny>>) {
        drop(self.task_factory.replace(py, factory));
    }

    /// End the run after its turn; any thread may call it.
    fn stop(slf: &Bound<'_, Self>) {
        let state = slf.as_super().get();
        state.shared.lifecycle.request_stop();
        state.wake_if_away();
    }

    /// Whether the loop runs, in whichever thread.
    fn is_running(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().shared.lifecycle.is_running()
    }

    /// Whether `close` was called.
    fn is_closed(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().shared.lifecycle.is_closed()
    }

    /// Whether the debug mode is on.
    fn get_debug(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().debug.get(slf.py())
    }

    #[getter(_debug)]
    fn debug_flag(slf: &Bound<'_, Self>) -> bool {
        Self::get_debug(slf)
    }

    #[setter(_debug)]
    fn set_debug_flag(slf: &Bound<'_, Self>, enabled: &Bound<'_, PyAny>) -> PyResult<()> {
        let enabled = enabled.try_is_truthy()?;
        slf.as_super().get().debug.set(slf.py(), enabled);
        Ok(())
    }

    /// `BaseEventLoop.__init__` sets these; what they say is known here.
    #[getter]
    fn _closed(slf: &Bound<'_, Self>) -> bool {
        Self::is_closed(slf)
    }

    #[setter(_closed)]
    fn set_private_closed(&self, _value: &Bound<'_, PyAny>) {}

    #[getter]
    fn _stopping(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().shared.lifecycle.is_stopping()
    }

    #[setter(_stopping)]
    fn set_private_stopping(&self, _value: &Bound<'_, PyAny>) {}

    #[getter]
    fn _thread_id(slf: &Bound<'_, Self>) -> Option<u64> {
        slf.as_super().get().shared.thread_ident()
    }

    #[setter(_thread_id)]
    fn set_private_thread_id(&self, _value: &Bound<'_, PyAny>) {}

    fn _check_closed(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.as_super().get().check_closed()
    }

    fn _check_thread(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.as_super().get().check_thread()
    }

    /// `add_reader` without its checks; asyncio's transports of CPython 3.15 give a context.
    #[pyo3(signature = (fd, callback, *args, context = None))]
    fn _add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        Self::watch_with(slf, fd, Side::Read, callback, args, context)
    }

    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Side::Read)
    }

    #[pyo3(signature = (fd, callback, *args, context = None))]
    fn _add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        Self::watch_with(slf, fd, Side::Write, callback, args, context)
    }

    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Side::Write)
    }

    // The calls that `_sockets.py` gives their names and signatures.

    fn _sock_recv<'py>(slf: &Bound<'py, Self>, sock: Py<PyAny>, n: Py<PyAny>) -> Awaitable<'py> {
        let buffer = Arc::clone(&slf.get().receive_buffer);
        Self::sock_call(slf, sock, Call::Recv { size: n, buffer })
    }

    fn _sock_recv_into<'py>(slf: &Bound<'py, Self>, sock: Py<PyAny>, buf: Py<PyAny>) -> Awaitable<'py> {
        Self::sock_call(slf, sock, Call::RecvInto { buffer: buf })
    }

    fn _sock_recvfrom<'py>(slf: &Bound<'py, Self>, sock: Py<PyAny>, bufsize: Py<PyAny>) -> Awaitable<'py> {
        Self::sock_call(slf, sock, Call::RecvFrom { size: bufsize })
    }

    fn _sock_recvfrom_into<'py>(
        slf: &Bound<'py, Self>,
        sock: Py<PyAny>,
        buf: Py<PyAny>,
        nbytes: Py<PyAny>,
    ) -> Awaitable<'py> {
        Self::sock_call(slf, sock, Call::RecvFromInto { buffer: buf, size: nbytes })
    }

    fn _sock_sendall<'py>(slf: &Bound<'py, Self>, sock: Py<PyAny>, data: Py<PyAny>) -> Awaitable<'py> {
        Self::sock_call(slf, sock, Call::SendAll { data, rest: None })
    }

    fn _sock_sendto<'py>(
        slf: &Bound<'py, Self>,
        sock: Py<PyAny>,
        data: Py<PyAny>,
        address: Py<PyAny>,
    ) -> Awaitable<'py> {
        Self::sock_call(slf, sock, Call::SendTo { data, address })
    }

    fn _sock_accept<'py>(slf: &Bound<'py, Self>, sock: Py<PyAny>) -> Awaitable<'py> {
        Self::sock_call(slf, sock, Call::Accept)
    }

    /// To an address that is resolved.
    fn _sock_connect<'py>(slf: &Bound<'py, Self>, sock: Py<PyAny>, address: Py<PyAny>) -> Awaitable<'py> {
        Self::sock_call(slf, sock, Call::Connect { address, begun: false })
    }

    /// The native transport that has a descriptor.
    fn _transport_of(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> Option<Py<PyAny>> {
        Self::watch(slf).ok()?.transport(slf.py(), fd.extract().ok()?)
    }

    /// The native transports that have descriptors.
    fn _transports_by_descriptor(slf: &Bound<'_, Self>) -> Vec<(i32, Py<PyAny>)> {
        Self::watch(slf).map_or_else(|_closed| Vec::new(), |watch| watch.transports(slf.py()))
    }

    /// Queue a handle of asyncio's own class.
    fn _add_callback(slf: &Bound<'_, Self>, handle: Py<PyAny>) {
        let state = slf.as_super().get();
        state.push(slf.py(), Entry::Foreign(handle));
        state.wake_if_away();
    }

    /// Drive the loop until it is stopped; `run_forever` around it sets the running loop and the hooks.
    fn _drive(slf: &Bound<'_, Self>) -> PyResult<()> {
        run::run(slf.as_super())
    }

    /// RuntimeError in a forked child, for a loop that its parent made.
    fn _check_process(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.as_super().get().check_process()
    }

    /// Whether this is a forked child, and its parent made the loop.
    fn _is_inherited(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().shared.is_inherited()
    }

    /// A forked child: what waits in the loop is the parent's.
    fn _leave_to_parent(slf: &Bound<'_, Self>) {
        run::leave_to_parent(slf.as_super());
    }

    /// Drop what the loop owns natively; true when this call closed it.
    fn _close(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let first = run::close(slf.as_super())?;
        drop(slf.get().watch.take(slf.py()));
        Ok(first)
    }

    /// The watched descriptors and what each is watched for: bit 0 reading, bit 1 writing (as
    /// `selectors.EVENT_READ` and `EVENT_WRITE`).
    fn _watched(slf: &Bound<'_, Self>) -> Vec<(i32, u8)> {
        Self::watch(slf).map_or_else(|_closed| Vec::new(), |watch| watch.all(slf.py()))
    }

    /// What the loop has counted since it was made, how it has spent its time (in seconds), and what waits now, as a
    /// dictionary; docs/watching.md has its keys. Any thread may ask, at any time.
    fn statistics<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let watch = slf.get().watch.with(slf.py(), |watch| watch.clone());
        statistics::of(slf.py(), slf.as_super().get(), watch)
    }

    /// The number of the callback or step that runs now; None between two of them. Any thread may ask.
    fn _entry_that_runs(slf: &Bound<'_, Self>) -> Option<u64> {
        statistics::entry_that_runs(slf.py(), slf.as_super().get())
    }

    fn __setattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        above::set_attribute(slf.as_super(), name, Some(value))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        above::set_attribute(slf.as_super(), name, None)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.task_factory.peek_in_traverse(&visit) {
            Some(factory) => visit.call(factory),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| drop(self.task_factory.take(py)));
    }
}

impl Loop {
    #[inline]
    pub(crate) fn has_task_factory(&self, py: Python<'_>) -> bool {
        self.task_factory.with(py, |factory| factory.is_some())
    }

    fn watch(slf: &Bound<'_, Self>) -> PyResult<Arc<Watch>> {
        slf.as_super().get().check_process()?;
        let watch = slf.get().watch.with(slf.py(), |watch| watch.clone());
        watch.ok_or_else(|| PyRuntimeError::new_err("Event loop is closed"))
    }

    fn sock_call<'py>(slf: &Bound<'py, Self>, sock: Py<PyAny>, call: Call) -> Awaitable<'py> {
        let (py, watch) = (slf.py(), Self::watch(slf)?);
        watch.belong_to(slf.as_any())?;
        let debug = slf.as_super().get().debug.get(py);
        sock::future(watch, sock, debug, call).into_object(py)
    }

    fn watch_with<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        side: Side,
        callback: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        context: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Handle>> {
        let (py, state) = (slf.py(), slf.as_super());
        state.get().check_closed()?;
        let (file, fd) = (fd, descriptor_of(fd)?);
        let file = (!file.is_instance_of::<PyInt>()).then(|| file.clone().unbind());
        let context = match context {
            Some(context) if !context.is_none() => context,
            _ => context::copy_current(py)?,
        };
        let handle = Handle::new(schedule::parts(callback, args, Some(context)), state)?;
        collector::show(handle.as_any());
        Self::watch(slf)?.add(py, fd, file, side, handle.clone().unbind())?;
        state.get().wake_if_away();
        Ok(handle)
    }

    fn unwatch(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>, side: Side) -> PyResult<bool> {
        let shared = &slf.as_super().get().shared;
        if shared.lifecycle.is_closed() || shared.is_inherited() {
            return Ok(false);
        }
        let (py, watch) = (slf.py(), Self::watch(slf)?);
        match descriptor_of(fd) {
            Ok(fd) => Ok(watch.remove(py, fd, side)),
            // No descriptor has that number.
            Err(raised) if raised.is_instance_of::<PyOverflowError>(py) => Ok(false),
            // A socket that was closed has none, and is found by itself.
            Err(raised) => match watch.of_file(fd) {
                Some(fd) => Ok(watch.remove(py, fd, side)),
                None => Err(raised),
            },
        }
    }
}
