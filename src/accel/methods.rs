//! Fast methods: direct ones (`py::direct`) for the plain cases of what programs call most.
//!
//! PyO3's wrapper unpacks arguments into a tuple and counts itself in and out of a thread-local: a tenth of what a
//! callback costs.
//!
//! Plain path: PyO3's methods.

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::slots::Scratch;
use super::{Acceleration, Probed, expect, raised};
use crate::py::call::Object;
use crate::py::direct::{Args, Direct, keeps_usual, stand_before};

pub static METHODS: Acceleration = Acceleration::new("methods");

/// Put a fast method before PyO3's, into `class`: `M::Class`, or a subclass without a method of that name.
///
/// # Errors
/// MemoryError; AttributeError when PyO3 has no such method.
pub fn install<M: Direct>(class: &Bound<'_, PyType>) -> PyResult<()> {
    if METHODS.is_on() { stand_before::<M>(class) } else { Ok(()) }
}

/// `Scratch.add` for one argument; the sum tells which method was called.
struct Add;

impl Direct for Add {
    type Class = Scratch;
    const NAME: &'static str = "add";

    fn call<'py>(_slf: &Bound<'py, Scratch>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        let plain = args.count() == 1 && args.is_plain();
        plain.then(|| args.get(0).add(100))
    }

    keeps_usual!();
}

/// A plain call comes to the fast method, every other to PyO3's, with its arguments.
pub(super) fn probe(py: Python<'_>) -> Probed {
    let class = py.get_type::<Scratch>();
    stand_before::<Add>(&class).map_err(raised)?;
    let scratch = Scratch::new(py).map_err(raised)?;
    let sum = |called: PyResult<Bound<'_, PyAny>>| called.and_then(|sum| sum.extract::<u64>()).map_err(raised);
    expect(sum(scratch.try_call_method("add", (1,)))? == 101, "a plain call does not come to the direct method")?;
    expect(
        sum(scratch.try_call_method("add", (1, 3)))? == 4,
        "a call with two arguments does not come to PyO3's method",
    )?;
    let keywords = pyo3::types::PyDict::new(py);
    keywords.set_item("other", 4).map_err(raised)?;
    let sum = sum(scratch.try_call_method_with("add", (1,), &keywords))?;
    expect(sum == 5, "a call with a keyword does not come to PyO3's method")
}
