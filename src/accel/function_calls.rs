//! Functions of asyncio's that are entered here: the object, its class and all that can be asked of it stay, and a call
//! comes to us first, which we take or hand on.
//!
//! CPython keeps in each function what a call of it enters (`PyFunction_SetVectorcall`), and goes there wherever it
//! would have gone on to the function's code. A call that is handed on costs one call in C more than before.
//!
//! Plain path: the functions.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::{Acceleration, Probed, expect, raised};
use crate::py::answer::owned;
use crate::py::call::Object;
use crate::py::direct::Args;
use crate::py::error;
use crate::py::exit::outlast;

pub static FUNCTION_CALLS: Acceleration = Acceleration::new("function_calls");

// CPython's, which PyO3 does not name.
unsafe extern "C" {
    fn PyFunction_SetVectorcall(function: *mut ffi::PyObject, entry: ffi::vectorcallfunc);
}

/// A function that is entered here.
#[derive(Debug)]
pub struct Entered {
    function: Py<PyAny>,
    /// What its calls entered before.
    usual: ffi::vectorcallfunc,
}

/// What a call of a function comes to first.
pub trait Entry: 'static {
    /// Take the call. None: nothing has been done, and the function is called.
    fn call<'py>(args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>>;
    /// Where the function is kept: `keeps_entered!()`.
    fn entered() -> &'static PyOnceLock<Entered>;
}

/// Each entry's own `entered`.
macro_rules! keeps_entered {
    () => {
        fn entered() -> &'static pyo3::sync::PyOnceLock<$crate::accel::function_calls::Entered> {
            static ENTERED: pyo3::sync::PyOnceLock<$crate::accel::function_calls::Entered> =
                pyo3::sync::PyOnceLock::new();
            &ENTERED
        }
    };
}
pub(crate) use keeps_entered;

unsafe extern "C" fn enter<E: Entry>(
    function: *mut ffi::PyObject,
    values: *const *mut ffi::PyObject,
    flagged: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: only `put` hands this out, to one function, after it has set `entered`. CPython calls it with the GIL
    // held, with that function and with the arguments of a vectorcall, which it holds for the call.
    unsafe {
        let py = Python::assume_attached();
        let count = ffi::PyVectorcall_NARGS(flagged).cast_unsigned();
        let taken = error::catch_panic_slim(|| match E::call(Args::new(py, values, count, names)) {
            Some(called) => Ok(Some(called?)),
            None => Ok(None),
        });
        match taken {
            Ok(Some(value)) => value.into_ptr(),
            Ok(None) => match E::entered().get(py) {
                Some(entered) => {
                    outlast();
                    (entered.usual)(function, values, flagged, names)
                }
                None => std::ptr::null_mut(),
            },
            Err(failed) => {
                failed.restore(py);
                std::ptr::null_mut()
            }
        }
    }
}

/// Have calls of `function` come to `E` first, once and for good. Nothing happens when it is no function of Python's.
pub fn install<E: Entry>(function: &Bound<'_, PyAny>) {
    if FUNCTION_CALLS.is_on() {
        put::<E>(function);
    }
}

fn put<E: Entry>(function: &Bound<'_, PyAny>) {
    let py = function.py();
    // SAFETY: the Bound holds the function for the calls, and the GIL. That it is a function is asked first.
    unsafe {
        if ffi::PyFunction_Check(function.as_ptr()) == 0 {
            return;
        }
        let Some(usual) = ffi::PyVectorcall_Function(function.as_ptr()) else { return };
        if E::entered().set(py, Entered { function: function.clone().unbind(), usual }).is_ok() {
            PyFunction_SetVectorcall(function.as_ptr(), enter::<E>);
        }
    }
}

/// Call the function, and not what is before it.
///
/// # Errors
/// What it raises.
pub fn call_usual<'py, E: Entry>(py: Python<'py>, args: &[&Bound<'py, PyAny>]) -> Option<PyResult<Bound<'py, PyAny>>> {
    let entered = E::entered().get(py)?;
    let values: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
    // SAFETY: the Bounds hold the arguments for the call, and `entered` the function whose own entry this is. CPython
    // answers with a new reference, or with NULL and an exception.
    Some(unsafe {
        let called = (entered.usual)(entered.function.as_ptr(), values.as_ptr(), values.len(), std::ptr::null_mut());
        owned(py, called)
    })
}

/// A call with one number comes here, and 100 is added.
struct Scratch;

impl Entry for Scratch {
    fn call<'py>(args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        (args.count() == 1 && args.is_plain()).then(|| args.get(0).add(100))
    }

    keeps_entered!();
}

const SCRATCH: &std::ffi::CStr = c"
def number(value, more=1): return value + more
def plain(): return number(1)
def two(): return number(1, 2)
def keyword(): return number(1, more=3)
for _ in range(100): plain(), two(), keyword()
";

/// Code that CPython has specialised for the function, and code that it has not, comes to the entry; what that hands on
/// comes to the function.
pub(super) fn probe(py: Python<'_>) -> Probed {
    let scope = PyDict::new(py);
    py.run(SCRATCH, Some(&scope), None).map_err(raised)?;
    let of = |name: &str| scope.get_item(name).map_err(raised)?.ok_or_else(|| "no such function".into());
    let number: Bound<'_, PyAny> = of("number")?;
    put::<Scratch>(&number);
    let called = |function: Result<Bound<'_, PyAny>, super::Why>, expected: u64| -> Probed {
        let function = function?;
        for _ in 0..100 {
            let value = function.try_call(()).map_err(raised)?;
            let is_right = value.extract::<u64>().map_err(raised)? == expected;
            expect(is_right, "a call of a function does not come to its entry")?;
        }
        Ok(())
    };
    called(of("plain"), 101)?;
    called(of("two"), 3)?;
    called(of("keyword"), 4)?;
    let one = 1_u64.into_pyobject(py).unwrap_or_else(|never| match never {});
    let usual = call_usual::<Scratch>(py, &[one.as_any()]).ok_or("a function is not known")?.map_err(raised)?;
    expect(usual.extract::<u64>().map_err(raised)? == 2, "a function cannot be called any more")
}
