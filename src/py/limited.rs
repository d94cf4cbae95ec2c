//! What a client needs of CPython's C API beyond its limited part, in a build for many Pythons (`abi3`): by calls of
//! Python, and by what is asked of the Python that is there. Stands in for `api`.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::call::{Object, call_all};

/// As `api::copy_current`.
///
/// # Errors
/// What importing `contextvars` raises; MemoryError.
pub fn copy_current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static COPY_CONTEXT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let find = || Ok::<_, PyErr>(py.import("contextvars")?.try_getattr("copy_context")?.unbind());
    // A subinterpreter has a function of its own, which ends with it.
    if super::is_main_interpreter(py) {
        COPY_CONTEXT.get_or_try_init(py, find)?.bind(py).try_call(())
    } else {
        find()?.bind(py).try_call(())
    }
}

/// As `api::copy_context`.
///
/// # Errors
/// AttributeError for what is no context.
pub fn copy_context<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    context.try_call_method(pyo3::intern!(context.py(), "copy"), ())
}

/// As `api::call_inside`.
///
/// # Errors
/// What it raises; RuntimeError when the context is entered already.
pub fn call_inside<'py>(
    context: &Bound<'py, PyAny>,
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = context.py();
    let all = PyTuple::new(py, std::iter::once(callable.clone()).chain(args.iter()).collect::<Vec<_>>())?;
    call_all(&context.try_getattr(pyo3::intern!(py, "run"))?, &all, None)
}

/// As `api::coroutine_class`.
///
/// # Errors
/// What importing `types` raises.
pub fn coroutine_class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CLASS.import(py, "types", "CoroutineType").cloned()
}

/// As `api::is_native_coroutine`.
pub fn is_native_coroutine(object: &Bound<'_, PyAny>) -> bool {
    coroutine_class(object.py()).is_ok_and(|class| object.get_type().is(&class))
}

/// As `api::frame`: that of a generator that has not begun, which has none before it.
///
/// # Errors
/// MemoryError.
pub fn frame<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    let globals = PyDict::new(py);
    let function = py.eval(c"lambda: (yield)", Some(&globals), None)?;
    globals.clear();
    let named = PyDict::new(py);
    for field in ["co_name", "co_qualname"] {
        named.set_item(field, name)?;
    }
    named.set_item("co_filename", "<Rust>")?;
    let code = function.try_getattr("__code__")?.try_call_method_with("replace", (), &named)?;
    function.try_setattr("__code__", code)?;
    function.try_call(())?.try_getattr("gi_frame")
}

/// As `api::release`. PyO3's deallocators nest as deep as the objects do, of which each may hold the next: what is too
/// deep is put off until the outermost has let go of what it had. `f` does not panic.
pub fn release(f: impl FnOnce() + 'static) {
    /// How many nest on one thread.
    const MOST: u32 = 32;
    #[derive(Default)]
    struct Here {
        depth: Cell<u32>,
        put_off: RefCell<Vec<Box<dyn FnOnce()>>>,
    }
    thread_local! {
        static HERE: Here = Here::default();
    }
    // Without it the thread is at its end.
    let depth = HERE.try_with(|here| here.depth.get()).unwrap_or(0);
    let change = |by: i32| HERE.try_with(|here| here.depth.set(here.depth.get().wrapping_add_signed(by))).is_ok();
    if depth >= MOST {
        return HERE.with(|here| here.put_off.borrow_mut().push(Box::new(f)));
    }
    let counted = change(1);
    f();
    if counted {
        let next = || HERE.try_with(|here| here.put_off.borrow_mut().pop()).ok().flatten();
        while depth == 0
            && let Some(f) = next()
        {
            f();
        }
        change(-1);
    }
}

/// As `api::is_attached`. The function that CPython has for it is in no limited API, but in each CPython: it is looked
/// up. Without it the answer is yes, which means that this thread takes the GIL where another could have.
pub fn is_attached() -> bool {
    type Check = unsafe extern "C" fn() -> c_int;
    static CHECK: OnceLock<Option<Check>> = OnceLock::new();
    let check = CHECK.get_or_init(|| {
        // SAFETY: the name ends with NUL.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"PyGILState_Check".as_ptr()) };
        // SAFETY: CPython's function of this name, or NULL, which is None.
        unsafe { std::mem::transmute::<*mut c_void, Option<Check>>(found) }
    });
    // SAFETY: any thread may ask.
    check.is_none_or(|check| unsafe { check() != 0 })
}

/// Whether this is CPython 3.14 or later.
#[inline]
pub fn since_3_14() -> bool {
    // SAFETY: a number that never changes.
    unsafe { ffi::Py_Version >= 0x030E_0000 }
}
