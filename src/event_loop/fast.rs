//! The loop's fast methods (`accel::methods`), for the plain cases of what programs call most.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyType};

use super::Loop;
use crate::accel::methods;
use crate::core::ready::Lane;
use crate::future::new_future;
use crate::py::direct::{Args, Direct, keeps_usual};
use crate::sched::LoopState;
use crate::sched::handle::Parts;
use crate::sched::replaced;
use crate::sched::schedule::{call_at, call_later, call_soon, call_soon_threadsafe};
use crate::sched::timer_handle::TimerHandle;
use crate::task;

/// The parts of a handle from the arguments of a fast method, the callback being argument `first`. None: not a plain
/// case.
#[inline(always)]
fn fast_parts<'py>(state: &LoopState, args: Args<'_, 'py>, first: usize) -> Option<PyResult<Parts<'py>>> {
    let py = args.py();
    if args.count() <= first || state.debug.get(py) || !state.replaced.is_plain(py) {
        return None;
    }
    let context = args.only_keyword(pyo3::intern!(py, "context"))?;
    let context = context.filter(|context| !context.is_none()).map(|context| context.to_owned());
    let callable = args.get(first).to_owned();
    Some(args.rest(first + 1).map(|args| Parts { callable, args, context }))
}

/// `call_soon(callback, *args, context=None)`.
struct CallSoon;

impl Direct for CallSoon {
    type Class = Loop;
    const NAME: &'static str = "call_soon";

    #[inline]
    fn call<'py>(slf: &Bound<'py, Loop>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let parts = fast_parts(slf.as_super().get(), args, 0)?;
        Some(parts.and_then(|parts| call_soon(slf.as_super(), parts)).map(Bound::into_any))
    }

    keeps_usual!();
}

/// `call_soon_threadsafe(callback, *args, context=None)`.
struct CallSoonThreadsafe;

impl Direct for CallSoonThreadsafe {
    type Class = Loop;
    const NAME: &'static str = "call_soon_threadsafe";

    #[inline]
    fn call<'py>(slf: &Bound<'py, Loop>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let parts = fast_parts(slf.as_super().get(), args, 0)?;
        Some(parts.and_then(|parts| call_soon_threadsafe(slf.as_super(), parts)).map(Bound::into_any))
    }

    keeps_usual!();
}

/// `call_later(delay, callback, *args, context=None)`.
struct CallLater;

impl Direct for CallLater {
    type Class = Loop;
    const NAME: &'static str = "call_later";

    #[inline]
    fn call<'py>(slf: &Bound<'py, Loop>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let parts = fast_parts(slf.as_super().get(), args, 1)?;
        Some(parts.and_then(|parts| call_later(slf.as_super(), &args.get(0), parts)).map(Bound::into_any))
    }

    keeps_usual!();
}

/// `call_at(when, callback, *args, context=None)`, `when` being a float.
struct CallAt;

impl Direct for CallAt {
    type Class = Loop;
    const NAME: &'static str = "call_at";

    #[inline]
    fn call<'py>(slf: &Bound<'py, Loop>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        if args.count() < 2 {
            return None;
        }
        let when = args.get(0).cast_exact::<PyFloat>().ok()?.value();
        let parts = fast_parts(slf.as_super().get(), args, 1)?;
        Some(parts.and_then(|parts| call_at(slf.as_super(), when, None, parts)).map(Bound::into_any))
    }

    keeps_usual!();
}

/// `timer_handle.cancel()`.
struct CancelTimer;

impl Direct for CancelTimer {
    type Class = TimerHandle;
    const NAME: &'static str = "cancel";

    #[inline]
    fn call<'py>(slf: &Bound<'py, TimerHandle>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        if args.count() > 0 || !args.is_plain() {
            return None;
        }
        TimerHandle::cancel(slf);
        Some(Ok(slf.py().None().into_bound(slf.py())))
    }

    keeps_usual!();
}

/// `create_future()`.
struct CreateFuture;

impl Direct for CreateFuture {
    type Class = Loop;
    const NAME: &'static str = "create_future";

    #[inline]
    fn call<'py>(slf: &Bound<'py, Loop>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let plain = args.count() == 0 && args.is_plain() && slf.as_super().get().replaced.is_plain(args.py());
        plain.then(|| new_future(slf.as_super()).map(Bound::into_any))
    }

    keeps_usual!();
}

/// `create_task(coro, *, name=None)`.
struct CreateTask;

impl Direct for CreateTask {
    type Class = Loop;
    const NAME: &'static str = "create_task";

    #[inline]
    fn call<'py>(slf: &Bound<'py, Loop>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let py = args.py();
        let name = args.only_keyword(pyo3::intern!(py, "name"))?;
        let state = slf.as_super();
        if args.count() != 1 || slf.get().has_task_factory(py) || state.get().shared.lifecycle.is_closed() {
            return None;
        }
        if !state.get().replaced.is_plain(py) {
            return None;
        }
        let coroutine = args.get(0).to_owned();
        let task = task::spawn(state, coroutine, name.as_deref(), None, Lane::Normal, false);
        Some(task.map(Bound::into_any))
    }

    keeps_usual!();
}

/// Give `pyloop.EventLoop` its fast methods; called once, when the class is made.
///
/// # Errors
/// MemoryError; TypeError for a class that is no subclass.
#[pyfunction]
pub(crate) fn install_fast_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    if !class.is_subclass_of::<Loop>()? {
        return Err(PyTypeError::new_err("a subclass of Loop was expected"));
    }
    methods::install::<CallSoon>(class)?;
    methods::install::<CallSoonThreadsafe>(class)?;
    methods::install::<CallLater>(class)?;
    methods::install::<CallAt>(class)?;
    methods::install::<CreateFuture>(class)?;
    methods::install::<CreateTask>(class)?;
    replaced::learn(class, &class.py().get_type::<Loop>())
}

/// As `install_fast_methods`, for the classes that are native.
///
/// # Errors
/// MemoryError.
pub(crate) fn install_native(py: Python<'_>) -> PyResult<()> {
    methods::install::<CancelTimer>(&py.get_type::<TimerHandle>())
}
