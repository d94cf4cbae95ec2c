//! The names of asyncio that the loop uses, looked up once. The private ones among them come from `pyloop._compat`, the
//! one place that knows what each CPython version calls them. What a Rust future needs on any loop is in `names`.

use super::call::Object;
use super::error;
use super::exit::outlast;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

/// asyncio's classes and registries.
#[derive(Debug)]
pub struct Asyncio {
    pub future_class: Py<PyType>,
    pub task_class: Py<PyType>,
    pub handle_class: Py<PyType>,
    pub timer_handle_class: Py<PyType>,
    /// Of `call_soon_threadsafe`: before CPython 3.14 `Handle`, as of `call_soon`.
    pub thread_safe_handle_class: Py<PyType>,
    pub buffered_protocol_class: Py<PyType>,
    pub iscoroutine: Py<PyAny>,
    pub get_event_loop: Py<PyAny>,
    /// Whether `set_exception(StopIteration())` is wrapped (gh-112182) or refused.
    pub wraps_stop_iteration: bool,
    /// `('context',)`, the keyword of `add_done_callback` and `call_soon`.
    pub context_keyword: Py<PyTuple>,
    /// The dictionary from loop to current task, where it may be written to (`accel::CURRENT_TASK`).
    current_tasks: Option<Py<PyDict>>,
    /// `_swap_current_task(loop, task)`.
    swap_current_task: Py<PyAny>,
    register_task: Py<PyAny>,
    unregister_task: Py<PyAny>,
    socket_class: Py<PyAny>,
    check_socket: Py<PyAny>,
    attach_to_server: Py<PyAny>,
    detach_from_server: Py<PyAny>,
    /// A Python function.
    pub do_nothing: Py<PyAny>,
    pub enter_task: Py<PyAny>,
    pub leave_task: Py<PyAny>,
    /// Python helpers for what is rare: representations, stacks, source tracebacks.
    pub compat: Py<PyModule>,
}

static ASYNCIO: PyOnceLock<Asyncio> = PyOnceLock::new();

/// The names, imported at the first call.
///
/// # Errors
/// What importing asyncio or `pyloop._compat` raises.
#[inline]
pub fn asyncio(py: Python<'_>) -> PyResult<&'static Asyncio> {
    match ASYNCIO.get(py) {
        Some(names) => Ok(names),
        None => {
            outlast();
            ASYNCIO.get_or_try_init(py, || Asyncio::import(py))
        }
    }
}

impl Asyncio {
    fn import(py: Python<'_>) -> PyResult<Self> {
        let asyncio = py.import("asyncio")?;
        let compat = py.import("pyloop._compat")?;
        let accel = py.import("pyloop._accel")?;
        let class =
            |name: &str| -> PyResult<Py<PyType>> { Ok(asyncio.try_getattr(name)?.cast_into::<PyType>()?.unbind()) };
        let private = |name: &str| -> PyResult<Py<PyAny>> { Ok(compat.try_getattr(name)?.unbind()) };
        Ok(Self {
            future_class: class("Future")?,
            task_class: class("Task")?,
            handle_class: class("Handle")?,
            timer_handle_class: class("TimerHandle")?,
            thread_safe_handle_class: compat.try_getattr("thread_safe_handle")?.cast_into::<PyType>()?.unbind(),
            buffered_protocol_class: class("BufferedProtocol")?,
            iscoroutine: asyncio.try_getattr("iscoroutine")?.unbind(),
            get_event_loop: asyncio.try_getattr("get_event_loop")?.unbind(),
            wraps_stop_iteration: compat.try_getattr("wraps_stop_iteration")?.extract()?,
            context_keyword: PyTuple::new(py, [pyo3::intern!(py, "context")])?.unbind(),
            current_tasks: accel.try_getattr("current_tasks")?.extract()?,
            swap_current_task: private("swap_current_task")?,
            register_task: private("register_task")?,
            unregister_task: private("unregister_task")?,
            socket_class: py.import("socket")?.try_getattr("socket")?.unbind(),
            check_socket: private("check_socket")?,
            attach_to_server: private("attach_to_server")?,
            detach_from_server: private("detach_from_server")?,
            do_nothing: private("do_nothing")?,
            enter_task: private("enter_task")?,
            leave_task: private("leave_task")?,
            compat: compat.unbind(),
        })
    }

    /// Make `task` the current task of `event_loop`.
    #[inline]
    pub fn set_current_task(&self, event_loop: &Bound<'_, PyAny>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        match &self.current_tasks {
            Some(dict) => {
                // SAFETY: `current_tasks` is a dictionary (looked at when it was fetched); the Bounds hold loop and
                // task for the call, and the GIL.
                let set = unsafe { ffi::PyDict_SetItem(dict.as_ptr(), event_loop.as_ptr(), task.as_ptr()) };
                error::answered(py, set).map(drop)
            }
            None => super::call::call_two(self.swap_current_task.bind(py), event_loop, task).map(drop),
        }
    }

    /// `event_loop` has no current task any more.
    #[inline]
    pub fn clear_current_task(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = event_loop.py();
        match &self.current_tasks {
            // SAFETY: `current_tasks` is a dictionary (looked at when it was fetched); the Bound holds the loop for the
            // calls, and the GIL.
            Some(dict) => unsafe {
                if error::answered(py, ffi::PyDict_Contains(dict.as_ptr(), event_loop.as_ptr()))? == 1 {
                    error::answered(py, ffi::PyDict_DelItem(dict.as_ptr(), event_loop.as_ptr()))?;
                }
                Ok(())
            },
            None => super::call::call_two(self.swap_current_task.bind(py), event_loop, py.None().bind(py)).map(drop),
        }
    }

    /// Swap the current task for another (None: no task), giving the one before: an eager start inside a step.
    pub fn swap_current_task<'py>(
        &self,
        event_loop: &Bound<'py, PyAny>,
        task: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        super::call::call_two(self.swap_current_task.bind(event_loop.py()), event_loop, task)
    }

    /// asyncio's `_register_task`, for a task whose loop is not ours.
    pub fn register_task(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        super::whole::call_one(self.register_task.bind(task.py()), task).map(drop)
    }

    pub fn unregister_task(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        super::whole::call_one(self.unregister_task.bind(task.py()), task).map(drop)
    }

    /// asyncio's checks of a socket given to a `sock_*` call: not TLS's, and (debug mode) non-blocking.
    #[inline]
    pub fn check_socket(&self, sock: &Bound<'_, PyAny>, debug: bool) -> PyResult<()> {
        let py = sock.py();
        let known = sock.is_exact_instance(self.socket_class.bind(py));
        if known && !debug {
            return Ok(());
        }
        super::call::call_two(self.check_socket.bind(py), sock, pyo3::types::PyBool::new(py, debug).as_any()).map(drop)
    }

    /// The server has one connection more.
    pub fn attach_to_server(&self, server: &Bound<'_, PyAny>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        super::call::call_two(self.attach_to_server.bind(server.py()), server, transport).map(drop)
    }

    /// The server has one connection less.
    pub fn detach_from_server(&self, server: &Bound<'_, PyAny>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        super::call::call_two(self.detach_from_server.bind(server.py()), server, transport).map(drop)
    }

    /// A helper of `pyloop._compat`, for what is rare.
    pub fn helper<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.compat.bind(py).try_getattr(name)
    }
}
