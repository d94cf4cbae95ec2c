//! Layer 1, CPython's vocabulary: the only raw `ffi` of the crate besides the capsule. Everything here takes a
//! `Python<'py>` token, so everything here runs with the GIL held.

pub mod answer;
#[cfg_attr(Py_LIMITED_API, path = "limited.rs")]
pub mod api;
#[cfg(feature = "loop")]
pub mod asyncio;
pub mod attach;
#[cfg(feature = "loop")]
pub mod audit;
#[cfg(feature = "loop")]
pub mod buffer;
#[cfg(feature = "loop")]
pub mod builtin;
pub mod call;
pub mod cell;
#[cfg(feature = "loop")]
pub mod code_of;
#[cfg(not(Py_LIMITED_API))]
pub mod context;
#[cfg(not(Py_LIMITED_API))]
pub mod depth;
#[cfg(feature = "loop")]
pub mod direct;
pub mod error;
pub mod exit;
#[cfg(feature = "loop")]
pub mod finalize;
pub mod iter;
#[cfg(feature = "loop")]
pub mod memory;
pub mod names;
#[cfg(feature = "loop")]
pub mod new_bytes;
#[cfg(feature = "loop")]
pub mod openssl;
#[cfg(feature = "loop")]
pub mod openssl_bio;
pub mod refs;
#[cfg(feature = "loop")]
pub mod whole;

#[cfg(all(Py_LIMITED_API, not(Py_3_12)))]
compile_error!("pyloop needs CPython 3.12: of PyO3's `abi3` features, `abi3-py312` or a later one");
#[cfg(Py_GIL_DISABLED)]
compile_error!("pyloop needs the GIL: its loop-local state is guarded by it (free-threaded builds are not supported)");

#[cfg(feature = "loop")]
use pyo3::exceptions::PyImportError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Whether the thread is in the main interpreter.
pub fn is_main_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: the GIL is held. CPython numbers interpreters from 0, the main one.
    unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) == 0 }
}

/// Refuse every interpreter but the main one, those that share its GIL too (mod_wsgi's and uWSGI's): runtimes, threads
/// and the signals' descriptor are one for the process.
///
/// # Errors
/// ImportError, as said.
#[cfg(feature = "loop")]
pub fn require_main_interpreter(py: Python<'_>) -> PyResult<()> {
    if is_main_interpreter(py) {
        Ok(())
    } else {
        Err(PyImportError::new_err("pyloop works in the main interpreter only, not in a subinterpreter"))
    }
}

/// Refuse Rust futures in every interpreter but the main one: the threads that wake them attach to that one, and PyO3's
/// classes are those of the interpreter that asked for them first.
///
/// # Errors
/// RuntimeError, as said.
#[inline]
pub fn require_main_for_futures(py: Python<'_>) -> PyResult<()> {
    if is_main_interpreter(py) { Ok(()) } else { Err(refused()) }
}

#[cold]
fn refused() -> PyErr {
    PyRuntimeError::new_err("Rust futures are awaited in the main interpreter only, not in a subinterpreter")
}
