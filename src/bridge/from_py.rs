//! Python awaitables as Rust futures.
//!
//! The awaitable becomes a task of its loop at the first poll: in that poll, as an eager task, when it is made on the
//! loop's thread; else by a message to the loop. Nothing but the loop's thread touches Python.

use std::future::Future;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use futures::task::AtomicWaker;
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::body::Output;
use super::callback::callback_waker;
use super::link::{Awaiter, NativeLoop, stepping};
use super::locals::{TaskLocals, get_current_locals};
use crate::py::attach::attach_anywhere;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::refs::WeakRef;
use crate::py::{api, call, error, iter, names, require_main_for_futures};

/// A Rust future of a Python awaitable: a coroutine, a task, a future or any object with `__await__`.
///
/// Its first poll starts the awaitable on the event loop that was current when the future was made (a task is started
/// eagerly when that poll is made on the loop's own thread), later ones wait for it without the GIL. It may be awaited
/// on any thread and any runtime. Dropping it cancels the Python task. A task that was cancelled gives
/// [`CancelledError`](crate::CancelledError); a loop that is closed before it has started the awaitable, a
/// RuntimeError.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// /// Calls a coroutine function, and gives what it gives.
/// #[pyfunction]
/// fn calls(py: Python<'_>, function: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
///     pyloop::future_into_py(py, async move {
///         let future = Python::attach(|py| pyloop::into_future(function.bind(py).call0()?))?;
///         future.await
///     })
/// }
/// ```
///
/// # Errors
/// RuntimeError when there is no current event loop, and in a subinterpreter.
pub fn into_future(awaitable: Bound<'_, PyAny>) -> PyResult<PyFuture> {
    let locals = get_current_locals(awaitable.py())?;
    into_future_with_locals(&locals, awaitable)
}

/// [`into_future`] on the loop and in the context of these locals.
///
/// # Errors
/// RuntimeError in a subinterpreter.
pub fn into_future_with_locals(locals: &TaskLocals, awaitable: Bound<'_, PyAny>) -> PyResult<PyFuture> {
    let py = awaitable.py();
    require_main_for_futures(py)?;
    let target = Target::Own(TargetLoop::of(locals.event_loop(py)));
    let context = locals.context(py).unbind();
    Ok(PyFuture::new(target, Begin::Awaitable { awaitable: awaitable.unbind(), context }))
}

/// A Python awaitable as a Rust future: of [`into_future`], or of a [`Callback`](crate::Callback)'s call.
#[must_use = "a Python awaitable does nothing unless it is awaited"]
pub struct PyFuture {
    inner: Arc<Inner>,
    started: bool,
}

impl PyFuture {
    fn new(target: Target, begin: Begin) -> Self {
        let inner = Inner {
            target,
            begin: GilCell::new(Some(begin)),
            task: GilCell::default(),
            end: Mutex::default(),
            waker: AtomicWaker::new(),
            dropped: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner), started: false }
    }

    /// Its result as a Rust value: extracted as an argument is, by the loop's thread. Who awaits it elsewhere need not
    /// take the GIL for it.
    pub fn extracted<T>(self) -> Extracted<T>
    where
        T: for<'py> FromPyObjectOwned<'py> + Send + 'static,
    {
        let value = Arc::new(Mutex::new(None));
        let place = Arc::clone(&value);
        self.inner.end().take = Some(Box::new(move |given| {
            let taken = given.extract::<T>().map_err(Into::into)?;
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
            Ok(())
        }));
        Extracted { future: self, value }
    }

    /// Of what a call gives, which is made when the future is started.
    pub(super) fn calling(
        target: Arc<TargetLoop>,
        call: impl for<'py> FnOnce(Python<'py>) -> PyResult<Called<'py>> + Send + 'static,
    ) -> Self {
        Self::new(Target::Shared(target), Begin::Call(Box::new(call)))
    }
}

/// A call of Python, on the loop's thread.
type Call = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Called<'py>> + Send>;

