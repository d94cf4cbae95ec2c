//! `pyloop.Task`: asyncio's Task, natively, for Python. `isinstance(task, asyncio.Task)` holds.

use pyo3::exceptions::{PyRecursionError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::drive;
use super::name::Name;
use super::object::Task;
use super::registry;
use super::state::{TaskState, Wait};
use crate::accel::collector::{self, Hidden};

use crate::bridge::step::{is_rust_coroutine, rust_future};
use crate::bridge::waker::SharedSlot;
use crate::core::ready::Lane;
use crate::future::Future;
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::direct::{self, Args, Direct, keeps_usual};
use crate::py::exit::outlast;
use crate::py::finalize::Finalize;
use crate::py::{api, call, context, depth, whole};
use crate::sched::LoopState;
use crate::sched::clock::clock;

/// A new task of a loop of ours (`loop.create_task`), its first step queued. `eager`: that step is left to
/// `begin_eagerly`.
///
/// # Errors
/// TypeError when `coroutine` is none.
pub fn spawn<'py>(
    event_loop: &Bound<'py, LoopState>,
    coroutine: Bound<'py, PyAny>,
    name: Option<&Bound<'py, PyAny>>,
    context: Option<Bound<'py, PyAny>>,
    lane: Lane,
    eager: bool,
) -> PyResult<Bound<'py, Task>> {
    let py = event_loop.py();
    check_coroutine(&coroutine)?;
    let context = context_of(py, context)?;
    let (coroutine, context, name) = (coroutine.unbind(), context, Name::new(name)?);
    let (future_loop, home) = (event_loop.as_any().clone().unbind(), event_loop.clone().unbind());
    let task = collector::create_hidden::<Task>(py, || {
        let state = TaskState {
            home: Some(home),
            coroutine: Some(Hidden::new(coroutine)),
            context: Some(Hidden::new(context)),
            name,
            lane,
            ..TaskState::default()
        };
        let this = Task { state: GilCell::new(state), shared: SharedSlot::default() };
        (Future::bound_to(future_loop), this)
    })?;
    if event_loop.get().debug.get(py) {
        task.as_super().get().note_origin(py)?;
    }
    begin_or_leave(&task, eager)?;
    Ok(task)
}

/// The end of a method that PyO3 wraps, in which no program's code may run that a greenlet can leave in the middle
/// (`py::direct`): an eager task's first step is left to `begin_eagerly`, after that method.
fn begin_or_leave(task: &Bound<'_, Task>, eager: bool) -> PyResult<()> {
    if eager {
        task.get().state.with(task.py(), |state| state.wait = Wait::Unbegun);
        return Ok(());
    }
    begin(task, false)
}

/// The first step of a task that is to start eagerly, if it was made so and has not begun.
///
/// # Errors
/// RecursionError; what ends the run.
pub fn begin_eagerly(task: &Bound<'_, Task>) -> PyResult<()> {
    let due = task.get().state.with(task.py(), |state| {
        let due = matches!(state.wait, Wait::Unbegun);
        if due {
            state.wait = Wait::Queued;
        }
        due
    });
    if due { begin(task, true) } else { Ok(()) }
}

/// `Task(...)`: PyO3's `__init__`, and the first step of a task that starts eagerly.
struct Initialize;

impl Direct for Initialize {
    type Class = Task;
    const NAME: &'static str = "__init__";
    const SIGNATURE: Option<&'static str> =
        Some("($self, coro, *, loop=None, name=None, context=None, eager_start=False)");

    fn call<'py>(slf: &Bound<'py, Task>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let made = direct::usual::<Self>(slf, args);
        Some(made.and_then(|none| begin_eagerly(slf).map(|()| none)))
    }

    keeps_usual!();
}

/// Put the class's direct methods in place; before it has subclasses.
///
/// # Errors
/// MemoryError.
pub fn install_direct_methods(py: Python<'_>) -> PyResult<()> {
    direct::stand_before::<Initialize>(&py.get_type::<Task>())
}

