//! `Handle`: what `call_soon` gives back. `isinstance(handle, asyncio.Handle)` holds.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};

use super::state::LoopState;
use crate::accel::collector::{self, Hidden};
use crate::accel::pool::{Pooled, has_pool};
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::cell::GilCell;
use crate::py::code_of::key_of_callable;
use crate::py::error::Slim;
use crate::py::exit::outlast;
use crate::py::{context, error, refs, whole};

/// A callback with its arguments.
#[derive(Debug)]
struct Callback {
    callable: Py<PyAny>,
    /// None: no arguments.
    args: Option<Hidden<PyTuple>>,
}

impl Callback {
    #[inline]
    fn let_go(self, py: Python<'_>) {
        self.callable.drop_ref(py);
        if let Some(args) = self.args {
            args.let_go(py);
        }
    }
}

/// Debug mode's share of a handle.
#[derive(Debug, Default)]
struct Origin {
    /// Where it was scheduled: `traceback.StackSummary`.
    source_traceback: Option<Py<PyAny>>,
    /// What it looked like when it was cancelled.
    looked: Option<Py<PyAny>>,
}

impl Origin {
    #[cold]
    fn let_go(self, py: Python<'_>) {
        for object in [self.source_traceback, self.looked].into_iter().flatten() {
            object.drop_ref(py);
        }
    }
}

#[derive(Debug)]
struct State {
    /// None once cancelled.
    callback: Option<Callback>,
    origin: Option<Box<Origin>>,
    /// None: it was cancelled, and nobody else had the context.
    context: Option<Py<PyAny>>,
    known_as: KnownAs,
    cancelled: bool,
}

/// What a handle has of its context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KnownAs {
    /// The context, which is its own or the caller's.
    Itself,
    /// A snapshot that other handles share (`snapshots.rs`): nobody sees it.
    Snapshot,
    /// It was cancelled: a weak reference to a context that somebody else had.
    Weakly,
}

/// What a handle is made of.
pub struct Parts<'py> {
    pub callable: Bound<'py, PyAny>,
    /// None: no arguments.
    pub args: Option<Bound<'py, PyTuple>>,
    /// None: a copy of the current context.
    pub context: Option<Bound<'py, PyAny>>,
}

/// The object returned by `loop.call_soon()` (kept from asyncio: `asyncio.Handle`).
#[pyclass(frozen, subclass, weakref, module = "pyloop._native")]
pub struct Handle {
    state: GilCell<State>,
    event_loop: Py<LoopState>,
}