/// What a call gave, and the context that it was made in, or None.
pub(super) struct Called<'py> {
    pub given: Bound<'py, PyAny>,
    pub context: Bound<'py, PyAny>,
}

/// How it begins.
enum Begin {
    Awaitable { awaitable: Py<PyAny>, context: Py<PyAny> },
    Call(Call),
}

/// How it ends.
#[derive(Default)]
struct End {
    result: Option<Output>,
    /// Called with the value, on the loop's thread.
    take: Option<Take>,
}

/// Takes what is wanted of a value.
type Take = Box<dyn FnOnce(&Bound<'_, PyAny>) -> PyResult<()> + Send>;

struct Inner {
    target: Target,
    /// Until it is started.
    begin: GilCell<Option<Begin>>,
    /// From then until it is done. A task of ours is kept alive by its loop.
    task: GilCell<Option<WeakRef>>,
    end: Mutex<End>,
    waker: AtomicWaker,
    dropped: AtomicBool,
}

impl Future for PyFuture {
    type Output = Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Output> {
        self.inner.waker.register(cx.waker());
        if !std::mem::replace(&mut self.started, true) {
            let start = Start(Some(Arc::clone(&self.inner)));
            self.inner.target.run(|py| start.run(py));
        }
        match self.inner.take_result() {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }
}

impl Drop for PyFuture {
    fn drop(&mut self) {
        let done = self.inner.end().result.is_some();
        if !self.started || done || self.inner.dropped.swap(true, Ordering::SeqCst) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        if self.inner.target.native.is_some() {
            self.inner.target.run(move |py| inner.cancel(py));
        } else {
            // What is on its way to a loop that may never run again keeps nothing of that loop's alive.
            attach_anywhere(|py| {
                if let Some(task) = inner.take_task(py) {
                    let task = WeakRef::of(&task);
                    inner.target.run(move |py| cancel(py, task.get(py)));
                }
            });
        }
    }
}

/// See [`PyFuture::extracted`].
#[must_use = "a Python awaitable does nothing unless it is awaited"]
pub struct Extracted<T> {
    future: PyFuture,
    value: Arc<Mutex<Option<T>>>,
}

impl<T: for<'py> FromPyObjectOwned<'py>> Future for Extracted<T> {
    type Output = PyResult<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<PyResult<T>> {
        let given = ready!(Pin::new(&mut self.future).poll(cx))?;
        let taken = self.value.lock().unwrap_or_else(PoisonError::into_inner).take();
        Poll::Ready(match taken {
            Some(taken) => Ok(taken),
            // It had ended before anybody said what of it is wanted.
            None => Python::attach(|py| given.bind(py).extract().map_err(Into::into)),
        })
    }
}

/// One for itself, or one of many for the same loop.
enum Target {
    Own(TargetLoop),
    Shared(Arc<TargetLoop>),
}

impl Deref for Target {
    type Target = TargetLoop;

    fn deref(&self) -> &TargetLoop {
        match self {
            Self::Own(target) => target,
            Self::Shared(target) => target,
        }
    }
}

/// The loop, which is not kept alive, and the way to its thread.
pub(super) struct TargetLoop {
    event_loop: WeakRef,
    native: Option<NativeLoop>,
}

impl TargetLoop {
    pub fn of(event_loop: Bound<'_, PyAny>) -> Self {
        Self { native: NativeLoop::of(&event_loop), event_loop: WeakRef::of(&event_loop) }
    }

    /// On the loop's thread: an exception of Python code that nobody waits for. What ends a run ends this one, by a
    /// callback that raises it: it came in the middle of a Rust future's poll, which has no way out of the loop.
    fn tell(&self, py: Python<'_>, raised: PyErr, about: Option<&Bound<'_, PyAny>>) {
        if !error::ends_the_run(py, &raised) {
            return error::unraisable(py, raised, about);
        }
        if let Err(failed) = self.call_soon(py, |_| Err(raised)) {
            error::unraisable(py, failed, about);
        }
    }

    fn call_soon(
        &self,
        py: Python<'_>,
        errand: impl FnOnce(Python<'_>) -> PyResult<()> + Send + 'static,
    ) -> PyResult<()> {
        let Some(event_loop) = self.event_loop.get(py) else { return errand(py) };
        let errand: Errand = Box::new(errand);
        let call = Bound::new(py, ErrandCall(GilCell::new(Some(errand))))?;
        event_loop.try_call_method(pyo3::intern!(py, "call_soon"), (call,)).map(drop)
    }

    /// Run an errand with the GIL on the loop's thread: now, if this is it. A loop that is closed drops it; so does the
    /// end of the interpreter.
    fn run(&self, errand: impl FnOnce(Python<'_>) + Send + 'static) {
        if let Some(native) = &self.native {
            if native.is_current() {
                Python::try_attach(errand);
            } else {
                native.run(move || {
                    Python::try_attach(errand);
                });
            }
            return;
        }
        attach_anywhere(|py| {
            let Some(event_loop) = self.event_loop.get(py) else { return };
            if names::running_loop(py).is_ok_and(|running| call::same(&running, &event_loop)) {
                return errand(py);
            }
            let errand: Errand = Box::new(|py| {
                errand(py);
                Ok(())
            });
            match Bound::new(py, ErrandCall(GilCell::new(Some(errand)))) {
                Ok(callable) => callback_waker(&event_loop, callable.into_any()).wake(),
                Err(raised) => error::unraisable(py, raised, None),
            }
        });
    }
}

type Errand = Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>;

/// The start of an awaitable on its way to the loop. Whoever waits is told when it does not arrive.
struct Start(Option<Arc<Inner>>);

impl Start {
    fn run(mut self, py: Python<'_>) {
        if let Some(inner) = self.0.take() {
            inner.start(py);
        }
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            inner.finish(Err(PyRuntimeError::new_err("Event loop is closed")));
            attach_anywhere(|py| inner.discard(py));
        }
    }
}

impl Inner {
    fn take_result(&self) -> Option<Output> {
        let result = self.end().result.take();
        if result.is_some() {
            // A drop finds nothing to cancel.
            self.dropped.store(true, Ordering::SeqCst);
        }
        result
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has returned, or raised.
    fn finish(&self, mut result: Output) {
        let mut end = self.end();
        if let (Ok(value), Some(take)) = (&result, end.take.take()) {
            drop(end);
            // This is the loop's thread, which has the GIL; Python code may run.
            let taken = Python::attach(|py| error::catch_panic(|| take(value.bind(py))).and_then(|taken| taken));
            if let Err(failed) = taken {
                result = Err(failed);
            }
            end = self.end();
        }
        let old = end.result.replace(result);
        drop(end);
        drop(old);
        self.waker.wake();
    }

    fn start(self: &Arc<Self>, py: Python<'_>) {
        if self.dropped.load(Ordering::SeqCst) {
            // Dropped while it was on its way.
            return self.discard(py);
        }
        let Some(begin) = self.begin.take(py) else { return };
        // Whoever waits must hear of a panic, too.
        match error::catch_panic(|| self.begin(py, begin)).and_then(|begun| begun) {
            Ok(()) => {}
            Err(raised) if error::ends_the_run(py, &raised) => self.end_the_run(py, raised),
            Err(raised) => self.finish(Err(raised)),
        }
    }

    /// The first step of an eager task has raised what ends the run. Whoever waits is told when the loop runs again, as
    /// the done callbacks of such a task are called then.
    fn end_the_run(self: &Arc<Self>, py: Python<'_>, raised: PyErr) {
        self.target.tell(py, raised.clone_ref(py), None);
        let this = Arc::clone(self);
        let tell = move |_: Python<'_>| {
            this.finish(Err(raised));
            Ok(())
        };
        if let Err(failed) = self.target.call_soon(py, tell) {
            self.finish(Err(failed));
        }
    }

    /// It is not started any more: as for a task that is cancelled before its first step, nothing is said.
    fn discard(&self, py: Python<'_>) {
        let Some(Begin::Awaitable { awaitable, .. }) = self.begin.take(py) else { return };
        let awaitable = awaitable.bind(py);
        let end = || {
            let name =
                if names::is_future(awaitable)? { pyo3::intern!(py, "cancel") } else { pyo3::intern!(py, "close") };
            match awaitable.try_getattr_opt(name)? {
                Some(end) => end.try_call(()).map(drop),
                // Any other awaitable has neither.
                None => Ok(()),
            }
        };
        if let Err(raised) = end() {
            self.target.tell(py, raised, Some(awaitable));
        }
    }

    fn begin(self: &Arc<Self>, py: Python<'_>, begin: Begin) -> PyResult<()> {
        match begin {
            Begin::Awaitable { awaitable, context } => self.start_task(awaitable.bind(py), context.bind(py)),
            Begin::Call(call) => {
                let Called { given, context } = call(py)?;
                if iter::is_awaitable(&given)? {
                    self.start_task(&given, &context)
                } else {
                    self.finish(Ok(given.unbind()));
                    Ok(())
                }
            }
        }
    }

    fn start_task(self: &Arc<Self>, awaitable: &Bound<'_, PyAny>, context: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = awaitable.py();
        let task = self.task_of(awaitable, context)?;
        if task.try_call_method(pyo3::intern!(py, "done"), ())?.try_is_truthy()? {
            self.finish(result_of(&task));
            return Ok(());
        }
        let call = Bound::new(py, DoneCall { inner: Arc::downgrade(self), awaiter: stepping(py) })?;
        task.try_call_method(pyo3::intern!(py, "add_done_callback"), (call,))?;
        let ours = self.target.native.is_some() && call::same(task.get_type().as_any(), task_class(py)?.as_any());
        let task = if ours { WeakRef::of(&task) } else { WeakRef::Strong(task.unbind()) };
        drop(self.task.replace(py, Some(task)));
        if self.dropped.load(Ordering::SeqCst) {
            // By the first step of the task.
            self.cancel(py);
        }
        Ok(())
    }

    /// The future to wait for: the awaitable itself, or a task made of it.
    fn task_of<'py>(&self, awaitable: &Bound<'py, PyAny>, context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = awaitable.py();
        let Some(event_loop) = self.target.event_loop.get(py) else {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        };
        if self.target.native.is_some()
            && api::is_native_coroutine(awaitable)
            && event_loop.try_call_method(pyo3::intern!(py, "get_task_factory"), ())?.is_none()
        {
            let eager = eager_keywords(py)?;
            let keywords = eager.copy()?;
            keywords.set_item(pyo3::intern!(py, "loop"), event_loop)?;
            keywords.set_item(pyo3::intern!(py, "context"), context)?;
            let args = PyTuple::new(py, [awaitable])?;
            let (task, begun) = call::create(task_class(py)?, &args, &keywords)?;
            // Whoever awaits is told of what ends the run, too.
            if begun.is_err() {
                task.try_setattr(pyo3::intern!(py, "_log_traceback"), false)?;
            }
            return begun.map(|()| task);
        }
        let keywords = PyDict::new(py);
        keywords.set_item(pyo3::intern!(py, "loop"), event_loop)?;
        let ensure_future = names::ensure_future(py)?;
        if names::is_future(awaitable)? || context.is_none() {
            return ensure_future.try_call_with((awaitable,), &keywords);
        }
        context.try_call_method_with(pyo3::intern!(py, "run"), (ensure_future, awaitable), &keywords)
    }

    /// Nobody waits for it any more.
    fn cancel(self: &Arc<Self>, py: Python<'_>) {
        cancel(py, self.take_task(py));
    }

    fn take_task<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.task.take(py).and_then(|task| task.get(py))
    }
}

fn cancel(py: Python<'_>, task: Option<Bound<'_, PyAny>>) {
    if let Some(task) = task
        && let Err(raised) = task.try_call_method(pyo3::intern!(py, "cancel"), ())
    {
        error::unraisable(py, raised, Some(&task));
    }
}

/// What a future that is done has.
fn result_of(future: &Bound<'_, PyAny>) -> Output {
    future.try_call_method(pyo3::intern!(future.py(), "result"), ()).map(Bound::unbind)
}

/// `pyloop.Task`, where a loop of pyloop's runs.
fn task_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let find = || Ok::<_, PyErr>(py.import("pyloop._native")?.try_getattr("Task")?.cast_into::<PyType>()?.unbind());
    let class = CLASS.get_or_try_init(py, find)?;
    Ok(class.bind(py))
}

