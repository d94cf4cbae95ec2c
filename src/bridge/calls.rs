//! `Callback`: a Python function for Rust tasks, wherever they run. The event loop calls it, on its own thread.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{BoundObject, IntoPyObject, IntoPyObjectExt};

use super::from_py::{Called, PyFuture, TargetLoop};
use super::locals::{TaskLocals, get_current_locals};
use crate::py::call::call_all;
use crate::py::{api, require_main_for_futures};

/// A Python function, plain or async, that Rust calls from any task and any thread, and awaits there.
///
/// It belongs to the event loop that was current when it was made (as an argument of a Python function, say: it is
/// `FromPyObject`), and is called on that loop's thread, in a copy of the context that was current then: each call has
/// one of its own. What it gives is awaited there if it can be awaited. A clone is another handle to the same function.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// use pyloop::Callback;
///
/// /// Python: `await ask(handler)`, whose handler is `def` or `async def`.
/// #[pyloop::awaitable(spawn)]
/// #[pyfunction]
/// async fn ask(handler: Callback) -> PyResult<String> {
///     handler.call(("what?", 42)).extracted().await
/// }
/// ```
#[derive(Clone)]
pub struct Callback(Arc<Inner>);

struct Inner {
    function: Py<PyAny>,
    locals: TaskLocals,
    target: Arc<TargetLoop>,
}

impl Callback {
    /// For the current loop, in the current context.
    ///
    /// # Errors
    /// TypeError for what cannot be called; RuntimeError when there is no current event loop, and in a subinterpreter.
    pub fn new(function: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::checked(function, || get_current_locals(function.py()))
    }

    /// For the loop and in the context of these locals.
    ///
    /// # Errors
    /// TypeError for what cannot be called; RuntimeError in a subinterpreter.
    pub fn with_locals(locals: &TaskLocals, function: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::checked(function, || Ok(locals.clone()))
    }

    fn checked(function: &Bound<'_, PyAny>, locals: impl FnOnce() -> PyResult<TaskLocals>) -> PyResult<Self> {
        if !function.is_callable() {
            let name = function.get_type().fully_qualified_name()?;
            return Err(PyTypeError::new_err(format!("'{name}' object is not callable")));
        }
        require_main_for_futures(function.py())?;
        let locals = locals()?;
        let target = Arc::new(TargetLoop::of(locals.event_loop(function.py())));
        Ok(Self(Arc::new(Inner { function: function.clone().unbind(), locals, target })))
    }

    /// The function, called with the items of a tuple: as a Rust future of what it returns, or of what it awaits.
    ///
    /// The call is made by the first poll: at once, if that is on the loop's thread, else by a message to the loop, for
    /// which nobody here takes the GIL ([`PyFuture::extracted`] has a Rust value made of the result in the same way).
    /// Dropping the future cancels the Python task, or takes the call back. An exception is the future's error; a loop
    /// that is closed before it has called is a RuntimeError.
    pub fn call<A>(&self, args: A) -> PyFuture
    where
        A: for<'py> IntoPyObject<'py, Target = PyTuple> + Send + 'static,
    {
        let inner = Arc::clone(&self.0);
        PyFuture::calling(Arc::clone(&self.0.target), move |py| inner.call(py, args))
    }

    /// The function.
    pub fn function<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.0.function.bind(py)
    }
}

impl Inner {
    fn call<'py, A>(&self, py: Python<'py>, args: A) -> PyResult<Called<'py>>
    where
        A: IntoPyObject<'py, Target = PyTuple>,
    {
        let args = args.into_pyobject_or_pyerr(py)?.into_bound();
        let function = self.function.bind(py);
        let shared = self.locals.context(py);
        if shared.is_none() {
            return Ok(Called { given: call_all(function, &args, None)?, context: shared });
        }
        // Its own: what a call sets is not another's, and a context that is entered can be no other call's.
        let context = api::copy_context(&shared)?;
        Ok(Called { given: api::call_inside(&context, function, &args)?, context })
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Callback {
    type Error = PyErr;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        Self::new(&object)
    }
}