/// Register the task and queue (or, eagerly, run) its first step.
fn begin(task: &Bound<'_, Task>, eager: bool) -> PyResult<()> {
    let py = task.py();
    let home = task.get().home(py);
    let home = home.as_ref().map(|home| home.get());
    if !eager && let Some(state) = home {
        state.check_thread_in_debug_mode(py)?;
    }
    // Asked before anybody knows of the task: it is as if it had not been made.
    let _deeper = if eager { Some(enter_eagerly(task)?) } else { None };
    registry::register(task, home)?;
    if eager {
        let event_loop = task.as_super().get().event_loop(py)?;
        let is_running = event_loop.try_call_method(pyo3::intern!(py, "is_running"), ());
        if is_running.and_then(|answer| answer.try_is_truthy()).or_else(|raised| too_deep(task, home, raised))? {
            drive::step_eagerly(task).or_else(|raised| too_deep(task, home, raised))?;
            if task.as_super().get().is_done(py) {
                drop(task.get().state.with(py, |state| state.coroutine.take()));
            }
            return Ok(());
        }
    }
    match drive::schedule(task) {
        Ok(()) => Ok(()),
        Err(raised) => refused(task, home, raised),
    }
}

/// Somebody's `call_soon` has refused it: it is as if it had not been made, but for the report of its end.
#[cold]
fn refused(task: &Bound<'_, Task>, home: Option<&LoopState>, raised: PyErr) -> PyResult<()> {
    drop(registry::unregister(task, home));
    Err(raised)
}

/// An eager task's first step has raised. When the stack had no room for it to begin, it is as if the task had not been
/// made: what is called on the way to the coroutine may find the stack's end, too.
#[cold]
fn too_deep<T>(task: &Bound<'_, Task>, home: Option<&LoopState>, raised: PyErr) -> PyResult<T> {
    let py = task.py();
    if raised.is_instance_of::<PyRecursionError>(py) && !task.get().state.with(py, |state| state.begun) {
        task.get().state.with(py, |state| state.log_destroy_pending = false);
        drop(registry::unregister(task, home));
    }
    Err(raised)
}

/// An eager task's first step may make the next eager task.
fn enter_eagerly<'py>(task: &Bound<'py, Task>) -> PyResult<depth::Call<'py>> {
    let py = task.py();
    depth::enter_call(py, c" in the first step of an eager task").inspect_err(|_| {
        task.get().state.with(py, |state| state.log_destroy_pending = false);
    })
}

/// The context given, or a copy of the current one.
#[inline]
fn context_of(py: Python<'_>, given: Option<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    match given {
        // gh-157301: since 3.15 asked at once, before that the first step fails.
        Some(context) if !context.is_none() && cfg!(Py_3_15) && !context::is_context(&context) => {
            let name = context.get_type().name()?;
            Err(PyTypeError::new_err(format!("a contextvars.Context was expected, got {name}")))
        }
        Some(context) if !context.is_none() => Ok(context.unbind()),
        _ => context::copy_current(py).map(Bound::unbind),
    }
}

fn check_coroutine(coroutine: &Bound<'_, PyAny>) -> PyResult<()> {
    if api::is_native_coroutine(coroutine) || is_rust_coroutine(coroutine) {
        return Ok(());
    }
    let py = coroutine.py();
    if whole::call_one(asyncio(py)?.iscoroutine.bind(py), coroutine)?.try_is_truthy()? {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("a coroutine was expected, got {}", coroutine.try_repr()?)))
}

#[pymethods]
impl Task {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(coro, *, loop=None, name=None, context=None, eager_start=False)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyClassInitializer<Self> {
        let base = PyClassInitializer::from(Future { state: GilCell::default() });
        base.add_subclass(Self { state: GilCell::default(), shared: SharedSlot::default() })
    }

