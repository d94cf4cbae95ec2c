//! asyncio's classes of streams, and whether they are as CPython has made them.
//!
//! A change of a class is noticed (`accel::direct_calls`), and a look finds out what it is about. What an instance has
//! in the place of a method is looked for where it matters.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::accel::direct_calls::{self, DIRECT_CALLS, Finding};
use crate::py::asyncio::asyncio;
use crate::py::call::Object;
use crate::py::error;

/// asyncio's classes, and those of their methods that are called in the midst of what is done natively.
#[derive(Debug)]
pub struct Streams {
    pub reader: Py<PyType>,
    pub protocol: Py<PyType>,
    pub writer: Py<PyType>,
    pub data_received: Py<PyAny>,
    pub feed_data: Py<PyAny>,
    pub wakeup_waiter: Py<PyAny>,
}

static STREAMS: PyOnceLock<Streams> = PyOnceLock::new();

/// Whether nothing of them is replaced.
static IS_PLAIN: Finding<bool> = Finding::new(false);

/// The classes; None when anything of them is not CPython's own, or nobody can tell.
#[inline]
pub fn plain(py: Python<'_>) -> Option<&'static Streams> {
    match IS_PLAIN.get(py) {
        Some(true) => STREAMS.get(py),
        Some(false) => None,
        None => look(py),
    }
}

#[cold]
fn look(py: Python<'_>) -> Option<&'static Streams> {
    let now = direct_calls::changes();
    // Nobody looks while this look runs Python code.
    IS_PLAIN.keep(py, now, false);
    if !DIRECT_CALLS.is_on() {
        return None;
    }
    match find(py) {
        Ok(found) => {
            IS_PLAIN.keep(py, now, found.is_some());
            found
        }
        Err(raised) => {
            // The bytes are for the protocol all the same.
            error::unraisable(py, raised, None);
            None
        }
    }
}

fn find(py: Python<'_>) -> PyResult<Option<&'static Streams>> {
    let names = asyncio(py)?;
    let streams = STREAMS.get_or_try_init(py, || {
        let module = py.import("asyncio.streams")?;
        let class = |name: &str| -> PyResult<Bound<'_, PyType>> { Ok(module.try_getattr(name)?.cast_into()?) };
        let (reader, protocol) = (class("StreamReader")?, class("StreamReaderProtocol")?);
        Ok::<_, PyErr>(Streams {
            writer: class("StreamWriter")?.unbind(),
            data_received: protocol.try_getattr("data_received")?.unbind(),
            feed_data: reader.try_getattr("feed_data")?.unbind(),
            wakeup_waiter: reader.try_getattr("_wakeup_waiter")?.unbind(),
            reader: reader.unbind(),
            protocol: protocol.unbind(),
        })
    })?;
    let classes = [&streams.reader, &streams.protocol, &streams.writer];
    let watched = classes.into_iter().all(|class| direct_calls::watch(class.bind(py)));
    let replaced = names.helper(py, "streams_are_replaced")?;
    let replaced = replaced.try_call((classes[0], classes[1], classes[2]))?.try_is_truthy()?;
    Ok((watched && !replaced).then_some(streams))
}