impl Handle {
    /// What makes the value, which is of no use outside an instance.
    ///
    /// # Errors
    /// MemoryError.
    #[inline(always)]
    pub(super) fn maker<'py>(
        parts: Parts<'py>,
        event_loop: &Bound<'py, LoopState>,
    ) -> PyResult<impl FnOnce() -> Self + use<'py>> {
        let (context, is_snapshot) = match parts.context {
            Some(context) => (context, false),
            None => event_loop.get().snapshots.for_callback(event_loop.py())?,
        };
        let event_loop = event_loop.clone();
        Ok(move || {
            let callback =
                Callback { callable: parts.callable.unbind(), args: parts.args.map(|args| Hidden::new(args.unbind())) };
            let context = Some(context.unbind());
            let known_as = if is_snapshot { KnownAs::Snapshot } else { KnownAs::Itself };
            let state = State { callback: Some(callback), origin: None, context, known_as, cancelled: false };
            Self { state: GilCell::new(state), event_loop: event_loop.unbind() }
        })
    }

    /// A handle, not queued and hidden from the collector.
    ///
    /// # Errors
    /// MemoryError; in debug mode, what looking at the stack raises.
    #[inline(always)]
    pub fn new<'py>(parts: Parts<'py>, event_loop: &Bound<'py, LoopState>) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let make = Self::maker(parts, event_loop)?;
        let handle: Bound<'_, Self> = collector::create_hidden(py, || (make(),))?;
        if event_loop.get().debug.get(py) {
            handle.get().note_origin(py)?;
        }
        Ok(handle)
    }

    /// It goes into its loop's queues, which keep it alive while the loop runs: the cycle collector need not look at
    /// it then, nor at the tuple of its arguments, which is its own.
    #[inline(always)]
    pub fn begin_waiting(slf: &Bound<'_, Self>) {
        let (py, this) = (slf.py(), slf.get());
        if this.event_loop.get().shared.lifecycle.is_running() {
            this.state.with(py, |state| {
                if let Some(args) = state.callback.as_ref().and_then(|callback| callback.args.as_ref()) {
                    args.hide(py);
                }
            });
        } else {
            collector::show(slf.as_any());
        }
    }

    /// It has run or is cancelled, or the run is over: the collector's business again, if anybody holds it.
    #[inline]
    pub(super) fn end_waiting(slf: &Bound<'_, Self>) {
        if refs::is_shared(slf.as_any()) {
            Self::show(slf);
        }
    }

    /// The collector is to see it, and its arguments.
    pub(super) fn show(slf: &Bound<'_, Self>) {
        if let Some(args) = slf.get().args(slf.py()) {
            collector::show(&args);
        }
        collector::show(slf.as_any());
    }

    fn args<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyTuple>> {
        let args =
            self.state.with(py, |state| state.callback.as_ref()?.args.as_ref().map(|args| args.get().clone_ref(py)));
        args.map(|args| args.into_bound(py))
    }

    /// Remember where it is made (debug mode).
    pub(super) fn note_origin(&self, py: Python<'_>) -> PyResult<()> {
        let stack = asyncio(py)?.helper(py, "extract_stack")?.try_call(())?.unbind();
        drop(self.state.with(py, |state| state.origin.get_or_insert_default().source_traceback.replace(stack)));
        Ok(())
    }

    /// The context, which is the handle's own from now on. One that was cancelled has it while somebody else does, then
    /// an empty one.
    fn own_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (known, known_as) =
            self.state.with(py, |state| (state.context.as_ref().map(|known| known.clone_ref(py)), state.known_as));
        let known = known.map(|known| known.into_bound(py));
        let own = match (known, known_as) {
            (Some(known), KnownAs::Itself) => return Ok(known),
            (Some(known), KnownAs::Snapshot) => context::copy(&known)?,
            (Some(known), KnownAs::Weakly) => match known.cast::<PyWeakrefReference>()?.upgrade() {
                Some(context) => return Ok(context),
                None => context::empty(py)?,
            },
            (None, _) => context::empty(py)?,
        };
        self.set_own_context(&own);
        Ok(own)
    }

    fn set_own_context(&self, own: &Bound<'_, PyAny>) {
        let py = own.py();
        self.replace_context(py, Some(own.clone().unbind()), KnownAs::Itself);
    }

    fn replace_context(&self, py: Python<'_>, context: Option<Py<PyAny>>, known_as: KnownAs) {
        let before = self.state.with(py, |state| {
            state.known_as = known_as;
            std::mem::replace(&mut state.context, context)
        });
        if let Some(before) = before {
            before.drop_ref(py);
        }
    }

    /// It is cancelled, and does not keep the values of the context's variables: a timer may be due in an hour only.
    fn let_go_of_shared_context(&self, py: Python<'_>) {
        let elsewhere = self.state.with(py, |state| match (&state.context, state.known_as) {
            (Some(context), KnownAs::Itself) if refs::is_shared(context.bind(py)) => Some(context.clone_ref(py)),
            _ => None,
        });
        // asyncio's handle has the context still: so does ours, as long as there is one.
        match elsewhere.map(|context| PyWeakrefReference::new(context.bind(py))) {
            Some(Ok(reference)) => self.replace_context(py, Some(reference.into_any().unbind()), KnownAs::Weakly),
            _ => self.replace_context(py, None, KnownAs::Itself),
        }
    }

    /// Run it, in the turn. The error is one that ends the run.
    #[inline]
    pub(super) fn run(slf: &Bound<'_, Self>) -> Slim<()> {
        Self::run_by(slf, true)
    }

    /// As `run`, by the turn or by hand: then inside of whatever context there is.
    #[inline(always)]
    pub(super) fn run_by(slf: &Bound<'_, Self>, turn: bool) -> Slim<()> {
        let py = slf.py();
        let this = slf.get();
        // Cloned, not taken: the callback may look at its own handle, or an exception handler may.
        let Some((callable, args, snapshot)) = this.state.with(py, |state| {
            let callback = state.callback.as_ref()?;
            let args = callback.args.as_ref().map(|args| args.get().clone_ref(py));
            let snapshot = if state.known_as == KnownAs::Snapshot { state.context.as_ref() } else { None };
            Some((callback.callable.clone_ref(py), args, snapshot.map(|snapshot| snapshot.clone_ref(py))))
        }) else {
            return Ok(());
        };
        let (callable, args) = (callable.into_bound(py), args.map(|args| args.into_bound(py)));
        // The error goes past the calls below: a result that may be one is moved about as a whole.
        let mut raised = None;
        let mut call = || match whole::call_tuple(&callable, args.as_ref()) {
            Ok(_) => true,
            Err(error) => {
                raised = Some(Box::new(error));
                false
            }
        };
        let entered = match snapshot.map(|snapshot| snapshot.into_bound(py)) {
            Some(snapshot) if turn && !whole::is_reachable(slf.as_any()) => {
                // Nobody but the turn knows the handle: nobody asks for its context, until an error is reported.
                let snapshots = &this.event_loop.get().snapshots;
                snapshots.run_in_copy(snapshot, &mut call, |copy| this.set_own_context(copy))
            }
            _ => this.own_context(py).and_then(|own| {
                let _inside = context::inside(&own)?;
                call();
                Ok(())
            }),
        };
        match entered.err().map(Box::new).or(raised) {
            None => Ok(()),
            Some(raised) => this.report(slf, &callable, args, raised),
        }
    }

    #[cold]
    fn report(
        &self,
        handle: &Bound<'_, Self>,
        callable: &Bound<'_, PyAny>,
        args: Option<Bound<'_, PyTuple>>,
        raised: Box<PyErr>,
    ) -> Slim<()> {
        let py = handle.py();
        if error::ends_the_run(py, &raised) {
            return Err(raised);
        }
        // The handler may keep them.
        Self::show(handle);
        let args = args.unwrap_or_else(|| PyTuple::empty(py));
        let debug = self.event_loop.get().debug.get(py);
        let text = asyncio(py)?.helper(py, "format_callback_source")?.try_call((callable, args, debug))?;
        let message = format!("Exception in callback {text}");
        let exception = raised.value(py).as_any().clone();
        let mut items = vec![("exception", &exception), ("handle", handle.as_any())];
        let stack = self._source_traceback(py).map(|stack| stack.into_bound(py));
        if let Some(stack) = &stack {
            items.push(("source_traceback", stack));
        }
        Ok(error::call_exception_handler(self.event_loop.bind(py), &message, &items)?)
    }

    /// Cancel it. False: it was cancelled before.
    pub fn cancel_once(slf: &Bound<'_, Self>) -> bool {
        let (py, this) = (slf.py(), slf.get());
        if this.state.with(py, |state| std::mem::replace(&mut state.cancelled, true)) {
            return false;
        }
        if this.event_loop.get().debug.get(py) {
            this.keep_look(slf);
        }
        if refs::is_shared(slf.as_any()) {
            collector::show(slf.as_any());
        }
        let (callback, context) = this.state.with(py, |state| {
            let alone = state.known_as == KnownAs::Snapshot
                || !state.context.as_ref().is_some_and(|context| refs::is_shared(context.bind(py)));
            let context = if alone { state.context.take() } else { None };
            (state.callback.take(), context)
        });
        // Its arguments are shown to the collector if anybody else has them.
        if let Some(callback) = callback {
            callback.let_go(py);
        }
        match context {
            Some(context) => context.drop_ref(py),
            None => this.let_go_of_shared_context(py),
        }
        true
    }

    /// The representation is kept for the slow callback report, as asyncio does.
    #[cold]
    fn keep_look(&self, slf: &Bound<'_, Self>) {
        let py = slf.py();
        match slf.try_repr() {
            Ok(look) => {
                let look = look.into_any().unbind();
                drop(self.state.with(py, |state| state.origin.get_or_insert_default().looked.replace(look)));
            }
            Err(raised) => error::unraisable(py, raised, None),
        }
    }

    /// None once cancelled.
    pub(super) fn callback<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self._callback(py).map(|callback| callback.into_bound(py))
    }

    /// The key of its callback's code, as `key_of_callable` finds it.
    #[inline]
    pub(super) fn callback_key(&self, py: Python<'_>) -> Option<usize> {
        self.state.with(py, |state| key_of_callable(state.callback.as_ref()?.callable.bind(py)))
    }

    #[inline]
    pub fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.cancelled)
    }

    pub(super) fn event_loop(&self) -> &Py<LoopState> {
        &self.event_loop
    }
}