fn eager_keywords(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static KEYWORDS: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let keywords = KEYWORDS.get_or_try_init(py, || {
        let keywords = PyDict::new(py);
        keywords.set_item(pyo3::intern!(py, "eager_start"), true)?;
        Ok::<_, PyErr>(keywords.unbind())
    })?;
    Ok(keywords.bind(py))
}

/// An errand as a Python callable.
#[pyclass(frozen, module = "pyloop._native")]
struct ErrandCall(GilCell<Option<Errand>>);

#[pymethods]
impl ErrandCall {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.0.take(py).map_or(Ok(()), |errand| errand(py))
    }
}

/// The task's done callback. It does not keep alive what has the task: a task that nobody runs any more must be able
/// to go.
#[pyclass(frozen, module = "pyloop._native")]
struct DoneCall {
    inner: Weak<Inner>,
    awaiter: Awaiter,
}

#[pymethods]
impl DoneCall {
    #[pyo3(signature = (future, /))]
    fn __call__(&self, future: &Bound<'_, PyAny>) {
        let py = future.py();
        // Asked in any case: an exception that nobody waits for is not reported.
        let result = result_of(future);
        let Some(inner) = self.inner.upgrade() else { return };
        drop(inner.task.take(py));
        if !inner.dropped.load(Ordering::SeqCst) {
            inner.finish(result);
        }
    }

