//! The fast methods of futures (`accel::methods`): what asyncio's own locks and queues call per wake.

use pyo3::prelude::*;
use pyo3::types::PyBool;

use super::class::Future;
use super::state::Outcome;
use crate::accel::methods;
use crate::py::direct::{Args, Direct, keeps_usual};

/// `set_result(result)`.
struct SetResult;

impl Direct for SetResult {
    type Class = Future;
    const NAME: &'static str = "set_result";

    #[inline]
    fn call<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let py = args.py();
        if args.count() != 1 || !args.is_plain() || slf.get().is_done(py) || slf.get().check_initialized(py).is_err() {
            return None;
        }
        let finished = Future::finish(slf, Outcome::Result(args.get(0).to_owned().unbind()));
        Some(finished.map(|()| py.None().into_bound(py)))
    }

    keeps_usual!();
}

/// `add_done_callback(fn)`.
struct AddDoneCallback;

impl Direct for AddDoneCallback {
    type Class = Future;
    const NAME: &'static str = "add_done_callback";

    #[inline]
    fn call<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let py = args.py();
        let plain = args.count() == 1 && args.is_plain();
        plain.then(|| {
            let callable = args.get(0).to_owned().unbind();
            Future::add_done_callback(slf, callable, None).map(|()| py.None().into_bound(py))
        })
    }

    keeps_usual!();
}

/// A method without arguments.
macro_rules! no_arguments {
    ($fast:ident, $name:literal, $call:expr) => {
        struct $fast;

        impl Direct for $fast {
            type Class = Future;
            const NAME: &'static str = $name;

            #[inline]
            fn call<'py>(slf: &Bound<'py, Future>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
                let call: fn(&Future, Python<'py>) -> PyResult<Bound<'py, PyAny>> = $call;
                (args.count() == 0 && args.is_plain()).then(|| call(slf.get(), args.py()))
            }

            keeps_usual!();
        }
    };
}

fn bool_object(py: Python<'_>, value: bool) -> PyResult<Bound<'_, PyAny>> {
    Ok(PyBool::new(py, value).to_owned().into_any())
}

no_arguments!(IsDone, "done", |future, py| bool_object(py, future.is_done(py)));
no_arguments!(IsCancelled, "cancelled", |future, py| bool_object(py, future.is_cancelled(py)));
no_arguments!(TakeResult, "result", |future, py| future.raise_result(py));
no_arguments!(TakeException, "exception", |future, py| future.raise_exception(py));
no_arguments!(GetLoop, "get_loop", |future, py| future.event_loop(py));

/// Put the fast methods in place; before the class has subclasses.
///
/// # Errors
/// MemoryError.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<Future>();
    methods::install::<SetResult>(&class)?;
    methods::install::<AddDoneCallback>(&class)?;
    methods::install::<IsDone>(&class)?;
    methods::install::<IsCancelled>(&class)?;
    methods::install::<TakeResult>(&class)?;
    methods::install::<TakeException>(&class)?;
    methods::install::<GetLoop>(&class)
}
