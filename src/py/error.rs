//! Errors: which ones end the run, and how the others reach `call_exception_handler`.
//!
//! How one is taken from Python is in `answer`.

use std::any::Any;
use std::ffi::{CStr, c_int, c_void};

use pyo3::exceptions::{PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError, PySystemExit};
use pyo3::ffi;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::call::Object;
use super::exit::outlast;

pub use super::answer::{answered, fetch};

/// `warnings.warn(text, category)`, as from the Python code that called.
///
/// # Errors
/// The warning, where the program makes errors of them; what its filters and its `showwarning` raise.
pub fn warn(category: &Bound<'_, PyType>, text: &CStr) -> PyResult<()> {
    // SAFETY: the Bound holds the class for the call, and the GIL; the string ends with NUL, and CPython copies it.
    let warned = unsafe { ffi::PyErr_WarnEx(category.as_ptr(), text.as_ptr(), 1) };
    answered(category.py(), warned).map(drop)
}

/// KeyboardInterrupt and SystemExit leave the run, as in asyncio; everything else stays inside.
pub fn ends_the_run(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py) || error.is_instance_of::<PySystemExit>(py)
}

/// `loop.call_exception_handler({'message': message, **items})`. What the handler itself raises and asyncio lets out
/// (KeyboardInterrupt, SystemExit) comes back.
pub fn call_exception_handler(
    event_loop: &Bound<'_, PyAny>,
    message: &str,
    items: &[(&str, &Bound<'_, PyAny>)],
) -> PyResult<()> {
    let py = event_loop.py();
    let context = PyDict::new(py);
    context.set_item("message", message)?;
    for (key, value) in items {
        context.set_item(key, value)?;
    }
    event_loop.try_call_method(pyo3::intern!(py, "call_exception_handler"), (context,)).map(drop)
}

/// `__init__` of a future or task for the second time: refused since CPython 3.15.
pub fn already_initialized(object: &Bound<'_, PyAny>) -> PyErr {
    match object.get_type().fully_qualified_name() {
        Ok(name) => PyRuntimeError::new_err(format!("{name} object is already initialized")),
        Err(raised) => raised,
    }
}

/// An OSError (of the subclass for its number) with the number and the C library's words.
pub fn os_error(failed: &std::io::Error) -> PyErr {
    match failed.raw_os_error() {
        Some(code) => PyOSError::new_err((code, strerror(code))),
        None if failed.kind() == std::io::ErrorKind::OutOfMemory => PyMemoryError::new_err(()),
        None => PyOSError::new_err(failed.to_string()),
    }
}

/// An `io::Error` as Python's OSError, of the subclass for its number, with `errno` and `strerror`. One without a
/// number (tokio's "early eof", say) has its own words alone, one that a `PyErr` was put into is that.
///
/// Each function of this crate that takes a future's or a stream's error does this to an `io::Error`. Where `?` makes a
/// [`PyErr`] of one, PyO3 makes it, with words and no number: there this is for `map_err`.
///
/// ```no_run
/// # use pyo3::prelude::*;
/// #[pyfunction]
/// fn size(py: Python<'_>, path: String) -> PyResult<Bound<'_, PyAny>> {
///     pyloop::future_into_py(py, async move {
///         let found = tokio::fs::metadata(path).await.map_err(pyloop::io_error)?;
///         Ok::<_, PyErr>(found.len())
///     })
/// }
/// ```
#[must_use]
pub fn io_error(failed: std::io::Error) -> PyErr {
    if failed.raw_os_error().is_some() { os_error(&failed) } else { failed.into() }
}

/// An error of a future's, of any type: `io_error` of an `io::Error`.
pub fn into_error<E: Into<PyErr> + 'static>(failed: E) -> PyErr {
    let mut failed = Some(failed);
    let found = (&mut failed as &mut dyn Any).downcast_mut::<Option<std::io::Error>>().and_then(Option::take);
    match (found, failed) {
        (Some(failed), _) => io_error(failed),
        (None, Some(failed)) => failed.into(),
        (None, None) => unreachable!("what is not taken out is there"),
    }
}

/// As `os_error`, with the object that it is about, or the two.
pub fn os_error_about(failed: &std::io::Error, filename: Py<PyAny>, filename2: Option<Py<PyAny>>) -> PyErr {
    match (failed.raw_os_error(), filename2) {
        (None, _) => os_error(failed),
        (Some(code), None) => PyOSError::new_err((code, strerror(code), filename)),
        // The fourth is a Windows error code.
        (Some(code), Some(other)) => PyOSError::new_err((code, strerror(code), filename, None::<i32>, other)),
    }
}

/// asyncio's words for a connection that failed (`_sock_connect_cb`).
pub fn connect_failed(code: i32, address: &Bound<'_, PyAny>) -> PyErr {
    let address = address.try_repr().map_or_else(|_| String::new(), |text| text.to_string());
    PyOSError::new_err((code, format!("Connect call failed {address}")))
}

fn strerror(code: i32) -> String {
    // std's text is the C library's with " (os error N)" after it.
    let text = std::io::Error::from_raw_os_error(code).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// An error as CPython's own code raises it: what is being handled here becomes its `__context__` (`PyErr_SetObject`;
/// PyO3 restores an error as it is).
#[cold]
pub fn in_context(py: Python<'_>, raised: PyErr) -> PyErr {
    let exception = raised.into_value(py).into_bound(py);
    // SAFETY: the GIL is held; both are alive, and the exception is an instance of its class. It is taken at once.
    unsafe { ffi::PyErr_SetObject(exception.get_type().as_ptr(), exception.as_ptr()) };
    fetch(py)
}

/// Report an error that nobody can be given (`sys.unraisablehook`).
pub fn unraisable(py: Python<'_>, error: PyErr, about: Option<&Bound<'_, PyAny>>) {
    outlast();
    error.write_unraisable(py, about);
}

/// Raise an exception of the main thread's there again, between two of its next bytecodes: KeyboardInterrupt, say, that
/// a signal's handler raised where nobody can be given it.
pub fn raise_soon(py: Python<'_>, error: PyErr) {
    extern "C" fn raise(exception: *mut c_void) -> c_int {
        // SAFETY: a pending call runs with the GIL held; the reference was given away for it.
        unsafe { ffi::PyErr_SetRaisedException(exception.cast()) };
        -1
    }
    let exception = error.into_value(py).into_ptr();
    // SAFETY: the GIL is held; the call comes once and owns the reference that it is given.
    if unsafe { ffi::Py_AddPendingCall(Some(raise), exception.cast()) } != 0 {
        // SAFETY: too many are pending, so the reference is still ours.
        let exception = unsafe { Bound::from_owned_ptr(py, exception) };
        unraisable(py, PyErr::from_value(exception), None);
    }
}

/// A result whose error is one word: what is handed up through several functions should fit into registers.
pub type Slim<T> = Result<T, Box<PyErr>>;

/// As `catch_panic`, for what may fail by itself, too.
#[inline]
pub fn catch_panic_slim<R>(f: impl FnOnce() -> Slim<R>) -> Slim<R> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(done) => done,
        Err(payload) => Err(Box::new(panic_error(payload))),
    }
}