    #[pyo3(signature = (coro, *, r#loop = None, name = None, context = None, eager_start = None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        coro: Bound<'_, PyAny>,
        r#loop: Option<Bound<'_, PyAny>>,
        name: Option<Bound<'_, PyAny>>,
        context: Option<Bound<'_, PyAny>>,
        eager_start: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let exact = slf.is_exact_instance_of::<Self>();
        Future::initialize(slf.as_super(), r#loop, exact)?;
        if let Err(refused) = check_coroutine(&coro) {
            // asyncio: a task that never was is not reported as destroyed.
            slf.get().state.with(py, |state| state.log_destroy_pending = false);
            return Err(refused);
        }
        let context = context_of(py, context)
            .inspect_err(|_| slf.get().state.with(py, |state| state.log_destroy_pending = false))?;
        let event_loop = slf.as_super().get().event_loop(py)?;
        let (place, hidden) = slf.get().state.with(py, |state| (state.place, state.hidden));
        let state = TaskState {
            home: slf.get().home(py).or_else(|| drive::home_of(&event_loop)).map(Bound::unbind),
            coroutine: Some(Hidden::new(coro.unbind())),
            context: Some(Hidden::new(context)),
            name: Name::new(name.as_ref())?,
            place,
            hidden,
            ..TaskState::default()
        };
        drop(slf.get().state.replace(py, state));
        if let Some(shared) = slf.get().shared.get() {
            shared.begin_again();
        }
        begin_or_leave(slf, eager_start.map_or(Ok(false), |eager| eager.try_is_truthy())?)
    }

    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        Ok(call::class_of(slf.as_any(), &asyncio(py)?.task_class, &py.get_type::<Self>()))
    }

    #[pyo3(signature = (result, /))]
    #[allow(unused_variables, reason = "asyncio's names")]
    fn set_result(&self, result: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyRuntimeError::new_err("Task does not support set_result operation"))
    }

    #[pyo3(signature = (exception, /))]
    #[allow(unused_variables, reason = "asyncio's names")]
    fn set_exception(&self, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(PyRuntimeError::new_err("Task does not support set_exception operation"))
    }

    /// Ask the task to end: CancelledError is thrown into it in the next turn. False when it is done.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        enum Awaited {
            Nothing,
            Future(Py<PyAny>),
            Rust,
        }
        let (py, this) = (slf.py(), slf.get());
        let future = slf.as_super().get();
        future.state.with(py, |state| state.log_traceback = false);
        if future.is_done(py) {
            return Ok(false);
        }
        let awaited = this.state.with(py, |state| {
            state.cancels += 1;
            match &state.wait {
                Wait::Future(awaited) => Awaited::Future(awaited.get().clone_ref(py).into_any()),
                Wait::Foreign(awaited) => Awaited::Future(awaited.clone_ref(py)),
                Wait::Rust(_) => Awaited::Rust,
                _ => Awaited::Nothing,
            }
        });
        if let Awaited::Future(awaited) = &awaited
            && drive::cancel_any(awaited.bind(py), msg.as_ref().map(|msg| msg.clone_ref(py)))?
        {
            return Ok(true);
        }
        this.state.with(py, |state| state.must_cancel = true);
        drop(future.state.with(py, |state| state.set_cancel_message(msg)));
        if let Awaited::Rust = awaited {
            drive::drop_rust(slf)?;
        }
        Ok(true)
    }

    /// How many cancellation requests are open.
    fn cancelling(&self, py: Python<'_>) -> u32 {
        self.state.with(py, |state| state.cancels)
    }

    /// Take one cancellation request back; how many remain.
    fn uncancel(&self, py: Python<'_>) -> u32 {
        self.state.with(py, |state| {
            if state.cancels > 0 {
                state.cancels -= 1;
                // gh-117407, since 3.13: a task that nobody wants cancelled any more is not.
                if cfg!(Py_3_13) && state.cancels == 0 {
                    state.must_cancel = false;
                }
            }
            state.cancels
        })
    }

    /// The task's name, a str.
    fn get_name(&self, py: Python<'_>) -> Py<PyString> {
        self.state.with(py, |state| state.name.to_python(py))
    }

    /// Give the task another name: `str(value)`.
    #[pyo3(signature = (value, /))]
    fn set_name(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        // Before CPython 3.14 `BaseEventLoop.create_task` gives a factory's tasks their names: None, if there is none.
        let making = |state: &TaskState| state.home.as_ref().is_some_and(|home| home.get().making.get(py).is_some());
        if value.is_none() && self.state.with(py, |state| making(state)) {
            return Ok(());
        }
        let name = Name::Given(value.try_str()?.unbind());
        drop(self.state.with(py, |state| std::mem::replace(&mut state.name, name)));
        Ok(())
    }

    /// The coroutine that the task drives; None for an eager task that ended in its first step.
    fn get_coro(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.coroutine.as_ref().map(|coroutine| coroutine.get().clone_ref(py)))
    }

    /// The context in which the task's steps run.
    fn get_context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.context.as_ref().map(|context| context.get().clone_ref(py)))
    }

    /// The frames of the suspended coroutine, or of the traceback it ended with.
    #[pyo3(signature = (*, limit = None))]
    fn get_stack(slf: &Bound<'_, Self>, limit: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "task_get_stack")?.try_call((slf, limit))?.unbind())
    }

    /// Print the stack as a traceback, to `file` or the standard error; at most `limit` frames of it.
    #[pyo3(signature = (*, limit = None, file = None))]
    fn print_stack(slf: &Bound<'_, Self>, limit: Option<Py<PyAny>>, file: Option<Py<PyAny>>) -> PyResult<()> {
        asyncio(slf.py())?.helper(slf.py(), "task_print_stack")?.try_call((slf, limit, file)).map(drop)
    }

    /// The last look; a method, so that Python subclasses inherit it as their finalizer.
    fn __del__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::finalize(slf)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "task_repr")?.try_call((slf,))?.unbind())
    }

    #[getter]
    fn _coro(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get_coro(py)
    }

    /// greenback puts a coroutine around the task's, which goes on with the next step.
    #[setter(_coro)]
    fn set_private_coro(&self, py: Python<'_>, coroutine: Bound<'_, PyAny>) {
        // Only a Rust future is told whether its first step is made.
        let begun = !rust_future(&coroutine).is_some_and(|future| future.get().is_new(py));
        let coroutine = Hidden::new(coroutine.unbind());
        let before = self.state.with(py, |state| {
            if state.hidden {
                coroutine.hide(py);
            }
            state.begun = begun;
            (state.coroutine.replace(coroutine), state.awaits.take())
        });
        drop(before);
    }

    #[getter]
    fn _fut_waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| match &state.wait {
            Wait::Future(awaited) => Some(awaited.get().clone_ref(py).into_any()),
            Wait::Woken(awaited) => Some(awaited.clone_ref(py).into_any()),
            Wait::Foreign(awaited) | Wait::WokenForeign(awaited) | Wait::Rust(awaited) => Some(awaited.clone_ref(py)),
            _ => None,
        })
    }

    /// How many seconds ago its last step began; None: it has made none, or is a loop's that is not ours.
    #[getter]
    fn _since_step(&self, py: Python<'_>) -> Option<f64> {
        let began = self.state.with(py, |state| state.step_began);
        (began != 0).then(|| clock().saturating_sub(began) as f64 * 1e-9)
    }

    #[getter]
    fn _must_cancel(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.must_cancel)
    }

    #[getter]
    fn _num_cancels_requested(&self, py: Python<'_>) -> u32 {
        self.cancelling(py)
    }

    #[getter]
    fn _log_destroy_pending(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.log_destroy_pending)
    }

    #[setter(_log_destroy_pending)]
    fn set_private_log_destroy_pending(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let value = value.try_is_truthy()?;
        self.state.with(py, |state| state.log_destroy_pending = value);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(state) = self.state.peek_in_traverse(&visit) {
            visit.call(state.coroutine.as_ref().map(Hidden::get))?;
            visit.call(state.context.as_ref().map(Hidden::get))?;
            state.awaits.iter().flat_map(|chain| chain.iter()).try_for_each(|each| visit.call(each))?;
            if let Name::Given(name) = &state.name {
                visit.call(name)?;
            }
            visit.call(&state.home)?;
            match &state.wait {
                // An exception made by us, which nobody else has.
                Wait::Queued | Wait::Running | Wait::Unbegun | Wait::Thrown(_) => {}
                Wait::Future(awaited) => visit.call(awaited.get())?,
                Wait::Woken(awaited) => visit.call(awaited)?,
                Wait::Foreign(awaited) | Wait::WokenForeign(awaited) | Wait::Rust(awaited) => visit.call(awaited)?,
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| {
            // What it waits for goes now: a late wake has nothing to do with it any more.
            if let Some(shared) = self.shared.get() {
                shared.forget_task(py);
            }
            drop(self.state.take(py));
        });
    }
}
