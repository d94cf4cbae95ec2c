//! What a program writes over TLS: the methods of `pyloop._tls.SSLTransport` that do for each write what asyncio's
//! `SSLProtocol._write_appdata` does.

use pyo3::Borrowed;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyTuple, PyType};

use super::tls::{Known, RECORDS, Wrapped, give_back};
use crate::accel::methods;
use crate::accel::tls::Session;
use crate::py::buffer::View;
use crate::py::call::Object;
use crate::py::direct::{Args, Direct, keeps_usual};
use crate::py::memory;

/// Write pieces, and send what they have become. None: nothing has been done, asyncio's code is to do it.
fn write<'py>(slf: &Bound<'py, PyAny>, pieces: &[Borrowed<'_, 'py, PyAny>]) -> Option<PyResult<()>> {
    let py = slf.py();
    let known = Known::get(py)?;
    // SAFETY: the Bound holds an instance of the class in which the slot was found at this place, or of a subclass.
    let protocol = unsafe { memory::held(slf, known.in_transport)? }.to_owned();
    let (wrapped, session) = match Wrapped::of(known, &protocol) {
        Ok(found) => found?,
        Err(raised) => return Some(Err(raised)),
    };
    if !wrapped.has_no_backlog() || !pieces.iter().all(|piece| is_plain(piece)) {
        return None;
    }
    let sent = write_all(&wrapped, session.get(), pieces);
    Some(sent.or_else(|raised| wrapped.failed(raised)))
}

/// Whether it is bytes, or what is as long as it has bytes; and not empty.
fn is_plain(piece: &Bound<'_, PyAny>) -> bool {
    if let Ok(bytes) = piece.cast_exact::<PyBytes>() {
        return !bytes.as_bytes().is_empty();
    }
    let known = piece.is_exact_instance_of::<PyByteArray>() || piece.is_exact_instance_of::<PyMemoryView>();
    known && View::new(piece, false).is_ok_and(|view| view.len() > 0 && piece.len().is_ok_and(|len| len == view.len()))
}

fn write_all<'py>(wrapped: &Wrapped<'_, 'py>, session: &Session, pieces: &[Borrowed<'_, 'py, PyAny>]) -> PyResult<()> {
    let py = wrapped.protocol.py();
    let mut records = RECORDS.take(py);
    let sent = match encrypt(py, session, pieces, &mut records) {
        Ok(None) => wrapped.send(session, &records),
        // It has to receive first, or has failed: asyncio's code keeps the rest, tries again, and sees what it is.
        Ok(Some(rest)) => wrapped
            .keep(session, &records)
            .and_then(|()| wrapped.protocol.try_call_method(pyo3::intern!(py, "_write_appdata"), (rest,)).map(drop)),
        Err(raised) => wrapped.keep(session, &records).and(Err(raised)),
    };
    give_back(&RECORDS, py, records);
    sent
}

/// Make records of the pieces, to the end of `records`. What could not be made into some comes back.
///
/// # Errors
/// What giving a buffer raises.
fn encrypt<'py>(
    py: Python<'py>,
    session: &Session,
    pieces: &[Borrowed<'_, 'py, PyAny>],
    records: &mut Vec<u8>,
) -> PyResult<Option<Bound<'py, PyList>>> {
    for (index, piece) in pieces.iter().enumerate() {
        let (done, length) = match piece.cast_exact::<PyBytes>() {
            Ok(bytes) => (session.write(py, bytes.as_bytes(), records), bytes.as_bytes().len()),
            Err(_) => {
                let view = View::new(piece, false)?;
                // Python code may run while a record is made, and change what is in the buffer, which keeps its place.
                (view.with(|bytes| session.write(py, bytes, records)), view.len())
            }
        };
        if done < length {
            let mut rest = vec![View::new(piece, false)?.copy_from(done).into_any()];
            rest.extend(pieces[index + 1..].iter().map(|&piece| piece.to_owned()));
            return PyList::new(py, rest).map(Some);
        }
    }
    Ok(None)
}

/// `transport.write(data)`.
struct Write;

impl Direct for Write {
    type Class = PyAny;
    const NAME: &'static str = "write";
    const SIGNATURE: Option<&'static str> = Some("($self, data)");

    #[inline]
    fn call<'py>(slf: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        if args.count() != 1 || !args.is_plain() {
            return None;
        }
        Some(write(slf, &[args.get(0)])?.map(|()| slf.py().None().into_bound(slf.py())))
    }

    keeps_usual!();
}

/// `transport.writelines(list_of_data)`.
struct Writelines;

impl Direct for Writelines {
    type Class = PyAny;
    const NAME: &'static str = "writelines";
    const SIGNATURE: Option<&'static str> = Some("($self, list_of_data)");

    fn call<'py>(slf: &Bound<'py, PyAny>, args: Args<'_, 'py>) -> Option<PyResult<Bound<'py, PyAny>>> {
        if args.count() != 1 || !args.is_plain() {
            return None;
        }
        let pieces = args.get(0);
        // A list may change while its items are written; a tuple of them does not.
        let pieces = match pieces.cast_exact::<PyList>() {
            Ok(list) => list.to_tuple(),
            Err(_) => pieces.cast_exact::<PyTuple>().ok()?.to_owned(),
        };
        let items: Vec<_> = pieces.iter_borrowed().collect();
        Some(write(slf, &items)?.map(|()| slf.py().None().into_bound(slf.py())))
    }

    keeps_usual!();
}

/// Give `pyloop._tls.SSLTransport` its fast methods; called once, when the class is made.
///
/// # Errors
/// MemoryError.
#[pyfunction]
pub(crate) fn install_tls_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    methods::install::<Write>(class)?;
    methods::install::<Writelines>(class)
}