/// Run `f`, which belongs to somebody else and may panic; a panic becomes PanicException with its message.
pub fn catch_panic<R>(f: impl FnOnce() -> R) -> PyResult<R> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).map_err(panic_error)
}

/// Run `f`, to whose caller nobody can be given a panic: it is told to `sys.unraisablehook`.
pub fn unraisable_panic(py: Python<'_>, f: impl FnOnce()) {
    if let Err(panicked) = catch_panic(f) {
        unraisable(py, panicked, None);
    }
}

#[cold]
fn panic_error(payload: Box<dyn Any + Send>) -> PyErr {
    let message = match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => match payload.downcast_ref::<&'static str>() {
            Some(message) => (*message).to_owned(),
            None => "a Rust future panicked with a payload that is not a string".to_owned(),
        },
    };
    if message.starts_with(NO_THREAD) {
        return PyRuntimeError::new_err("can't start new thread");
    }
    PanicException::new_err(message)
}

/// How tokio's panic begins for a `spawn_blocking` that no thread can be started for: to the process a shortage like
/// any other, which Python's own threads tell by a RuntimeError.
const NO_THREAD: &str = "OS can't spawn worker thread";

/// Run the Python signal handlers of signals that have arrived (main thread; elsewhere a no-op).
///
/// # Errors
/// What a handler raises: KeyboardInterrupt, say.
pub fn check_signals(py: Python<'_>) -> PyResult<()> {
    // SAFETY: the GIL is held.
    answered(py, unsafe { ffi::PyErr_CheckSignals() }).map(drop)
}

/// Save and restore the exception being handled around code that may run in a destructor.
#[derive(Debug)]
pub struct PreserveError(*mut ffi::PyObject);

impl PreserveError {
    pub fn new(_py: Python<'_>) -> Self {
        // SAFETY: the GIL is held; gives a new reference or NULL and clears the indicator.
        Self(unsafe { ffi::PyErr_GetRaisedException() })
    }
}

impl Drop for PreserveError {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the reference taken in `new`, given back; made and dropped within one scope that holds the GIL.
            unsafe { ffi::PyErr_SetRaisedException(self.0) };
        }
    }
}
