//! Where a transport has its native part: it is read in place. To look `_stream` up by its name takes longer than to
//! send what a callback has written, and is done several times a message.
//!
//! Plain path: the attribute.

use pyo3::Borrowed;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::Acceleration;
use crate::py::call;
use crate::py::memory;

pub static NATIVE_PARTS: Acceleration = Acceleration::new("native_parts");

/// A class of transports, and where its instances have their native part; empty where nobody knows.
pub struct Place(PyOnceLock<(Py<PyType>, usize)>);

/// `pyloop._transports.StreamTransport._stream`.
pub static OF_STREAM: Place = Place(PyOnceLock::new());
/// `pyloop._datagrams.DatagramTransport._datagrams`.
pub static OF_DATAGRAMS: Place = Place(PyOnceLock::new());

impl Place {
    /// The native part of a transport, without a count: for as long as no Python code runs. None: it is to be looked
    /// up, as that of a subclass is.
    #[inline(always)]
    pub fn held<'a, 'py>(&self, transport: &'a Bound<'py, PyAny>) -> Option<Borrowed<'a, 'py, PyAny>> {
        let (class, place) = self.0.get(transport.py())?;
        if !call::has_type(transport, class.bind(transport.py())) {
            return None;
        }
        // SAFETY: it is an instance of the class, in one of which the slot was found at this place.
        unsafe { memory::held(transport, *place) }
    }
}

/// A transport that goes away must not have something else in this place.
fn find(object: &Bound<'_, PyAny>, name: &str) -> PyResult<usize> {
    let found = memory::place_of(object, name);
    object.delattr(name)?;
    found
}

/// Learn where the native parts are: of two transports that nobody else has.
///
/// # Errors
/// RuntimeError: they are in no slots.
#[pyfunction]
pub fn _know_native_parts(stream: &Bound<'_, PyAny>, datagrams: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = stream.py();
    let places = (find(stream, "_stream")?, find(datagrams, "_datagrams")?);
    OF_STREAM.0.get_or_init(py, || (stream.get_type().unbind(), places.0));
    OF_DATAGRAMS.0.get_or_init(py, || (datagrams.get_type().unbind(), places.1));
    Ok(())
}
