//! Calls of the methods of asyncio's streams, on objects of a loop of ours and with plain arguments: a native coroutine
//! (`coroutine`) in the place of the function's. Every other call is the function's.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::Borrowed;
use pyo3::exceptions::PySystemError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyType};

use super::coroutine::StreamCall;
use super::known::{self, Streams};
use super::steps::Asked;
use crate::accel::function_calls::{self, Entry, keeps_entered};
use crate::accel::instance_values::{OfReader, OfWriter};
use crate::py::call::{self, Object};
use crate::py::direct::Args;
use crate::py::error;
use crate::sched::state::ours;

/// `self`, if it is exactly of this class and belongs to a loop of ours. In debug mode everything is asyncio's own.
#[inline]
fn own<'py>(
    args: &Args<'_, 'py>,
    class: impl FnOnce(&Streams) -> &Py<PyType>,
    event_loop: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
) -> Option<Bound<'py, PyAny>> {
    let py = args.py();
    if args.count() == 0 || !args.is_plain() {
        return None;
    }
    let owner = args.get(0);
    if !call::has_type(&owner, class(known::plain(py)?).bind(py)) {
        return None;
    }
    let event_loop = event_loop(&owner).ok()?;
    let is_ours = ours(&event_loop).is_some_and(|state| !state.get().debug.get(py));
    is_ours.then(|| owner.to_owned())
}

/// A count of bytes that is exactly an int.
#[inline]
fn count(value: &Borrowed<'_, '_, PyAny>) -> Option<usize> {
    value.cast_exact::<PyInt>().ok()?.extract::<isize>().ok().and_then(|count| usize::try_from(count).ok())
}

macro_rules! entry {
    ($entry:ident, $name:literal, $class:ident, $of:ident, $asked:expr) => {
        pub(super) struct $entry;

        impl Entry for $entry {
            #[inline]
            fn call<'py>(args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
                let asked: fn(&Args<'_, 'py>) -> Option<Asked> = $asked;
                let asked = asked(&args)?;
                let owner = own(&args, |streams| &streams.$class, |owner| $of::Loop.of(owner))?;
                Some(StreamCall::create(owner, asked, $name, usual))
            }

            keeps_entered!();
        }
    };
}

entry!(Read, "StreamReader.read", reader, OfReader, |args| {
    (args.count() == 2).then(|| count(&args.get(1)).map(Asked::Read)).flatten()
});
entry!(ReadExactly, "StreamReader.readexactly", reader, OfReader, |args| {
    (args.count() == 2).then(|| count(&args.get(1)).map(Asked::Exactly)).flatten()
});
entry!(ReadUntil, "StreamReader.readuntil", reader, OfReader, |args| match args.count() {
    1 => Some(Asked::Until(PyBytes::new(args.py(), b"\n").unbind())),
    2 => {
        let separator = args.get(1).cast_exact::<PyBytes>().ok()?.to_owned();
        (!separator.as_bytes().is_empty()).then(|| Asked::Until(separator.unbind()))
    }
    _ => None,
});
entry!(ReadLine, "StreamReader.readline", reader, OfReader, |args| (args.count() == 1).then_some(Asked::Line));
entry!(Drain, "StreamWriter.drain", writer, OfWriter, |args| (args.count() == 1).then_some(Asked::Drain));

/// The function's own coroutine.
fn usual<'py>(owner: &Bound<'py, PyAny>, asked: &Asked) -> PyResult<Bound<'py, PyAny>> {
    let py = owner.py();
    let called = match asked {
        Asked::Read(count) => function_calls::call_usual::<Read>(py, &[owner, number(py, *count).as_any()]),
        Asked::Exactly(count) => function_calls::call_usual::<ReadExactly>(py, &[owner, number(py, *count).as_any()]),
        Asked::Until(separator) => function_calls::call_usual::<ReadUntil>(py, &[owner, separator.bind(py).as_any()]),
        Asked::Line => function_calls::call_usual::<ReadLine>(py, &[owner]),
        Asked::Drain => function_calls::call_usual::<Drain>(py, &[owner]),
    };
    called.unwrap_or_else(|| Err(PySystemError::new_err("a function that is not known was called")))
}

fn number(py: Python<'_>, count: usize) -> Bound<'_, PyInt> {
    count.into_pyobject(py).unwrap_or_else(|never| match never {})
}

/// Have the calls of asyncio's own methods come here; once, when the first of its streams is met.
#[inline]
pub fn install(py: Python<'_>, streams: &Streams) {
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    // A load for each packet; the GIL is held, so nobody comes between it and the store.
    if INSTALLED.load(Ordering::Relaxed) {
        return;
    }
    INSTALLED.store(true, Ordering::Relaxed);
    if let Err(raised) = install_all(streams.reader.bind(py), streams.writer.bind(py)) {
        error::unraisable(py, raised, None);
    }
}

#[cold]
fn install_all(reader: &Bound<'_, PyType>, writer: &Bound<'_, PyType>) -> PyResult<()> {
    function_calls::install::<Read>(&reader.try_getattr("read")?);
    function_calls::install::<ReadExactly>(&reader.try_getattr("readexactly")?);
    function_calls::install::<ReadUntil>(&reader.try_getattr("readuntil")?);
    function_calls::install::<ReadLine>(&reader.try_getattr("readline")?);
    function_calls::install::<Drain>(&writer.try_getattr("drain")?);
    Ok(())
}