impl Pooled for Handle {
    has_pool!((Handle,), Handle);
    const SPARE: usize = 8192;

    #[inline]
    fn release(values: (Self,), py: Python<'_>) {
        let Self { state, event_loop } = values.0;
        let State { callback, origin, context, .. } = state.into_inner();
        event_loop.drop_ref(py);
        if let Some(context) = context {
            context.drop_ref(py);
        }
        if let Some(callback) = callback {
            callback.let_go(py);
        }
        if let Some(origin) = origin {
            origin.let_go(py);
        }
    }
}

#[pymethods]
impl Handle {
    #[getter]
    fn __class__(slf: &Bound<'_, Self>) -> PyResult<Py<PyType>> {
        Ok(asyncio(slf.py())?.handle_class.clone_ref(slf.py()))
    }

    /// Cancel the callback; nothing happens when it has run or was cancelled.
    fn cancel(slf: &Bound<'_, Self>) {
        Self::cancel_once(slf);
    }

    /// Whether it was cancelled.
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    /// The `contextvars.Context` that the callback runs in.
    fn get_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.own_context(py)
    }

    #[getter]
    pub(super) fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.callback.as_ref().map(|c| c.callable.clone_ref(py)))
    }

    #[getter]
    fn _args<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyTuple>> {
        self._callback(py)?;
        let args = self.args(py).unwrap_or_else(|| PyTuple::empty(py));
        if !args.is_empty() {
            collector::show(&args);
        }
        Some(args)
    }

    #[getter]
    fn _context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.own_context(py)
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py).into_any()
    }

    #[getter]
    fn _cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    #[getter]
    fn _source_traceback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.origin.as_ref()?.source_traceback.as_ref().map(|stack| stack.clone_ref(py)))
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::run_by(slf, false).map_err(|raised| *raised)
    }

    #[getter]
    fn _repr(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| state.origin.as_ref()?.looked.as_ref().map(|look| look.clone_ref(py)))
    }

    fn _repr_info(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "handle_repr_info")?.try_call((slf,))?.unbind())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Ok(asyncio(slf.py())?.helper(slf.py(), "handle_repr")?.try_call((slf,))?.unbind())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(state) = self.state.peek_in_traverse(&visit) {
            if let Some(callback) = &state.callback {
                visit.call(&callback.callable)?;
                visit.call(callback.args.as_ref().map(Hidden::get))?;
            }
            if let Some(origin) = &state.origin {
                visit.call(&origin.source_traceback)?;
            }
            visit.call(&state.context)?;
        }
        visit.call(&self.event_loop)
    }

    fn __clear__(&self) {
        outlast();
        Python::attach(|py| drop(self.state.with(py, |state| state.callback.take())));
    }
}

/// asyncio's check of what `call_soon` and its like are given (debug mode, `BaseEventLoop._check_callback`).
///
/// # Errors
/// TypeError for a coroutine, a coroutine function or something that cannot be called.
pub fn check_callback(callback: &Bound<'_, PyAny>, method: &str) -> PyResult<()> {
    let py = callback.py();
    if asyncio(py)?.helper(py, "is_coroutine_like")?.try_call((callback,))?.try_is_truthy()? {
        return Err(PyTypeError::new_err(format!("coroutines cannot be used with {method}()")));
    }
    if !callback.is_callable() {
        let text = callback.try_repr()?;
        return Err(PyTypeError::new_err(format!("a callable object was expected by {method}(), got {text}")));
    }
    Ok(())
}