    /// `id()` of the task whose step has started it, for who asks what awaits what: the Rust future that waits for it
    /// is what that task awaits, unless it was handed on since. None: it was started elsewhere.
    #[getter]
    fn _awaiter(&self) -> Option<usize> {
        self.awaiter.map(NonZeroUsize::get)
    }
}

/// The async iterator's next item as a future.
pub(super) fn next_item(locals: &TaskLocals, iterator: &Bound<'_, PyAny>) -> PyResult<PyFuture> {
    let item = iterator.try_call_method(pyo3::intern!(iterator.py(), "__anext__"), ())?;
    into_future_with_locals(locals, item)
}

/// Have the loop call `iterator.aclose()` and run that to its end, after the cancellations that are on their way.
pub(super) fn close(locals: &TaskLocals, iterator: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = iterator.py();
    let Some(aclose) = iterator.try_getattr_opt(pyo3::intern!(py, "aclose"))? else { return Ok(()) };
    let call = Bound::new(py, CloseCall { aclose: aclose.unbind(), locals: locals.clone() })?.unbind();
    let locals = locals.clone();
    // By way of the queue: what was cancelled gets its step first.
    TargetLoop::of(locals.event_loop(py)).run(move |py| {
        callback_waker(&locals.event_loop(py), call.into_bound(py).into_any()).wake();
    });
    Ok(())
}

/// Starts the task that closes an async generator.
#[pyclass(frozen, module = "pyloop._native")]
struct CloseCall {
    aclose: Py<PyAny>,
    locals: TaskLocals,
}

#[pymethods]
impl CloseCall {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let closing = self.aclose.bind(py).try_call(())?;
        let keywords = PyDict::new(py);
        keywords.set_item(pyo3::intern!(py, "loop"), self.locals.event_loop(py))?;
        names::ensure_future(py)?.try_call_with((closing,), &keywords).map(drop)
    }

    /// The locals are shared with Rust code, of which the collector does not know.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.aclose)
    }
}
