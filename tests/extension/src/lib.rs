//! An extension module on the bridge of pyloop, as a stranger writes one: it depends on the crate's public API and has
//! a copy of it, and of tokio, of its own.

use pyo3::prelude::*;

mod basics;

#[pymodule]
fn pyloop_extension(module: &Bound<'_, PyModule>) -> PyResult<()> {
    basics::add(module)
}
